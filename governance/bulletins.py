"""Opt-outs in, bulletins out, ledger heads witnessed."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fedcore.bulletins import (
    AnyBulletin,
    Bulletin,
    BulletinRequest,
    BulletinV1,
    WitnessedHead,
    epoch_of,
)
from fedcore.errors import ConflictError, RefusedError, RollbackError
from fedcore.opt_out_batches import Document, OptOutBatchV2, batch_type
from fedcore.opt_out_history import HistoryRequest, pack
from fedcore.opt_out_sets import digest_of_buckets
from fedcore.optouts import OptOutEvent, set_digest
from fedcore.signing import Envelope, sign_record
from governance.auth import open_from_node, verify_fresh, verify_not_future, verify_speaks_for
from governance.decisions.heads import GENESIS, verify_head_claim
from governance.office import Desk
from governance.opt_out_groups import group_part
from governance.reissues import verify_repeats
from registry import bulletins, log, opt_out_sets, optouts, permits

NODE_OUTDATED = ("bulletin.node_outdated", "this unit's opt-outs need a newer node: upgrade it")


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
    if _is_next(desk, event):
        verify_repeats(desk.session, event.unit, [event.entry])
        optouts.append(desk.session, event, envelope, desk.now)


def record_batch(desk: Desk, envelope: Envelope) -> None:
    """Store a node's batch of opt-out events, whole or not at all; the same batch again changes
    nothing.

    Guarantees: as `record_opt_out`, for each event of the batch.
    Raises: as `record_opt_out`.
    """
    batch, unit = open_from_node(desk, envelope, batch_type(envelope, desk.realm))
    verify_speaks_for(unit, batch.unit)
    verify_not_future(batch.newest, desk.now)
    if _is_next(desk, batch):
        if isinstance(batch, OptOutBatchV2):
            verify_repeats(desk.session, batch.unit, batch.entries())
        optouts.append_batch(desk.session, batch, envelope, desk.now)


def part_of_history(desk: Desk, envelope: Envelope) -> bytes:
    """Return a node's own signed documents with events after a sequence, as many as a part holds.

    Raises: SignatureError; ExpiredError; ConflictError `opt_out.history_ended` when there are none.
    """
    request, unit = open_from_node(desk, envelope, HistoryRequest)
    verify_speaks_for(unit, request.unit)
    verify_fresh(request.requested_at, desk.now)
    if request.after_sequence >= optouts.last_sequence(desk.session, request.unit):
        raise ConflictError("opt_out.history_ended", "governance knows no later opt-outs")
    found = optouts.documents_after(desk.session, request.unit, request.after_sequence)
    return pack((envelope for envelope, _ in found), desk.realm)


def _is_next(desk: Desk, document: Document) -> bool:
    """Return whether a document is the next one; False when it is known already.

    Raises: ConflictError `opt_out.sequence_gap`, `opt_out.sequence_known`.
    """
    expected = optouts.last_sequence(desk.session, document.unit) + 1
    if document.sequence == expected:
        return True
    if document.sequence > expected:
        raise ConflictError("opt_out.sequence_gap", f"the next sequence number is {expected}")
    if optouts.find_digest(desk.session, document.unit, document.sequence) != document.digest:
        raise ConflictError(
            "opt_out.sequence_known", "this sequence number belongs to another opt-out"
        )
    return False


def issue_bulletin(desk: Desk, envelope: Envelope) -> Envelope:
    """Witness a node's ledger head and return its bulletin.

    Guarantees: only events of the node's unit and of its group; every nonce once; a head is
        witnessed only if it continues the ledger that was witnessed before.
    Raises: SignatureError; ExpiredError; ConflictError `request.replayed`; RollbackError
        `ledger.rollback`, `bulletin.rollback`, `log.rollback`; MismatchError
        `ledger.claim_mismatch`; RefusedError `bulletin.node_outdated`, `group.not_joined`.
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


def _bulletin(desk: Desk, request: BulletinRequest, head: WitnessedHead) -> AnyBulletin:
    last = optouts.last_sequence(desk.session, request.unit)
    if request.after_sequence > last:
        raise RollbackError("bulletin.rollback", "governance knows fewer opt-outs than the node")
    view = log.load_view(desk.session)
    common: dict[str, Any] = {
        "unit": request.unit,
        "nonce": request.nonce,
        "realm": desk.realm,
        "epoch": epoch_of(desk.now),
        "last_sequence": last,
        "revoked_runs": permits.list_revoked_runs(desk.session, request.unit),
        "log": view.position(),
        "consistency": view.consistency(request.checkpoint_size),
        "witnessed": head,
        "issued_at": desk.now,
        "valid_until": desk.now + timedelta(seconds=desk.settings.bulletin_valid_s),
    }
    part = group_part(desk, request)
    if request.answer is None and part is None:
        return _first_version(desk, request, common)
    if request.answer is None:
        raise RefusedError([NODE_OUTDATED])
    digest = digest_of_buckets(opt_out_sets.load_buckets(desk.session, request.unit))
    return Bulletin(**common, set_digest=digest, group=part)


def _first_version(desk: Desk, request: BulletinRequest, common: Mapping[str, Any]) -> BulletinV1:
    """Return the bulletin that nodes of version 0.2 read, who know neither batches nor groups."""
    if optouts.has_batch_after(desk.session, request.unit, request.after_sequence):
        raise RefusedError([NODE_OUTDATED])
    found = optouts.documents_after(desk.session, request.unit, request.after_sequence)
    digest = set_digest(optouts.load_pairs(desk.session, request.unit))
    return BulletinV1(**common, events=tuple(envelope for envelope, _ in found), set_digest=digest)
