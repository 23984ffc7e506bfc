"""The outbox of notices, and the facts that notices are about."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from fedcore.rounds import RoundReport
from fedcore.signing import Envelope
from registry import optouts
from registry.documents import kind_of
from registry.tables.documents import DocumentRow
from registry.tables.notices import DeliveryRow, NoticeRow
from registry.tables.optouts import BulletinRow
from registry.tables.permits import UnitKeyRow, UnitRow

# What a pass over the outbox survives: the next one finds everything as it was.
StorageError = SQLAlchemyError


@dataclass(frozen=True)
class Sending:
    """A notice on its way to one receiver; `attempts` were made before."""

    event_id: str
    receiver: str
    body: bytes
    attempts: int


@dataclass(frozen=True)
class UnitContact:
    """When a unit that takes part was last heard of, and the oldest opt-out that no bulletin of
    its has held since.
    """

    unit: str
    heard_at: datetime
    pending_sequence: int | None
    pending_since: datetime | None


def append(session: Session, event_id: str, occasion: str, body: bytes, at: datetime) -> bool:
    """Store a notice; return False, and change nothing, when its occasion has one."""
    known = session.exec(select(NoticeRow.id).where(NoticeRow.occasion == occasion)).first()
    if known is not None:
        return False
    row = NoticeRow(event_id=event_id, occasion=occasion, body=body.decode(), noticed_at=at)
    session.add(row)
    session.flush()
    return True


def address(session: Session, event_id: str, receivers: Iterable[str], at: datetime) -> None:
    """Store that a notice is to go to each of the receivers."""
    for receiver in receivers:
        session.add(DeliveryRow(event_id=event_id, receiver=receiver, next_at=at))
    session.flush()


def find_due(session: Session, receiver: str, now: datetime) -> Sending | None:
    """Return the oldest notice that is now to be sent to a receiver, or None."""
    query = (
        select(DeliveryRow, NoticeRow)
        .join(NoticeRow, col(NoticeRow.event_id) == col(DeliveryRow.event_id))
        .where(
            DeliveryRow.receiver == receiver,
            col(DeliveryRow.delivered_at).is_(None),
            DeliveryRow.next_at <= now,
        )
        .order_by(col(NoticeRow.id))
        .limit(1)
    )
    pair = session.exec(query).first()
    if pair is None:
        return None
    delivery, notice = pair
    return Sending(notice.event_id, receiver, notice.body.encode(), delivery.attempts)


def count_attempt(session: Session, sending: Sending, next_at: datetime) -> None:
    """Store that an attempt is being made, and when the next one is due if this one fails."""
    row = _delivery(session, sending)
    row.attempts, row.next_at = sending.attempts + 1, next_at
    session.add(row)
    session.flush()


def set_delivered(session: Session, sending: Sending, at: datetime) -> None:
    """Store that a receiver has taken a notice."""
    row = _delivery(session, sending)
    row.delivered_at = at
    session.add(row)
    session.flush()


def list_reports(session: Session, since: datetime) -> tuple[Envelope, ...]:
    """Return all round reports of the runs that have reported since, in the order of arrival."""
    kind = kind_of(RoundReport)
    recent = select(DocumentRow.run_id).where(
        DocumentRow.kind == kind, col(DocumentRow.recorded_at) >= since
    )
    query = (
        select(DocumentRow.envelope)
        .where(DocumentRow.kind == kind, col(DocumentRow.run_id).in_(recent))
        .order_by(col(DocumentRow.id))
    )
    return tuple(Envelope.from_bytes(text.encode()) for text in session.exec(query))


def list_contacts(session: Session) -> tuple[UnitContact, ...]:
    """Return the contact of every unit whose key has not ended, by name."""
    query = (
        select(UnitRow.unit, UnitKeyRow.started_at)
        .join(UnitKeyRow, col(UnitKeyRow.node_key) == col(UnitRow.node_key))
        .where(col(UnitKeyRow.ended_at).is_(None))
        .order_by(col(UnitRow.unit))
    )
    return tuple(_contact(session, unit, enrolled) for unit, enrolled in session.exec(query).all())


def _contact(session: Session, unit: str, enrolled_at: datetime) -> UnitContact:
    newest = select(BulletinRow).where(BulletinRow.unit == unit)
    bulletin = session.exec(newest.order_by(col(BulletinRow.id).desc()).limit(1)).first()
    held = select(func.max(BulletinRow.last_sequence)).where(BulletinRow.unit == unit)
    sequence, since = optouts.first_after(session, unit, session.exec(held).one() or 0)
    heard_at = enrolled_at if bulletin is None else max(enrolled_at, bulletin.issued_at)
    return UnitContact(unit, heard_at, sequence, since)


def _delivery(session: Session, sending: Sending) -> DeliveryRow:
    query = select(DeliveryRow).where(
        DeliveryRow.event_id == sending.event_id, DeliveryRow.receiver == sending.receiver
    )
    return session.exec(query).one()
