"""What evaluations have found: derived from the units' tables, which the server hands over."""

from collections.abc import Sequence

from fedcore.errors import NotFoundError, RefusedError
from fedcore.evaluation_outcomes import (
    Evaluation,
    ModelOutcome,
    derive_difference,
    derive_outcomes,
    seen_by_checks,
    table_epsilon,
)
from fedcore.evaluations import EvaluationPlan, NoisedTables
from fedcore.intervals import CONFIDENCE
from fedcore.permits import Permit
from fedcore.record import Realm
from fedcore.rounds import RoundReport
from fedcore.signing import Envelope, open_envelope
from governance.audits import file_audit
from governance.decisions.evaluations import sizes_of, verify_tables
from governance.decisions.rounds import is_finished
from governance.evaluations import open_evaluation_plan, versions_of
from governance.models import epsilon_claims, load_receipts, opt_out_epochs
from governance.office import Desk, required
from governance.permits import find_permit
from governance.plans import open_plan
from governance.rounds import load_reports
from registry import evaluations
from registry.accounts import Account
from registry.models import StoredModel

UNKNOWN = ("evaluation.unknown", "this run has no evaluation")


def submit_tables(
    desk: Desk, run_id: str, envelopes: Sequence[Envelope], operator: Account
) -> Envelope:
    """Return the signed evaluation of a run; the same tables again return the same evaluation.

    Guarantees: the caller's key is the one of the permit, which is to evaluate and not revoked; the
        tables are those that the receipts of the accepted report name, of each of its units, and
        nothing is derived from any other; they are kept and logged with what was derived. An
        evaluation that was derived before a revocation is still returned.
    Raises: NotFoundError `permit.unknown`; SignatureError; RefusedError `permit.other_server`,
        `permit.other_kind`, `permit.revoked`, `evaluation.run_incomplete`; MismatchError as
        `verify_tables`.
    """
    stored = find_permit(desk, run_id)
    permit = desk.open_own(Permit, stored.permit)
    reports = load_reports(desk, permit)
    _verify_may_evaluate(permit, reports, operator)
    plan, _ = open_evaluation_plan(desk, permit.plan)
    opened = [
        open_envelope(envelope, NoisedTables, permit.server_key, desk.realm)
        for envelope in envelopes
    ]
    verify_tables(opened, reports[-1], sizes_of(plan))
    known = evaluations.find_document(desk.session, run_id)
    if known is not None:
        return desk.fetch(Evaluation, known)
    if stored.revocation is not None:
        reason = "The permit of this run is revoked: nothing is derived from its tables."
        raise RefusedError([("permit.revoked", reason)])
    for tables, envelope in zip(opened, envelopes, strict=True):
        desk.file(tables, envelope, unit=tables.unit, run_id=run_id)
    evaluation = _evaluation_of(desk, permit, plan, reports, opened)
    signed = desk.issue(evaluation, run_id=run_id)
    evaluations.append(desk.session, evaluation)
    if plan.groups is not None:
        in_order = sorted(opened, key=lambda each: each.unit)
        file_audit(desk, plan, evaluation, in_order)
    return signed


def find_evaluation(desk: Desk, run_id: str) -> Envelope:
    """Return the signed evaluation of a run. Raises: NotFoundError `evaluation.unknown`."""
    document = evaluations.find_document(desk.session, run_id)
    if document is None:
        raise NotFoundError(*UNKNOWN)
    return desk.fetch(Evaluation, document)


def list_outcomes(desk: Desk, model: StoredModel) -> tuple[tuple[Evaluation, ModelOutcome], ...]:
    """Return every evaluation of a version with what it has found of it, newest first. The same
    bytes may be another version's too, of which nothing is told.
    """
    documents = evaluations.list_of_artifact(desk.session, model.artifact)
    opened = desk.open_each(dict.fromkeys(documents, Evaluation))
    found = [required(opened, Evaluation, document) for document in documents]
    return tuple(
        (evaluation, outcome)
        for evaluation in found
        for outcome in evaluation.models
        if (outcome.name, outcome.version) == (model.name, model.version)
    )


def find_newest_of(desk: Desk, model: StoredModel) -> tuple[Evaluation, ModelOutcome] | None:
    """Return the newest evaluation of a version with what it has found of it: each is charged, and
    approvals are of the one that was seen.
    """
    return next(iter(list_outcomes(desk, model)), None)


def _verify_may_evaluate(permit: Permit, reports: Sequence[RoundReport], operator: Account) -> None:
    if permit.server_key != operator.public_key:
        raise RefusedError([("permit.other_server", "the permit names another server's key")])
    if permit.kind != "evaluate":
        reason = f"The run is one to {permit.kind}: it has no tables to evaluate."
        raise RefusedError([("permit.other_kind", reason)])
    if not is_finished(reports, permit):
        reason = "No round of the run was accepted: report it first."
        raise RefusedError([("evaluation.run_incomplete", reason)])


def _evaluation_of(
    desk: Desk,
    permit: Permit,
    plan: EvaluationPlan,
    reports: tuple[RoundReport, ...],
    tables: Sequence[NoisedTables],
) -> Evaluation:
    receipts = load_receipts(desk, permit)
    in_order = sorted(tables, key=lambda each: each.unit)
    outcomes = tuple(
        outcome.model_copy(
            update={"seen_by_checks": seen_by_checks(plan, open_plan(desk, outcome.plan)[0])}
        )
        for outcome in derive_outcomes(plan, in_order, versions_of(desk, plan))
    )
    return Evaluation(
        run_id=permit.run_id,
        realm=desk.realm,
        simulation=desk.realm == Realm.SIMULATION,
        task=permit.task,
        purpose=permit.purpose,
        plan=permit.plan,
        permit=permit.digest,
        contract=permit.contract,
        dpia=permit.dpia,
        round_report=reports[-1].digest,
        receipts=tuple(answer.receipt for answer in reports[-1].answered),
        tables=tuple(each.digest for each in in_order),
        rows=plan.rows,
        units=len(in_order),
        table_epsilon=float(table_epsilon(plan)),
        level=CONFIDENCE,
        models=outcomes,
        difference=derive_difference(plan, outcomes),
        opt_out_epochs=opt_out_epochs(reports, receipts),
        epsilon=epsilon_claims(permit, receipts),
        delta=permit.delta,
        evaluated_at=desk.now,
    )
