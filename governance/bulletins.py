"""Opt-outs in, bulletins out, ledger heads witnessed."""

from datetime import timedelta

from fedcore.errors import ConflictError, RollbackError
from fedcore.optouts import (
    Bulletin,
    BulletinRequest,
    OptOutEvent,
    WitnessedHead,
    epoch_of,
    set_digest,
)
from fedcore.signing import Envelope, sign_record
from governance.auth import open_from_node, verify_fresh, verify_not_future, verify_speaks_for
from governance.decisions.heads import GENESIS, verify_head_claim
from governance.office import Desk
from governance.opt_out_groups import group_part
from governance.reissues import verify_repeat
from registry import bulletins, log, optouts, permits


def record_opt_out(desk: Desk, envelope: Envelope) -> None:
    """Store a node's opt-out event; the same event again changes nothing.

    Guarantees: sequences are gapless per unit, also under concurrent writers.
    Raises: SignatureError; ExpiredError `request.from_future`; ConflictError
        `opt_out.sequence_gap`, `opt_out.sequence_known`, `opt_out.act_not_open`; MismatchError
        `opt_out.repeat_differs`.
    """
    event, unit = open_from_node(desk, envelope, OptOutEvent)
    verify_speaks_for(unit, event.unit)
    verify_not_future(event.received_at, desk.now)
    known = optouts.find_digest(desk.session, event.unit, event.sequence)
    if known == event.digest:
        return
    if known is not None:
        raise ConflictError(
            "opt_out.sequence_known", "this sequence number belongs to another opt-out"
        )
    expected = optouts.last_sequence(desk.session, event.unit) + 1
    if event.sequence != expected:
        raise ConflictError("opt_out.sequence_gap", f"the next sequence number is {expected}")
    verify_repeat(desk.session, event)
    optouts.append(desk.session, event, envelope, desk.now)


def issue_bulletin(desk: Desk, envelope: Envelope) -> Envelope:
    """Witness a node's ledger head and return its bulletin.

    Guarantees: only events of the node's unit and of its group; every nonce once; a head is
        witnessed only if it continues the ledger that was witnessed before.
    Raises: SignatureError; ExpiredError; ConflictError `request.replayed`; RollbackError
        `ledger.rollback`, `bulletin.rollback`, `log.rollback`; MismatchError
        `ledger.claim_mismatch`; RefusedError `group.not_joined`.
    """
    request, unit = open_from_node(desk, envelope, BulletinRequest)
    verify_speaks_for(unit, request.unit)
    verify_fresh(request.requested_at, desk.now)
    if bulletins.nonce_seen(desk.session, request.unit, request.nonce):
        raise ConflictError("request.replayed", "this nonce was used before: make a new request")
    head = _witness(desk, request)
    bulletin = _bulletin(desk, request, head)
    bulletins.append(desk.session, bulletin)
    return sign_record(bulletin, desk.key, desk.realm)


def _witness(desk: Desk, request: BulletinRequest) -> WitnessedHead:
    newest = bulletins.find_newest_head(desk.session, request.unit) or GENESIS
    since = bulletins.find_head(desk.session, request.unit, request.head.since)
    if request.head.since == GENESIS.sequence:
        since = GENESIS
    head = verify_head_claim(request.head, since, newest)
    if head.sequence > newest.sequence:
        bulletins.append_head(desk.session, request.unit, head, desk.now)
    return head


def _bulletin(desk: Desk, request: BulletinRequest, head: WitnessedHead) -> Bulletin:
    last = optouts.last_sequence(desk.session, request.unit)
    if request.after_sequence > last:
        raise RollbackError("bulletin.rollback", "governance knows fewer opt-outs than the node")
    view = log.load_view(desk.session)
    return Bulletin(
        unit=request.unit,
        nonce=request.nonce,
        realm=desk.realm,
        epoch=epoch_of(desk.now),
        events=optouts.list_after(desk.session, request.unit, request.after_sequence),
        last_sequence=last,
        set_digest=set_digest(optouts.load_pairs(desk.session, request.unit)),
        revoked_runs=permits.list_revoked_runs(desk.session, request.unit),
        log=view.position(),
        consistency=view.consistency(request.checkpoint_size),
        witnessed=head,
        issued_at=desk.now,
        valid_until=desk.now + timedelta(seconds=desk.settings.bulletin_valid_s),
        group=group_part(desk, request),
    )
