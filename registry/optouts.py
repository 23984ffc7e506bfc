"""Opt-out events, gapless per unit."""

from datetime import datetime

from sqlalchemy import func
from sqlmodel import Session, col, select

from fedcore.optouts import OptOutEvent
from fedcore.signing import Envelope
from registry.tables.optouts import OptOutRow


def append(session: Session, event: OptOutEvent, envelope: Envelope, recorded_at: datetime) -> None:
    """Store an event; the caller has checked that its sequence is the next one."""
    session.add(
        OptOutRow(
            unit=event.unit,
            sequence=event.sequence,
            digest=event.digest,
            pseudonym=event.pseudonym,
            purpose=event.purpose,
            envelope=envelope.to_bytes().decode(),
            recorded_at=recorded_at,
        )
    )
    session.flush()


def last_sequence(session: Session, unit: str) -> int:
    """Return the highest sequence of a unit, 0 when it has none."""
    query = select(func.max(OptOutRow.sequence)).where(OptOutRow.unit == unit)
    return session.exec(query).one() or 0


def find_digest(session: Session, unit: str, sequence: int) -> str | None:
    """Return the digest of a unit's event with this sequence, or None."""
    query = select(OptOutRow.digest).where(OptOutRow.unit == unit, OptOutRow.sequence == sequence)
    return session.exec(query).first()


def list_after(session: Session, unit: str, sequence: int) -> tuple[Envelope, ...]:
    """Return a unit's own signed events after a sequence, in order."""
    query = (
        select(OptOutRow.envelope)
        .where(OptOutRow.unit == unit, OptOutRow.sequence > sequence)
        .order_by(col(OptOutRow.sequence))
    )
    return tuple(Envelope.from_bytes(text.encode()) for text in session.exec(query))


def load_pairs(session: Session, unit: str) -> frozenset[tuple[str, str]]:
    """Return all (pseudonym, purpose) pairs of a unit."""
    query = select(OptOutRow.pseudonym, OptOutRow.purpose).where(OptOutRow.unit == unit)
    return frozenset((pseudonym, purpose) for pseudonym, purpose in session.exec(query))
