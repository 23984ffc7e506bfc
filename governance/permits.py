"""Permits: facts in, decision out, both kept; and their revocation."""

from dataclasses import dataclass

from fedcore import canonical
from fedcore.bulletins import epoch_of
from fedcore.contracts import Contract
from fedcore.dpia_record import AnyDpia
from fedcore.dpias import DpiaState
from fedcore.errors import ConflictError, ForbiddenError, NotFoundError, RefusedError
from fedcore.permits import (
    NodeGrant,
    Permit,
    PermitKind,
    PermitRenewal,
    Revocation,
    UnitCertificate,
)
from fedcore.plans import TrainingPlan
from fedcore.record import Record
from fedcore.signing import Envelope
from fedcore.stops import Stop
from fedcore.trust import MAX_CLOCK_SKEW
from governance.bases import load_continued
from governance.decisions.dpia_standing import standing_of, state_at
from governance.decisions.facts import GateFacts, choose_dpia, run_epsilon
from governance.decisions.gate import RULE_VERSION, decide_permit
from governance.decisions.gate_rule import Refusal
from governance.decisions.renewals import RenewalFacts, decide_expiry
from governance.evaluations import OpenedPlan, models_behind, open_asked_for
from governance.office import Desk, required
from governance.outstanding import with_outstanding
from registry import accounts, documents, dpias, model_decisions, permits, stops, units
from registry.accounts import Account
from registry.dpias import StoredDpia
from registry.permits import GateDecision, StoredPermit

UNKNOWN = ("permit.unknown", "this run has no permit")


@dataclass(frozen=True)
class Wanted:
    """What a permit is asked for: a registered plan, and what is to be done with it."""

    plan: str
    kind: PermitKind


@dataclass(frozen=True)
class Keys:
    """The public keys that a permit names besides those of its units."""

    author: str
    server: str


def request_permit(
    desk: Desk, wanted: Wanted, run_id: str, operator: Account
) -> Envelope | RefusedError:
    """Return the permit of a run, or the refusal, which is kept like a yes and so not raised here.

    The same run, plan and kind again return the same permit.
    Raises: ConflictError `permit.run_known`; ForbiddenError `account.key_missing`; NotFoundError
        `plan.unknown`.
    """
    asked = open_asked_for(desk, wanted.plan)
    known = permits.find(desk.session, run_id)
    if known is not None:
        return _known_permit(desk, known, wanted)
    if operator.public_key is None:
        raise ForbiddenError("account.key_missing", "this account has no key to sign orders with")
    stored = _chosen_dpia(desk, asked.plan)
    dpia = None if stored is None else (stored.record, state_at(standing_of(stored), desk.now))
    facts = with_outstanding(desk, load_facts(desk, asked, dpia, wanted.kind))
    refusals = decide_permit(facts)
    keep_decision(desk, run_id, facts, refusals)
    if refusals or stored is None:
        return RefusedError(refusals)
    permit = _permit_of(desk, facts, stored, run_id, Keys(asked.author_key, operator.public_key))
    envelope = desk.issue(permit, run_id=run_id)
    permits.append(desk.session, permit)
    return envelope


def load_facts(
    desk: Desk, asked: OpenedPlan, dpia: tuple[AnyDpia, DpiaState] | None, kind: PermitKind
) -> GateFacts:
    """Return what the gate looks at, as it is now, with a DPIA and the state that counts now."""
    plan = asked.plan
    author = accounts.find_by_public_key(desk.session, asked.author_key)
    enrolled = units.list_named(desk.session, tuple(terms.unit for terms in plan.units))
    stopped = stops.list_in_force(desk.session)
    wanted: dict[str, type[Record]] = {plan.contract: Contract}
    wanted |= {unit.certificate: UnitCertificate for unit in enrolled}
    opened = desk.open_each({**wanted, **dict.fromkeys(stopped, Stop)})
    contract = opened.get(plan.contract)
    return GateFacts(
        plan=plan,
        author_known=author is not None and author.role == "author" and not author.revoked,
        contract=contract if isinstance(contract, Contract) else None,
        dpia=dpia[0] if dpia else None,
        dpia_state=dpia[1] if dpia else None,
        certificates={
            unit.unit: required(opened, UnitCertificate, unit.certificate) for unit in enrolled
        },
        now=desk.now,
        revoked_units=frozenset(unit.unit for unit in enrolled if unit.revocation is not None),
        kind=kind,
        stops=tuple(required(opened, Stop, digest) for digest in stopped),
        initial_model_withdrawn=any(
            model_decisions.is_artifact_withdrawn(desk.session, artifact)
            for artifact in models_behind(*asked.trained)
        ),
        evaluation=asked.evaluation,
        continued=load_continued(desk, plan),
    )


