"""Stops and what lifted them."""

from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from fedcore.stops import Stop
from registry.tables.stops import StopRow

_IN_FORCE = select(StopRow.stop).where(col(StopRow.lift).is_(None)).order_by(col(StopRow.sequence))


@dataclass(frozen=True)
class StoredStop:
    """The digests of a stop and, when it was lifted, of what lifted it."""

    sequence: int
    stop: str
    lift: str | None


def append(session: Session, stop: Stop) -> None:
    """Store a stop, whose document must be stored before."""
    session.flush()
    session.add(StopRow(sequence=stop.sequence, stop=stop.digest))
    session.flush()


def set_lift(session: Session, stop: str, lift: str) -> None:
    """Store what lifted a stop; that document must be stored before."""
    session.flush()
    row = session.exec(select(StopRow).where(StopRow.stop == stop)).one()
    row.lift = lift
    session.add(row)
    session.flush()


def next_sequence(session: Session) -> int:
    """Return the number that the next stop gets."""
    return (session.exec(select(func.max(StopRow.sequence))).one() or 0) + 1


def find(session: Session, stop: str) -> StoredStop | None:
    """Return the stop of this digest, or None."""
    row = session.exec(select(StopRow).where(StopRow.stop == stop)).first()
    return None if row is None else _stored(row)


def list_in_force(session: Session) -> tuple[str, ...]:
    """Return the digests of the stops that nobody has lifted, oldest first."""
    return tuple(session.exec(_IN_FORCE))


def list_after(session: Session, sequence: int, limit: int) -> tuple[StoredStop, ...]:
    """Return at most `limit` stops that came after one, oldest first."""
    query = (
        select(StopRow)
        .where(col(StopRow.sequence) > sequence)
        .order_by(col(StopRow.sequence))
        .limit(limit)
    )
    return tuple(_stored(row) for row in session.exec(query))


def _stored(row: StopRow) -> StoredStop:
    return StoredStop(row.sequence, row.stop, row.lift)
