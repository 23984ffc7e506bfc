"""Opt-out events, gapless per unit, and the one current state that they lead to.

An event is kept as its node signed it: by itself, or in a batch of many. Guarantees: the two kinds
together are gapless, and `documents_after` yields either.
"""

from collections.abc import Iterator
from datetime import datetime
from heapq import merge
from typing import cast

from sqlalchemy import func
from sqlmodel import Session, col, select

from fedcore.opt_out_batches import OptOutBatch
from fedcore.optouts import OptOutEvent, State, excludes
from fedcore.signing import Envelope
from registry import opt_out_sets
from registry.tables.optouts import OptOutBatchRow, OptOutRow, OptOutStateRow


def append(session: Session, event: OptOutEvent, envelope: Envelope, recorded_at: datetime) -> None:
    """Store an event and the state that it leads to; the caller has checked that its sequence is
    the next one.

    Raises: ConflictError `opt_out.act_not_open`.
    """
    opt_out_sets.move(session, event.unit, [event.entry], event.sequence)
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


def append_batch(
    session: Session, batch: OptOutBatch, envelope: Envelope, recorded_at: datetime
) -> None:
    """Store a batch and the states that its events lead to, as `append` does for each of them.

    Raises: ConflictError `opt_out.act_not_open`.
    """
    opt_out_sets.move(session, batch.unit, list(batch.entries()), batch.first_sequence)
    session.add(
        OptOutBatchRow(
            unit=batch.unit,
            sequence=batch.first_sequence,
            last_sequence=batch.last_sequence,
            digest=batch.digest,
            envelope=envelope.to_bytes().decode(),
            recorded_at=recorded_at,
        )
    )
    session.flush()


def last_sequence(session: Session, unit: str) -> int:
    """Return the highest sequence of a unit, 0 when it has none."""
    single = select(func.max(OptOutRow.sequence)).where(OptOutRow.unit == unit)
    batched = select(func.max(OptOutBatchRow.last_sequence)).where(OptOutBatchRow.unit == unit)
    return max(session.exec(single).one() or 0, session.exec(batched).one() or 0)


def find_digest(session: Session, unit: str, sequence: int) -> str | None:
    """Return the digest of a unit's document whose first event has this sequence, or None."""
    single = select(OptOutRow.digest).where(OptOutRow.unit == unit, OptOutRow.sequence == sequence)
    batched = select(OptOutBatchRow.digest).where(
        OptOutBatchRow.unit == unit, OptOutBatchRow.sequence == sequence
    )
    return session.exec(single).first() or session.exec(batched).first()


def documents_after(session: Session, unit: str, sequence: int) -> Iterator[Envelope]:
    """Yield a unit's own signed documents with events after a sequence, in order."""
    single = (
        select(OptOutRow.sequence, OptOutRow.envelope)
        .where(OptOutRow.unit == unit, OptOutRow.sequence > sequence)
        .order_by(col(OptOutRow.sequence))
        .execution_options(yield_per=1000)
    )
    batched = (
        select(OptOutBatchRow.sequence, OptOutBatchRow.envelope)
        .where(OptOutBatchRow.unit == unit, OptOutBatchRow.last_sequence > sequence)
        .order_by(col(OptOutBatchRow.sequence))
        .execution_options(yield_per=4)
    )
    for _, envelope in merge(session.exec(single), session.exec(batched)):
        yield Envelope.from_bytes(envelope.encode())


def first_after(
    session: Session, unit: str, sequence: int
) -> tuple[int, datetime] | tuple[None, None]:
    """Return the number of a unit's first event after a sequence, and when it was recorded."""
    single = (
        select(OptOutRow.sequence, OptOutRow.recorded_at)
        .where(OptOutRow.unit == unit, OptOutRow.sequence > sequence)
        .order_by(col(OptOutRow.sequence))
    )
    batched = (
        select(OptOutBatchRow.sequence, OptOutBatchRow.recorded_at)
        .where(OptOutBatchRow.unit == unit, OptOutBatchRow.last_sequence > sequence)
        .order_by(col(OptOutBatchRow.sequence))
    )
    found = [session.exec(query.limit(1)).first() for query in (single, batched)]
    known = [(max(first, sequence + 1), at) for first, at in filter(None, found)]
    return min(known) if known else (None, None)


def has_batch_after(session: Session, unit: str, sequence: int) -> bool:
    """Return whether any of a unit's events after a sequence is in a batch."""
    query = select(OptOutBatchRow.sequence).where(
        OptOutBatchRow.unit == unit, OptOutBatchRow.last_sequence > sequence
    )
    return session.exec(query).first() is not None


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