def keep_decision(
    desk: Desk, run_id: str, facts: GateFacts | RenewalFacts, refusals: tuple[Refusal, ...]
) -> None:
    """Keep what was decided, from which facts and by which rules, so that it can be replayed."""
    gate = facts.gate if isinstance(facts, RenewalFacts) else facts
    document = canonical.encode(facts.document)
    decision = GateDecision(
        run_id=run_id,
        plan=gate.charged.digest,
        facts=canonical.digest(document),
        codes=tuple(code for code, _ in refusals),
        decided_at=desk.now,
        document=document.decode(),
        rules=RULE_VERSION,
    )
    permits.append_decision(desk.session, decision)


def load_renewals(desk: Desk, run_id: str) -> tuple[PermitRenewal, ...]:
    """Return the renewals of a run's permit, oldest first."""
    envelopes = documents.of_run(desk.session, PermitRenewal, run_id)
    return tuple(desk.open_own(PermitRenewal, envelope.digest) for envelope in envelopes)


def find_permit(desk: Desk, run_id: str) -> StoredPermit:
    """Return the digests of a run's permit. Raises: NotFoundError `permit.unknown`."""
    stored = permits.find(desk.session, run_id)
    if stored is None:
        raise NotFoundError(*UNKNOWN)
    return stored


def revoke(desk: Desk, run_id: str, reason: str) -> Envelope:
    """Revoke the permit of a run and return the revocation; a second time changes nothing.

    Raises: NotFoundError `permit.unknown`.
    """
    stored = find_permit(desk, run_id)
    if stored.revocation is not None:
        return desk.fetch(Revocation, stored.revocation)
    revocation = Revocation(run_id=run_id, permit=stored.permit, reason=reason, revoked_at=desk.now)
    envelope = desk.issue(revocation, run_id=run_id)
    permits.set_revocation(desk.session, run_id, revocation.digest)
    return envelope


def _chosen_dpia(desk: Desk, plan: TrainingPlan) -> StoredDpia | None:
    kept = {stored.record.digest: stored for stored in dpias.list_all(desk.session)}
    candidates = [
        (stored.record, state_at(standing_of(stored), desk.now)) for stored in kept.values()
    ]
    chosen = choose_dpia(plan, candidates)
    return None if chosen is None else kept[chosen[0].digest]


def _known_permit(desk: Desk, known: StoredPermit, wanted: Wanted) -> Envelope:
    permit = desk.open_own(Permit, known.permit)
    if (permit.plan, permit.kind) != (wanted.plan, wanted.kind):
        raise ConflictError(
            "permit.run_known",
            "this run has a permit for another plan or kind: take a fresh run id",
        )
    return desk.fetch(Permit, known.permit)


def _permit_of(desk: Desk, facts: GateFacts, stored: StoredDpia, run_id: str, keys: Keys) -> Permit:
    plan, charged, dpia = facts.plan, facts.charged, stored.record
    if stored.decision is None:
        raise NotFoundError("dpia.unknown", "the DPIA of this permit has no signed decision")
    return Permit(
        run_id=run_id,
        kind=facts.kind,
        realm=desk.realm,
        plan=charged.digest,
        contract=plan.contract,
        dpia=dpia.digest,
        dpia_decision=stored.decision,
        task=plan.task,
        purpose=plan.purpose,
        cohort=_grants(facts),
        minimum_cohort=max(charged.minimum_units, dpia.bindings.minimum_units),
        author_key=keys.author,
        server_key=keys.server,
        rounds=charged.rounds,
        exchanges=charged.exchanges,
        attempts=charged.attempts,
        delta=charged.delta,
        min_opt_out_epoch=epoch_of(desk.now),
        accepted_versions=desk.settings.accepted_versions,
        issued_at=desk.now,
        # A node whose clock is a little behind must not find the permit early.
        not_before=desk.now - MAX_CLOCK_SKEW,
        expires_at=decide_expiry(
            desk.now, desk.settings.permit_valid_s, standing_of(stored).force_ends_at
        ),
        ledger_caps=dpia.bindings.ledger_caps,
        update_retention_days=dpia.bindings.update_retention_days,
    )


def _grants(facts: GateFacts) -> tuple[NodeGrant, ...]:
    epsilon = run_epsilon(facts.charged)
    return tuple(
        NodeGrant(
            unit=terms.unit, node_key=facts.certificates[terms.unit].node_key, epsilon=epsilon
        )
        for terms in facts.plan.units
    )
