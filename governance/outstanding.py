"""Runs that may still audit a version: whoever could let one lie and ask again would be asking
until the answer suits, as a server sees the units' tables before it hands them over.
"""

from dataclasses import replace

from fedcore.evaluations import EvaluationPlan
from fedcore.permits import Permit
from fedcore.rounds import RoundReport
from fedcore.signing import open_envelope, open_known
from fedcore.trust_reports import ends_run
from governance.decisions.facts import GateFacts, OutstandingAudit
from governance.office import Desk, required
from registry import documents, permits


def with_outstanding(desk: Desk, facts: GateFacts) -> GateFacts:
    """Return the facts of a request with the runs that were permitted to audit the same version
    and have handed no tables over; those of what counts no groups as they are.
    """
    evaluation = facts.evaluation
    if evaluation is None or evaluation.plan.groups is None:
        return facts
    found = _outstanding(desk, evaluation.plan.models[0].artifact)
    return replace(facts, evaluation=replace(evaluation, outstanding=found))


def _outstanding(desk: Desk, artifact: str) -> tuple[OutstandingAudit, ...]:
    stored = permits.list_unfinished(desk.session)
    opened = desk.open_each(dict.fromkeys((each.permit for each in stored), Permit))
    found = {each.run_id: required(opened, Permit, each.permit) for each in stored}
    plans = _audit_plans(desk, [permit.plan for permit in found.values()], artifact)
    told = []
    for each in stored:
        permit = found[each.run_id]
        if permit.plan not in plans:
            continue
        answered = _was_answered(desk, permit)
        if answered or each.revocation is None:
            told.append(OutstandingAudit(each.run_id, answered, each.revocation is not None))
    return tuple(told)


def _was_answered(desk: Desk, permit: Permit) -> bool:
    """Return whether enough units have answered, by the last report of the run."""
    reports = documents.of_run(desk.session, RoundReport, permit.run_id)
    if not reports:
        return False
    last = open_envelope(reports[-1], RoundReport, permit.server_key, desk.realm)
    return ends_run(last, permit)


def _audit_plans(desk: Desk, digests: list[str], artifact: str) -> set[str]:
    """Return those that are plans to evaluate which count groups of a model, by its bytes."""
    envelopes = documents.find_named(desk.session, EvaluationPlan, digests)
    plans = (
        open_known(each, EvaluationPlan, each.signer, desk.realm) for each in envelopes.values()
    )
    return {
        plan.digest
        for plan in plans
        if plan.groups is not None and plan.models[0].artifact == artifact
    }
