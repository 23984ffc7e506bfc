"""Opt-out events, gapless per unit, and the one current state that they lead to.

An event is kept as its node signed it: by itself, or in a batch of many. Guarantees: the two kinds
together are gapless; `list_events` and `find_events` read either.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import cast

from sqlalchemy import func
from sqlmodel import Session, col, select

from fedcore import canonical
from fedcore.opt_out_batches import (
    AnyBatch,
    Document,
    OptOutBatch,
    OptOutBatchV2,
    event_of,
    events_of,
)
from fedcore.optouts import Entry, OptOutEvent, State, excludes
from fedcore.signing import Envelope
from registry import opt_out_sets
from registry.tables.optouts import OptOutBatchRow, OptOutRow, OptOutStateRow

_KINDS: Mapping[str, type[Document]] = {
    kind.schema_id(): kind for kind in (OptOutEvent, OptOutBatch, OptOutBatchV2)
}


@dataclass(frozen=True)
class StoredEvent:
    """An event of a unit's opt-outs, and when it came."""

    event: OptOutEvent
    recorded_at: datetime


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
    session: Session, batch: AnyBatch, envelope: Envelope, recorded_at: datetime
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


def is_known(session: Session, digest: str) -> bool:
    """Return whether an event or batch of any unit has this digest."""
    single = select(OptOutRow.sequence).where(OptOutRow.digest == digest)
    batched = select(OptOutBatchRow.sequence).where(OptOutBatchRow.digest == digest)
    return any(session.exec(query).first() is not None for query in (single, batched))


def find_events(session: Session, unit: str, sequences: Collection[int]) -> dict[int, StoredEvent]:
    """Return a unit's events with these sequences.

    They are read from what their node signed, which was verified when it came.
    """
    query = select(OptOutRow.envelope, OptOutRow.recorded_at).where(
        OptOutRow.unit == unit, col(OptOutRow.sequence).in_(sequences)
    )
    stored = [
        StoredEvent(OptOutEvent.from_bytes(_payload(text)), at) for text, at in session.exec(query)
    ]
    found = {each.event.sequence: each for each in stored}
    missing = sorted(set(sequences) - found.keys())
    for number, entry, at in _entries_in_batches(session, unit, missing):
        found[number] = StoredEvent(event_of(unit, number, entry), at)
    return found


def find_entries(session: Session, unit: str, sequences: Collection[int]) -> dict[int, Entry]:
    """Return a unit's events with these sequences, each in a line."""
    query = select(OptOutRow.sequence, OptOutRow.envelope).where(
        OptOutRow.unit == unit, col(OptOutRow.sequence).in_(sequences)
    )
    found = {
        number: OptOutEvent.from_bytes(_payload(text)).entry for number, text in session.exec(query)
    }
    missing = sorted(set(sequences) - found.keys())
    batched = _entries_in_batches(session, unit, missing)
    return found | {number: entry for number, entry, _ in batched}


def _entries_in_batches(
    session: Session, unit: str, sequences: Sequence[int]
) -> Iterator[tuple[int, Entry, datetime]]:
    """Yield those of these events that are in batches; the numbers are sorted."""
    for batch, at in _batches_with(session, unit, sequences):
        first, last = batch.sequence, batch.last_sequence
        entries = list(batch.entries())
        for number in sequences[bisect_left(sequences, first) : bisect_right(sequences, last)]:
            yield number, entries[number - first], at


def _batches_with(
    session: Session, unit: str, sequences: Sequence[int]
) -> Iterator[tuple[AnyBatch, datetime]]:
    """Yield the batches of a unit with any of these events; the numbers are sorted."""
    if not sequences:
        return
    between = select(OptOutBatchRow.sequence, OptOutBatchRow.last_sequence).where(
        OptOutBatchRow.unit == unit,
        OptOutBatchRow.last_sequence >= sequences[0],
        OptOutBatchRow.sequence <= sequences[-1],
    )
    wanted = [
        first
        for first, last in session.exec(between)
        if bisect_left(sequences, first) < bisect_right(sequences, last)
    ]
    query = select(OptOutBatchRow.envelope, OptOutBatchRow.recorded_at).where(
        OptOutBatchRow.unit == unit, col(OptOutBatchRow.sequence).in_(wanted)
    )
    for text, at in session.exec(query):
        batch = _read(Envelope.from_bytes(text.encode()))
        if not isinstance(batch, OptOutEvent):
            yield batch, at


def list_events(session: Session, unit: str, after: int, limit: int) -> tuple[StoredEvent, ...]:
    """Return at most `limit` events of a unit after a sequence, in sequence."""
    with closing(documents_after(session, unit, after)) as documents:
        every = (
            StoredEvent(event, at)
            for envelope, at in documents
            for event in events_of(_read(envelope))
            if event.sequence > after
        )
        return tuple(islice(every, limit))


def documents_after(
    session: Session, unit: str, sequence: int
) -> Generator[tuple[Envelope, datetime]]:
    """Yield a unit's own signed documents with events after a sequence, in order, each with when it
    was recorded.
    """
    single = (
        select(OptOutRow.sequence, OptOutRow.envelope, OptOutRow.recorded_at)
        .where(OptOutRow.unit == unit, OptOutRow.sequence > sequence)
        .order_by(col(OptOutRow.sequence))
        .execution_options(yield_per=1000)
    )
    batched = (
        select(OptOutBatchRow.sequence, OptOutBatchRow.envelope, OptOutBatchRow.recorded_at)
        .where(OptOutBatchRow.unit == unit, OptOutBatchRow.last_sequence > sequence)
        .order_by(col(OptOutBatchRow.sequence))
        .execution_options(yield_per=4)
    )
    found = session.exec(single), session.exec(batched)
    try:
        for _, envelope, recorded_at in merge(*found):
            yield Envelope.from_bytes(envelope.encode()), recorded_at
    finally:
        for rows in found:  # the database keeps what a reader who stops early has not fetched
            rows.close()


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


def _read(envelope: Envelope) -> Document:
    data = envelope.payload_bytes
    value = canonical.parse(data)
    return _KINDS[value["schema"]].from_json(value, data)


def _payload(text: str) -> bytes:
    return Envelope.from_bytes(text.encode()).payload_bytes
