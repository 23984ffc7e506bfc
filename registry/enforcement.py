"""What is kept of how a unit's opt-outs act: events, their states, bulletins, receipts, models."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from fedcore.contracts import Contract
from fedcore.optouts import OptOutEvent
from fedcore.permits import Permit
from fedcore.rounds import Receipt
from fedcore.signing import Envelope
from registry.documents import kind_of
from registry.models import StoredModel
from registry.tables.documents import DocumentRow
from registry.tables.models import ModelRow
from registry.tables.optouts import BulletinRow, OptOutRow, OptOutStateRow
from registry.tables.permits import PermitRow


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
    """Return at most `limit` events of a unit after a sequence, in sequence."""
    query = (
        select(OptOutRow.envelope, OptOutRow.recorded_at)
        .where(OptOutRow.unit == unit, OptOutRow.sequence > after)
        .order_by(col(OptOutRow.sequence))
        .limit(limit)
    )
    return tuple(StoredEvent(_event(text), at) for text, at in session.exec(query))


def find_events(session: Session, unit: str, sequences: Collection[int]) -> dict[int, StoredEvent]:
    """Return a unit's events with these sequences."""
    query = select(OptOutRow.envelope, OptOutRow.recorded_at).where(
        OptOutRow.unit == unit, col(OptOutRow.sequence).in_(sequences)
    )
    found = (StoredEvent(_event(text), at) for text, at in session.exec(query))
    return {stored.event.sequence: stored for stored in found}


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


def _event(text: str) -> OptOutEvent:
    return OptOutEvent.from_bytes(Envelope.from_bytes(text.encode()).payload_bytes)
