"""Checks of a bundle: were the evaluations allowed, and are they of this very model's answers?"""

from fedcore.errors import MismatchError
from fedcore.evaluation_outcomes import ModelOutcome, seen_by_checks, table_epsilon
from fedcore.models import ModelVersion
from fedcore.record import Realm
from fedcore.segments.artefact import decode_model
from fedcore.trust import verify_segments_counted
from fedcore.verify_documents import Documents
from fedcore.verify_permits import verify_dpia_in_force, verify_renewals, verify_within
from fedcore.verify_rounds import (
    verify_answers_receipted,
    verify_chained,
    verify_cohort,
    verify_ledgers,
    verify_opt_outs,
    verify_receipts_fit,
)
from fedcore.verify_runs import EvaluationDocuments
from fedcore.verify_times import (
    verify_before_checkpoint,
    verify_dpia_in_time,
    verify_permit_in_time,
    verify_run_times,
)


def verify_evaluations_signed(documents: Documents) -> None:
    """Open every paper of every evaluation. Raises: FedError, naming the member."""
    for run in _evaluations(documents):
        for _ in (
            run.evaluation,
            run.dpia,
            run.dpia_decision,
            run.plan,
            run.renewals,
            run.revocation,
            run.reports,
            run.receipts,
        ):
            pass


def verify_evaluations_fit(documents: Documents) -> None:
    """Hold each evaluation, its plan, permit and DPIA against each other and against the model.

    Raises: MismatchError `evaluation.differs`, `evaluation.other_model`, `permit.terms_differ`,
        `evaluation.not_held_out`, `evaluation.repeated`, `evaluation.no_scores`,
        `evaluation.no_segments`, `evaluation.other_segments`, `dpia.exceeded`; InvalidRecordError
        for an artifact that holds no segments.
    """
    runs = documents.evaluations
    if len({run.permit.run_id for run in (documents, *runs)}) != len(runs) + 1:
        raise MismatchError("evaluation.repeated", "an evaluation is of the run of another one")
    for run in runs:
        _verify_says(run)
        outcome = outcome_of(run, documents.model_version)
        if outcome.seen_by_checks != seen_by_checks(run.plan, documents.plan):
            raise MismatchError(
                "evaluation.differs",
                f"{run.folder}evaluation.json does not say whether checks have seen its customers",
            )
        _verify_permitted(run, documents)
        verify_within(run, documents.plan, {})


def verify_evaluations_in_force(documents: Documents) -> None:
    """Hold each evaluation against the time of its permit and DPIA, and its documents against each
    other's.

    Raises: as the checks of the training run by the same names.
    """
    for run in _evaluations(documents):
        verify_dpia_in_force(run)
        verify_renewals(run)
        verify_permit_in_time(run)
        verify_dpia_in_time(run)
        verify_run_times(run)
        verify_before_checkpoint(run, documents)


def verify_evaluations_receipted(documents: Documents) -> None:
    """Hold each evaluation against the receipts of every unit that answered, and these against
    reports, permit and plan.

    Guarantees: the tables are those that the receipts of the accepted report name, so nothing was
        derived from others; no report changes or releases a model.
    Raises: MismatchError `evaluation.receipts_differ`, `report.model_changed`, and as the checks of
        the training run by the same names.
    """
    for run in _evaluations(documents):
        verify_chained(run)
        verify_cohort(run)
        verify_answers_receipted(run)
        verify_receipts_fit(run)
        verify_opt_outs(run)
        verify_ledgers(run)
        if any(r.model_out != r.model_in or r.released is not None for r in run.reports):
            raise MismatchError("report.model_changed", "a report of an evaluation changes a model")
        _verify_answers(run)


def _evaluations(documents: Documents) -> tuple[EvaluationDocuments, ...]:
    """Return the evaluations, if it may be believed which model they are of."""
    documents.model_version  # noqa: B018 - raises
    return documents.evaluations


