"""The kill switch: stops, what they end at once, and their lift by another person."""

from fedcore.contracts import Contract
from fedcore.errors import NotFoundError, RefusedError
from fedcore.permits import Permit
from fedcore.signing import Envelope
from fedcore.stops import Stop, StopLift, StopScope
from governance.decisions.stops import Reach, concerns, decide_lift, purposes_of
from governance.dpias import find_dpia
from governance.office import Desk
from governance.permits import revoke
from registry import permits, stops
from registry.accounts import Account


def stop(
    desk: Desk, scope: StopScope, subject: str | None, reason: str, account: Account
) -> Envelope:
    """Stop everything, or all that a unit, purpose, task or DPIA takes part in; return the stop.

    Guarantees: in one transaction with the stop, every open permit that it concerns is revoked, so
        that the next bulletin of each node names its run; the gate gives no permit and no renewal
        that it concerns until the stop is lifted. Runs whose model is registered are over.
    """
    record = Stop(
        sequence=stops.next_sequence(desk.session),
        scope=scope,
        subject=subject,
        reason=reason,
        stopped_by=account.name,
        stopped_at=desk.now,
    )
    envelope = desk.issue(record)
    stops.append(desk.session, record)
    for stored in permits.list_open(desk.session):
        if concerns(record, _reach_of(desk, desk.open_own(Permit, stored.permit))):
            revoke(desk, stored.run_id, f"stop {record.sequence}: {reason}"[:4000])
    return envelope


def lift(desk: Desk, digest: str, reason: str, account: Account) -> Envelope:
    """End a stop and return the signed lift; a second time changes nothing.

    Guarantees: done by another person than the one who stopped; what was revoked stays revoked.
    Raises: NotFoundError `stop.unknown`; RefusedError `stop.same_person`.
    """
    stored = stops.find(desk.session, digest)
    if stored is None:
        raise NotFoundError("stop.unknown", "there is no stop with this digest")
    if stored.lift is not None:
        return desk.fetch(StopLift, stored.lift)
    if refusals := decide_lift(desk.open_own(Stop, digest), account.name):
        raise RefusedError(refusals)
    record = StopLift(stop=digest, reason=reason, lifted_by=account.name, lifted_at=desk.now)
    envelope = desk.issue(record)
    stops.set_lift(desk.session, digest, record.digest)
    return envelope


def _reach_of(desk: Desk, permit: Permit) -> Reach:
    contract = desk.open_own(Contract, permit.contract)
    return Reach(
        units=frozenset(grant.unit for grant in permit.cohort),
        purposes=purposes_of(contract, permit.purpose),
        dpia_id=find_dpia(desk, permit.dpia).record.dpia_id,
        task=permit.task,
    )
