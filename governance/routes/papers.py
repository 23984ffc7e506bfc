"""Routes of papers: contracts, DPIAs and plans."""

from fastapi import APIRouter, Response
from starlette.status import HTTP_201_CREATED

from fedcore.contracts import Contract
from fedcore.dpia_record import DpiaView
from fedcore.errors import NotFoundError
from fedcore.plans import TrainingPlan
from fedcore.record import Digest
from fedcore.signing import Envelope
from governance import dpias, plans
from governance.bodies import ActRequest, DraftRequest, StateView, Stored
from governance.office import Desk, unknown
from governance.routes.callers import (
    OWN_UNIT,
    PUBLIC,
    Actor,
    Anyone,
    Author,
    Compliance,
    Desks,
    verify_concerns,
)
from governance.routes.once import Once
from governance.routes.preconditions import IfMatch, etag_of_dpia, verify_match

router = APIRouter(prefix="/v1")


@router.post("/contracts", summary="Publish a data contract")
def publish_contract(body: Contract, office: Desks, caller: Compliance, once: Once) -> Envelope:
    """Return the contract, signed; DPIAs in force on an older version are suspended."""

    def publish(desk: Desk) -> Envelope:
        dpias.suspend_changed(desk, body, caller)
        return plans.publish_contract(desk, body)

    with office.writing() as desk:
        return once.answer(desk, caller, Envelope, lambda: publish(desk))


@router.get("/contracts/{digest}", summary="Read a data contract", openapi_extra=PUBLIC)
def fetch_contract(digest: Digest, office: Desks) -> Envelope:
    """Return a published contract, which holds public constants only."""
    with office.reading() as desk:
        return desk.fetch(Contract, digest)


@router.post("/dpias", summary="Draft a DPIA", status_code=HTTP_201_CREATED)
def create_dpia(body: DraftRequest, office: Desks, caller: Author, once: Once) -> Stored:
    """Store a draft, which need not be complete yet."""
    with office.writing() as desk:
        return once.answer(
            desk, caller, Stored, lambda: Stored(digest=dpias.create_dpia(desk, body.root, caller))
        )


@router.post("/dpias/{digest}/acts", summary="Act on a DPIA")
def act_on_dpia(
    digest: Digest,
    body: ActRequest,
    office: Desks,
    caller: Actor,
    once: Once,
    if_match: IfMatch = None,
) -> StateView:
    """Do one act on the state that the caller has seen, and return the state that follows."""

    def act(desk: Desk) -> StateView:
        verify_match(if_match, etag_of_dpia(dpias.find_dpia(desk, digest)))
        return StateView(state=dpias.act_on_dpia(desk, digest, body, caller))

    with office.writing() as desk:
        return once.answer(desk, caller, StateView, lambda: act(desk))


@router.get("/dpias/{digest}", summary="Read a DPIA", openapi_extra=OWN_UNIT)
def fetch_dpia(digest: Digest, response: Response, office: Desks, caller: Anyone) -> DpiaView:
    """Return a DPIA version, its state and its acts; its ETag is what acts must name."""
    with office.reading() as desk:
        stored = dpias.find_dpia(desk, digest)
        verify_concerns(caller, stored.record.bindings.units, NotFoundError(*dpias.UNKNOWN))
        response.headers["ETag"] = etag_of_dpia(stored)
        return dpias.view_dpia(desk, stored)


@router.post("/plans", summary="Register a training plan", status_code=HTTP_201_CREATED)
def register_plan(body: Envelope, office: Desks, caller: Author, once: Once) -> Stored:
    """Store a plan that the caller signed with the key of their account."""
    with office.writing() as desk:
        return once.answer(
            desk, caller, Stored, lambda: Stored(digest=plans.register_plan(desk, body, caller))
        )


@router.get("/plans/{digest}", summary="Read a training plan", openapi_extra=OWN_UNIT)
def fetch_plan(digest: Digest, office: Desks, caller: Anyone) -> Envelope:
    """Return a plan as its author signed it."""
    with office.reading() as desk:
        plan, _ = plans.open_plan(desk, digest)
        verify_concerns(caller, (terms.unit for terms in plan.units), unknown(TrainingPlan))
        return desk.fetch(TrainingPlan, digest)
