"""Decisions on model versions that were trained before customers objected, and what they bring."""

from collections.abc import Mapping, Sequence

from fedcore.enforcement import Decided
from fedcore.errors import NotFoundError, RefusedError
from fedcore.model_decisions import DecisionRequest, DecisionView, ModelDecision
from fedcore.models import ModelVersion
from fedcore.permits import Permit
from fedcore.signing import Envelope
from governance.decisions.model_decisions import DecisionFacts, decide_decision, is_overdue
from governance.evaluations import uses_model
from governance.models import UNKNOWN, find_model
from governance.office import Desk
from governance.permits import revoke
from governance.plans import open_plan
from governance.roles import OVERSEER_ROLES
from registry import (
    accounts,
    documents,
    enforcement,
    model_decisions,
    models,
    overviews,
    permits,
)
from registry.accounts import Account
from registry.model_decisions import StoredDecision, Version
from registry.models import StoredModel

NOTHING_DECIDED = "none"


def decide(
    desk: Desk, name: str, version: int, request: DecisionRequest, account: Account
) -> Envelope:
    """Decide what becomes of a model version, and return the signed decision.

    Guarantees: in one transaction with a withdrawal, every open permit whose plan starts from the
        model, rests on it, or evaluates it or what rests on it, is revoked, and from then on the
        gate gives none for it, and the model is handed out to nobody but those who oversee.
        Decisions before stay.
    Raises: NotFoundError `model.unknown`, `opt_out.unknown`; RefusedError as `decide_decision`.
    """
    stored = find_model(desk, name, version)
    _verify_known(desk, request)
    facts = _facts(desk, stored, request.unit, account)
    if refusals := decide_decision(request, facts, desk.now):
        raise RefusedError(refusals)
    newest = model_decisions.find_newest(desk.session, name, version)
    decision = ModelDecision(
        name=name,
        version=version,
        model=stored.document,
        number=1 if newest is None else newest.number + 1,
        previous=None if newest is None else newest.document,
        unit=request.unit,
        up_to=request.up_to,
        outcome=request.outcome,
        due_at=request.due_at,
        reason=request.reason,
        decided_by=account.name,
        decided_at=desk.now,
    )
    envelope = desk.issue(decision, unit=request.unit, run_id=stored.run_id)
    model_decisions.append(desk.session, decision)
    if request.outcome == "withdrawn":
        _revoke_runs_from(desk, stored)
    return envelope


def newest_decision(desk: Desk, name: str, version: int) -> str:
    """Return the digest of the newest decision on a version, or `NOTHING_DECIDED`.

    Raises: NotFoundError `model.unknown`.
    """
    newest = model_decisions.find_newest(desk.session, name, version)
    if newest is not None:
        return newest.document
    find_model(desk, name, version)
    return NOTHING_DECIDED


def view_decisions(desk: Desk, stored: Sequence[StoredDecision]) -> tuple[DecisionView, ...]:
    """Return stored decisions with their documents."""
    found = documents.find_named(desk.session, ModelDecision, [each.document for each in stored])
    return tuple(
        DecisionView(document=each.document, envelope=found[each.document], in_force=each.in_force)
        for each in stored
    )


def view_in_force(desk: Desk, unit: str) -> Mapping[Version, Decided]:
    """Return what is decided for a unit, by model version."""
    stored = model_decisions.list_in_force(desk.session, unit)
    digests = [each.document for each in stored.values()]
    found = documents.find_named(desk.session, ModelDecision, digests)
    opened = {
        version: desk.open_signed_here(found[each.document], ModelDecision)
        for version, each in stored.items()
    }
    return {version: _decided(desk, decision) for version, decision in opened.items()}


def verify_handed_out(desk: Desk, name: str, version: int, account: Account) -> None:
    """Refuse the bytes of a withdrawn model to all but those who oversee.

    Raises: RefusedError `model.withdrawn`.
    """
    if account.role in OVERSEER_ROLES:
        return
    if model_decisions.is_withdrawn(desk.session, name, version):
        sentence = "This model version is withdrawn: take another one."
        raise RefusedError([("model.withdrawn", sentence)])


def hand_out_artifact(desk: Desk, artifact: str, account: Account) -> bytes:
    """Return the bytes of a registered model: to whoever evaluates it, and to all in the house.

    Raises: NotFoundError `model.unknown`; RefusedError `model.withdrawn`.
    """
    found = models.list_of_artifacts(desk.session, [artifact])
    if not found:
        raise NotFoundError(*UNKNOWN)
    for stored in found:
        verify_handed_out(desk, stored.name, stored.version, account)
    return models.load_artifact(desk.session, artifact)


def _decided(desk: Desk, decision: ModelDecision) -> Decided:
    return Decided(
        outcome=decision.outcome,
        up_to=decision.up_to,
        due_at=decision.due_at,
        overdue=is_overdue(decision.outcome, decision.due_at, desk.now),
        reason=decision.reason,
        decided_at=decision.decided_at,
        document=decision.digest,
    )


def _verify_known(desk: Desk, request: DecisionRequest) -> None:
    known = overviews.count_opt_outs(desk.session, request.unit).get(request.unit)
    if known is None or known.last_sequence < request.up_to:
        raise NotFoundError("opt_out.unknown", "this unit has no opt-out with this number")


def _facts(desk: Desk, stored: StoredModel, unit: str, account: Account) -> DecisionFacts:
    model = desk.open_own(ModelVersion, stored.document)
    _, author_key = open_plan(desk, model.plan)
    author = accounts.find_by_public_key(desk.session, author_key)
    in_force = model_decisions.find_in_force(desk.session, stored.name, stored.version, unit)
    return DecisionFacts(
        person=account.name,
        plan_author=None if author is None else author.name,
        has_trained=enforcement.has_trained(desk.session, unit, stored.run_id),
        in_force=None if in_force is None else desk.open_own(ModelDecision, in_force.document),
    )


def _revoke_runs_from(desk: Desk, stored: StoredModel) -> None:
    for each in permits.list_open(desk.session):
        if uses_model(desk, desk.open_own(Permit, each.permit), stored.artifact):
            revoke(desk, each.run_id, f"uses {stored.name} {stored.version}: withdrawn")