def outcome_of(run: EvaluationDocuments, model: ModelVersion) -> ModelOutcome:
    """Return what an evaluation says of a model version.

    Raises: MismatchError `evaluation.other_model`.
    """
    plan = run.plan
    named = [(each.artifact, each.plan) for each in run.evaluation.models]
    if named != [(each.artifact, each.plan) for each in plan.models]:
        raise MismatchError(
            "evaluation.other_model", f"{run.folder}evaluation.json is of other models than asked"
        )
    for outcome in run.evaluation.models:
        own = (outcome.artifact, outcome.plan, outcome.name, outcome.version)
        if own == (model.artifact, model.plan, model.name, model.version):
            return outcome
    raise MismatchError(
        "evaluation.other_model", f"{run.folder}evaluation.json is of another model version"
    )


def _verify_says(run: EvaluationDocuments) -> None:
    """Hold what an evaluation says of itself against its permit, plan and DPIA."""
    found, permit, plan = run.evaluation, run.permit, run.plan
    same = {
        "run": found.run_id == permit.run_id,
        "permit": found.permit == permit.digest,
        "plan": found.plan == permit.plan == plan.digest,
        "contract": found.contract == permit.contract,
        "DPIA": found.dpia == permit.dpia == run.dpia.digest,
        "decision": permit.dpia_decision == run.dpia_decision.digest,
        "task and purpose": (found.task, found.purpose) == (permit.task, permit.purpose),
        "rows": found.rows == plan.rows,
        "noise": found.table_epsilon == float(table_epsilon(plan)),
        "delta": found.delta == permit.delta == plan.delta,
        "realm": found.simulation == (run.realm == Realm.SIMULATION),
    }
    _require(same, run, "evaluation.differs", "is not what its papers say")


def _verify_permitted(run: EvaluationDocuments, documents: Documents) -> None:
    """Hold the permit of an evaluation against its plan and the model's training plan."""
    permit, plan, training = run.permit, run.plan, documents.plan
    units = {terms.unit for terms in training.units}
    terms = {
        "kind": permit.kind == "evaluate",
        "rounds": permit.rounds == 1,
        "attempts": permit.exchanges == permit.attempts == plan.exchanges,
        "minimum of units": permit.minimum_cohort >= plan.minimum_units,
        "contract": permit.contract == training.contract == documents.contract.digest,
        "task and purpose": (permit.task, permit.purpose) == (training.task, training.purpose),
        "units": {grant.unit for grant in permit.cohort} <= units,
    }
    _require(terms, run, "permit.terms_differ", "was not permitted so")
    _verify_counted(run, documents)
    aside = training.holdout if plan.rows == "holdout" else training.train_until
    if plan.rows != "all" and aside is None:
        raise MismatchError(
            "evaluation.not_held_out", "the model was trained on the rows that evaluate it"
        )


def _verify_counted(run: EvaluationDocuments, documents: Documents) -> None:
    """Hold what a plan counts against the model: scores, or the very segments that it has."""
    counted, model = run.plan.segments, documents.plan.model
    if counted is None:
        if not model.is_scoring:
            raise MismatchError("evaluation.no_scores", "the model scores nobody")
        return
    if model.course is None:
        raise MismatchError("evaluation.no_segments", "the model has no segments")
    verify_segments_counted(decode_model(documents.evidence.artifact).ids, counted.segments)


def _verify_answers(run: EvaluationDocuments) -> None:
    """Hold what an evaluation was derived from against the accepted report, the last one."""
    found, last = run.evaluation, run.reports[-1]
    by_unit = sorted(last.answered, key=lambda answer: answer.unit)
    same = {
        "report": found.round_report == last.digest,
        "receipts": sorted(found.receipts) == sorted(answer.receipt for answer in by_unit),
        "tables": found.tables == tuple(answer.update for answer in by_unit),
        "units": found.units == len(by_unit),
    }
    _require(same, run, "evaluation.receipts_differ", "does not follow from what the units sent")


def _require(holds: dict[str, bool], run: EvaluationDocuments, code: str, text: str) -> None:
    broken = [name for name, each in holds.items() if not each]
    if broken:
        raise MismatchError(code, f"{run.folder}evaluation.json {text}: {', '.join(broken)}")
