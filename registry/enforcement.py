"""What is kept of how a unit's opt-outs act: events, their states, bulletins, receipts, models."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy import CompoundSelect, literal, tuple_, union_all
from sqlmodel import Session, col, select

from fedcore.contracts import Contract
from fedcore.opt_out_batches import OptOutBatch
from fedcore.optouts import OptOutEvent
from fedcore.permits import Permit
from fedcore.rounds import Receipt
from fedcore.signing import Envelope
from registry.documents import kind_of
from registry.models import StoredModel
from registry.tables.documents import DocumentRow
from registry.tables.models import ModelRow
from registry.tables.optouts import BulletinRow, OptOutBatchRow, OptOutRow, OptOutStateRow
from registry.tables.permits import PermitRow

# A batch is a megabyte or so.
_AT_ONCE = 4


@dataclass(frozen=True)
class StoredEvent:
    """An event of a unit's opt-outs, and when it came."""

    event: OptOutEvent
    recorded_at: datetime


@dataclass(frozen=True)
class StoredState:
    """The current state of an objection, and the event that led to it."""

    state: str
    sequence: int


@dataclass(frozen=True)
class Issued:
    """A bulletin: its digest, its newest opt-out, and when it was issued."""

    digest: str
    last_sequence: int
    issued_at: datetime


def list_events(session: Session, unit: str, after: int, limit: int) -> tuple[StoredEvent, ...]:
    """Return at most `limit` events of a unit after a sequence, in sequence.

    Guarantees: single events and those of batches alike; no document is read that is not needed.
    """
    found: list[StoredEvent] = []
    rows = session.execute(
        _documents(OptOutRow.sequence > after, OptOutBatchRow.last_sequence > after, unit)
        .order_by("sequence")
        .limit(limit),
        execution_options={"yield_per": _AT_ONCE},
    )
    for row in rows:
        start = max(row.sequence, after + 1)
        found += _events(row, range(start, min(row.last_sequence + 1, start + limit - len(found))))
        if len(found) == limit:
            break
    rows.close()
    return tuple(found)


def find_events(session: Session, unit: str, sequences: Collection[int]) -> dict[int, StoredEvent]:
    """Return a unit's events with these sequences, single ones and those of batches alike."""
    spans = select(OptOutBatchRow.sequence, OptOutBatchRow.last_sequence).where(
        OptOutBatchRow.unit == unit,
        OptOutBatchRow.sequence <= max(sequences, default=0),
        OptOutBatchRow.last_sequence >= min(sequences, default=0),
    )
    firsts = {
        first
        for first, last in session.exec(spans)
        if any(first <= sequence <= last for sequence in sequences)
    }
    rows = session.execute(
        _documents(
            col(OptOutRow.sequence).in_(sequences), col(OptOutBatchRow.sequence).in_(firsts), unit
        ),
        execution_options={"yield_per": _AT_ONCE},
    )
    return {
        stored.event.sequence: stored
        for row in rows
        for stored in _events(
            row, [number for number in sequences if row.sequence <= number <= row.last_sequence]
        )
    }


def find_states(
    session: Session, unit: str, events: Sequence[StoredEvent]
) -> dict[tuple[str, str, str], StoredState]:
    """Return the current state of each objection that these events of a unit are about."""
    subjects = {stored.event.subject for stored in events}
    key = tuple_(
        col(OptOutStateRow.pseudonym), col(OptOutStateRow.purpose), col(OptOutStateRow.ground)
    )
    query = select(OptOutStateRow).where(OptOutStateRow.unit == unit, key.in_(subjects))
    return {
        (row.pseudonym, row.purpose, row.ground): StoredState(row.state, row.sequence)
        for row in session.exec(query)
    }


def list_issued(session: Session, unit: str) -> tuple[Issued, ...]:
    """Return a unit's bulletins, oldest first."""
    query = (
        select(BulletinRow.digest, BulletinRow.last_sequence, BulletinRow.issued_at)
        .where(BulletinRow.unit == unit)
        .order_by(col(BulletinRow.id))
    )
    return tuple(Issued(*row) for row in session.exec(query))


def list_receipts(session: Session, unit: str) -> tuple[Receipt, ...]:
    """Return a unit's receipts in the order of arrival; they were verified when they came."""
    query = (
        select(DocumentRow.envelope)
        .where(DocumentRow.kind == kind_of(Receipt), DocumentRow.unit == unit)
        .order_by(col(DocumentRow.id))
    )
    found = (Envelope.from_bytes(text.encode()) for text in session.exec(query))
    return tuple(Receipt.from_bytes(envelope.payload_bytes) for envelope in found)


def list_permits(session: Session, run_ids: Collection[str]) -> tuple[Permit, ...]:
    """Return the permits of these runs."""
    query = (
        select(DocumentRow.envelope)
        .join(PermitRow, col(PermitRow.permit) == col(DocumentRow.digest))
        .where(col(PermitRow.run_id).in_(run_ids))
    )
    found = (Envelope.from_bytes(text.encode()) for text in session.exec(query))
    return tuple(Permit.from_bytes(envelope.payload_bytes) for envelope in found)


def list_contracts(session: Session, digests: Collection[str]) -> tuple[Contract, ...]:
    """Return these contracts."""
    query = select(DocumentRow.envelope).where(col(DocumentRow.digest).in_(digests))
    found = (Envelope.from_bytes(text.encode()) for text in session.exec(query))
    return tuple(Contract.from_bytes(envelope.payload_bytes) for envelope in found)


def find_models(session: Session, run_ids: Collection[str]) -> dict[str, StoredModel]:
    """Return the model version of each of these runs that has one."""
    query = select(ModelRow).where(col(ModelRow.run_id).in_(run_ids)).order_by(col(ModelRow.id))
    return {
        row.run_id: StoredModel(row.name, row.version, row.run_id, row.document, row.artifact)
        for row in session.exec(query)
    }


def _documents(single: Any, batched: Any, unit: str) -> CompoundSelect[Any]:
    """Return the query of a unit's documents with opt-outs, of both kinds."""
    one, many = OptOutRow, OptOutBatchRow
    return union_all(
        sqlalchemy.select(
            col(one.envelope),
            col(one.recorded_at),
            col(one.sequence),
            col(one.sequence).label("last_sequence"),
            literal(False).label("is_batch"),
        ).where(col(one.unit) == unit, single),
        sqlalchemy.select(
            col(many.envelope),
            col(many.recorded_at),
            col(many.sequence),
            col(many.last_sequence),
            literal(True).label("is_batch"),
        ).where(col(many.unit) == unit, batched),
    )


def _events(row: Any, sequences: Sequence[int]) -> list[StoredEvent]:
    """Return these events of a document, which was verified when it came."""
    payload = Envelope.from_bytes(row.envelope.encode()).payload_bytes
    if row.is_batch:
        events = OptOutBatch.from_bytes(payload).picked(sequences)
    else:
        events = [OptOutEvent.from_bytes(payload)]
    return [StoredEvent(event, row.recorded_at) for event in events]
