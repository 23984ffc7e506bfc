"""Renewals of permits: the gate decides anew, and what it decided is kept, yes and no alike."""

from fedcore.errors import NotFoundError, RefusedError
from fedcore.permits import Permit, PermitRenewal
from fedcore.signing import Envelope
from governance.decisions.dpia_standing import standing_of, state_at
from governance.decisions.renewals import (
    RenewalFacts,
    decide_expiry,
    decide_renewal,
    decide_repeat,
)
from governance.decisions.rounds import is_finished
from governance.evaluations import open_asked_for
from governance.office import Desk
from governance.permits import find_permit, keep_decision, load_facts, load_renewals
from governance.rounds import load_reports
from registry import documents, dpias
from registry.accounts import Account
from registry.dpias import StoredDpia


def renew_permit(desk: Desk, run_id: str, operator: Account) -> Envelope | RefusedError:
    """Return a renewal of a run's permit, or the refusal, which is kept and so not raised here.

    Guarantees: the permit itself does not change; no renewal reaches beyond the DPIA's validity;
        asking again while more than half of the newest renewal's life is left, and the gate still
        says yes, returns that one.
    Raises: NotFoundError `permit.unknown`; RefusedError `permit.other_server`.
    """
    stored = find_permit(desk, run_id)
    permit = desk.open_own(Permit, stored.permit)
    if permit.server_key != operator.public_key:
        raise RefusedError([("permit.other_server", "the permit names another server's key")])
    dpia = _dpia_of(desk, permit)
    facts = _facts(desk, permit, dpia, revoked=stored.revocation is not None)
    refusals = decide_renewal(facts)
    keep_decision(desk, run_id, facts, refusals)
    if refusals:
        return RefusedError(refusals)
    return _newest_that_lasts(desk, run_id) or _issue(desk, permit, dpia)


def _facts(desk: Desk, permit: Permit, dpia: StoredDpia, *, revoked: bool) -> RenewalFacts:
    state = state_at(standing_of(dpia), desk.now)
    reports = load_reports(desk, permit)
    return RenewalFacts(
        gate=load_facts(desk, open_asked_for(desk, permit.plan), (dpia.record, state), permit.kind),
        revoked=revoked,
        finished=is_finished(reports, permit),
    )


def _dpia_of(desk: Desk, permit: Permit) -> StoredDpia:
    stored = dpias.find(desk.session, permit.dpia)
    if stored is None:
        raise NotFoundError("dpia.unknown", "the DPIA of this permit is not known")
    return stored


def _newest_that_lasts(desk: Desk, run_id: str) -> Envelope | None:
    """Return the newest renewal while it need not be followed by another one."""
    envelopes = documents.of_run(desk.session, PermitRenewal, run_id)
    if not envelopes or envelopes[-1].signer != desk.key.public:
        return None
    newest = load_renewals(desk, run_id)[-1]
    lasts = decide_repeat(desk.now, newest.issued_at, newest.expires_at)
    return envelopes[-1] if lasts else None


def _issue(desk: Desk, permit: Permit, dpia: StoredDpia) -> Envelope:
    renewal = PermitRenewal(
        run_id=permit.run_id,
        realm=desk.realm,
        permit=permit.digest,
        sequence=len(documents.of_run(desk.session, PermitRenewal, permit.run_id)) + 1,
        issued_at=desk.now,
        expires_at=decide_expiry(
            desk.now, desk.settings.permit_valid_s, standing_of(dpia).force_ends_at
        ),
    )
    return desk.issue(renewal, run_id=permit.run_id)
