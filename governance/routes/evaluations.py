"""Routes of evaluations: their plans, the units' tables, and what was derived from them."""

from fastapi import APIRouter
from starlette.status import HTTP_201_CREATED

from fedcore.errors import NotFoundError
from fedcore.evaluation_lists import EvaluationList, EvaluationSummary
from fedcore.evaluations import EvaluationPlan
from fedcore.record import Digest, Name
from fedcore.signing import Envelope
from governance import evaluation_results, evaluations
from governance.bodies import Stored, TablesRequest
from governance.office import unknown
from governance.plans import open_plan
from governance.routes.callers import OWN_UNIT, Anyone, Author, Desks, Operator, verify_concerns
from governance.routes.once import Once
from governance.routes.paging import Paged
from registry import evaluations as stored_evaluations
from registry import permits as stored_permits

router = APIRouter(prefix="/v1")


@router.post(
    "/evaluation-plans", summary="Register an evaluation plan", status_code=HTTP_201_CREATED
)
def register_evaluation_plan(body: Envelope, office: Desks, caller: Author, once: Once) -> Stored:
    """Store an evaluation plan that the caller signed with the key of their account."""
    with office.writing() as desk:
        return once.answer(
            desk,
            caller,
            Stored,
            lambda: Stored(digest=evaluations.register_evaluation_plan(desk, body, caller)),
        )


@router.get("/evaluation-plans/{digest}", summary="Read an evaluation plan", openapi_extra=OWN_UNIT)
def fetch_evaluation_plan(digest: Digest, office: Desks, caller: Anyone) -> Envelope:
    """Return an evaluation plan as its author signed it."""
    with office.reading() as desk:
        plan, _ = evaluations.open_evaluation_plan(desk, digest)
        trained, _ = open_plan(desk, plan.models[0].plan)
        verify_concerns(caller, (terms.unit for terms in trained.units), unknown(EvaluationPlan))
        return desk.fetch(EvaluationPlan, digest)


@router.post(
    "/runs/{run_id}/tables",
    summary="Hand over the tables of an evaluation",
    status_code=HTTP_201_CREATED,
)
def submit_tables(
    run_id: Name, body: TablesRequest, office: Desks, caller: Operator, once: Once
) -> Envelope:
    """Return the signed evaluation that is derived from the tables of all accepted answers."""
    with office.writing() as desk:
        return once.answer(
            desk,
            caller,
            Envelope,
            lambda: evaluation_results.submit_tables(desk, run_id, body.tables, caller),
        )


@router.get("/evaluations", summary="List the evaluations", openapi_extra=OWN_UNIT)
def list_evaluations(page: Paged, office: Desks, caller: Anyone) -> EvaluationList:
    """Return all evaluations in the order in which they were derived."""
    with office.reading() as desk:
        found = stored_evaluations.list_after(
            desk.session, page.after(0), page.limit + 1, of_unit=caller.unit
        )
    return EvaluationList(
        evaluations=tuple(
            EvaluationSummary(
                run_id=item.run_id,
                artifacts=item.artifacts,
                document=item.document,
                evaluated_at=item.evaluated_at,
            )
            for _, item in page.cut(found, lambda pair: pair[0])
        )
    )


@router.get("/evaluations/{run_id}", summary="Read an evaluation", openapi_extra=OWN_UNIT)
def fetch_evaluation(run_id: Name, office: Desks, caller: Anyone) -> Envelope:
    """Return what is claimed of the models that a run has evaluated, signed."""
    with office.reading() as desk:
        found = evaluation_results.find_evaluation(desk, run_id)
        cohort = stored_permits.list_units(desk.session, run_id)
        verify_concerns(caller, cohort, NotFoundError(*evaluation_results.UNKNOWN))
        return found
