"""Opt-out events, gapless per unit, and the one current state that they lead to."""

from datetime import datetime
from typing import cast

from sqlalchemy import func
from sqlmodel import Session, col, select

from fedcore.optouts import OptOutEvent, State, excludes, next_state
from fedcore.signing import Envelope
from registry.tables.optouts import OptOutRow, OptOutStateRow


def append(session: Session, event: OptOutEvent, envelope: Envelope, recorded_at: datetime) -> None:
    """Store an event and the state that it leads to; the caller has checked that its sequence is
    the next one.

    Raises: ConflictError `opt_out.act_not_open`.
    """
    _move(session, event)
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


def is_known(session: Session, digest: str) -> bool:
    """Return whether an event of any unit has this digest."""
    query = select(OptOutRow.sequence).where(OptOutRow.digest == digest)
    return session.exec(query).first() is not None


def list_after(session: Session, unit: str, sequence: int) -> tuple[Envelope, ...]:
    """Return a unit's own signed events after a sequence, in order."""
    query = (
        select(OptOutRow.envelope)
        .where(OptOutRow.unit == unit, OptOutRow.sequence > sequence)
        .order_by(col(OptOutRow.sequence))
    )
    return tuple(Envelope.from_bytes(text.encode()) for text in session.exec(query))


def load_pairs(session: Session, unit: str) -> frozenset[tuple[str, str]]:
    """Return the (pseudonym, purpose) pairs of a unit with an objection that excludes."""
    query = select(OptOutStateRow.pseudonym, OptOutStateRow.purpose, OptOutStateRow.state).where(
        OptOutStateRow.unit == unit
    )
    return frozenset(
        (pseudonym, purpose)
        for pseudonym, purpose, state in session.exec(query)
        if excludes(cast(State, state))
    )


def _move(session: Session, event: OptOutEvent) -> None:
    key = (event.unit, *event.subject)
    row = session.get(OptOutStateRow, key)
    state = next_state(event, cast(State, row.state) if row else None)
    if row is None:
        unit, pseudonym, purpose, ground = key
        row = OptOutStateRow(
            unit=unit,
            pseudonym=pseudonym,
            purpose=purpose,
            ground=ground,
            state=state,
            sequence=event.sequence,
        )
    row.state, row.sequence = state, event.sequence
    session.add(row)
