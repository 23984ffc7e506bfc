"""Many events of one unit under one signature, in columns of fixed width.

Guarantees: equal events have one form and so equal bytes; what a single event may not say, none of
    a batch may; a batch's numbers are gapless.
"""

from collections.abc import Hashable, Iterator, Sequence
from datetime import datetime
from itertools import count, groupby, islice, repeat
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from fedcore.columns import (
    PSEUDONYM_BYTES,
    TIME_BYTES,
    decoded,
    encoded,
    pseudonyms_in,
    time_column,
    times_in,
)
from fedcore.optouts import (
    Act,
    Entry,
    Ground,
    OptOutEvent,
    Reason,
    Said,
    moment_of,
    refuse_other_acts,
)
from fedcore.record import Name, Part, Realm, Record
from fedcore.signing import Envelope, open_envelope, payload_type

MAX_EVENTS = 10_000
MAX_SAID = 256

_Column = Annotated[str, StringConstraints(max_length=MAX_EVENTS * 44)]


class BatchSaid(Part):
    """What events of a batch say; each event names its place in the batch's list of these."""

    purpose: Name
    channel: Name
    ground: Ground
    act: Act | None = None
    reason: Reason | None = None

    @property
    def said(self) -> Said:
        """The same as events carry it."""
        return Said(self.purpose, self.channel, self.ground, self.act, self.reason)


class OptOutBatch(Record):
    """Consecutive events of one unit. Signed by the unit's node.

    `first_sequence` is that of the first event. `said` lists what the events say, in the order of
    first use. The columns are base64 of, for each event in sequence: its pseudonym (32 bytes), its
    place in `said` (one byte), and when it was received: microseconds since 1970 as eight bytes,
    signed, big-endian; of all events first the first byte, then the second, and so on, so that what
    they have in common packs well.

    Guarantees: each column has as many values as the others; every entry of `said` is one that an
        `opt-out/1` could have, is used, and is there once.
    """

    schema_name: Literal["opt-out-batch/1"] = Field(default="opt-out-batch/1", alias="schema")
    unit: Name
    first_sequence: Annotated[int, Field(ge=1, le=2**53 - 1 - MAX_EVENTS)]
    key_version: Annotated[int, Field(ge=1)]
    said: Annotated[tuple[BatchSaid, ...], Field(min_length=1, max_length=MAX_SAID)]
    pseudonyms: _Column
    places: _Column
    received: _Column

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        _verify_columns(self, len(self.said))
        for part in self.said:
            if part.act == "reissued":
                raise ValueError("act: a re-issue names its successor, which this has no room for")
            refuse_other_acts(part.said)
        if len({part.said for part in self.said}) != len(self.said):
            raise ValueError("said: one is there twice")
        return self

    @property
    def sequence(self) -> int:
        """The sequence number of the first event."""
        return self.first_sequence

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last event."""
        return self.first_sequence + len(decoded("places", self.places)) - 1

    @property
    def newest(self) -> datetime:
        """When the event that was received last was received."""
        return moment_of(max(times_in(decoded("received", self.received))))

    def entries(self) -> Iterator[Entry]:
        """Yield the events in sequence, each in a line."""
        said = [part.said for part in self.said]
        places = map(said.__getitem__, decoded("places", self.places))
        times = times_in(decoded("received", self.received))
        pseudonyms = pseudonyms_in("pseudonyms", self.pseudonyms)
        return map(Entry, pseudonyms, places, times, repeat(self.key_version))

    def event(self, sequence: int) -> OptOutEvent:
        """Return one event as a single one would be. Raises: ValueError for a number of none."""
        place = sequence - self.first_sequence
        entry = next(islice(self.entries(), place, None), None) if place >= 0 else None
        if entry is None:
            raise ValueError(f"the batch has no event {sequence}")
        return event_of(self.unit, sequence, entry)

    def events(self) -> Iterator[OptOutEvent]:
        """Yield the events in sequence, each as a single one would be."""
        return map(event_of, repeat(self.unit), count(self.first_sequence), self.entries())


class ReissueSaid(BatchSaid):
    """What events of a re-issue say, and under which key."""

    key_version: Annotated[int, Field(ge=1)]


class OptOutBatchV2(Record):
    """Consecutive events of one unit, each part of a re-issue under another pseudonym key. Signed
    by the unit's node.

    As in `OptOutBatch`; the key is in `said`, as it changes within a re-issue. `repeats` has, like
    `received`, for each event the sequence of what was first said, and `successors` the pseudonym
    under which it goes on, of 32 bytes, for each event with the act `reissued`.

    Guarantees: as of `OptOutBatch`; each event is one that an `opt-out/1` with `repeats` could be,
        and repeats one before the batch.
    """

    schema_name: Literal["opt-out-batch/2"] = Field(default="opt-out-batch/2", alias="schema")
    unit: Name
    first_sequence: Annotated[int, Field(ge=1, le=2**53 - 1 - MAX_EVENTS)]
    said: Annotated[tuple[ReissueSaid, ...], Field(min_length=1, max_length=MAX_SAID)]
    pseudonyms: _Column
    places: _Column
    received: _Column
    repeats: _Column
    successors: _Column

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        length = _verify_columns(self, len(self.said))
        for part in self.said:
            refuse_other_acts(part.said)
        if len({(part.said, part.key_version) for part in self.said}) != len(self.said):
            raise ValueError("said: one is there twice")
        column = decoded("repeats", self.repeats)
        if len(column) != length * TIME_BYTES:
            raise ValueError("repeats: the columns have different lengths")
        repeated = times_in(column)
        if min(repeated) < 1 or max(repeated) >= self.first_sequence:
            raise ValueError("repeats: an event before the batch")
        ended = bytes(part.act == "reissued" for part in self.said)
        count_ended = sum(ended[place] for place in decoded("places", self.places))
        if len(decoded("successors", self.successors)) != count_ended * PSEUDONYM_BYTES:
            raise ValueError("successors: one for each re-issued, and for nothing else")
        if any(entry.successor == entry.pseudonym for entry in self.entries()):
            raise ValueError("successor: a re-issue, and nothing else, has another pseudonym")
        return self

    @property
    def sequence(self) -> int:
        """The sequence number of the first event."""
        return self.first_sequence

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last event."""
        return self.first_sequence + len(decoded("places", self.places)) - 1

    @property
    def newest(self) -> datetime:
        """When the event that was received last was received."""
        return moment_of(max(times_in(decoded("received", self.received))))

    def entries(self) -> Iterator[Entry]:
        """Yield the events in sequence, each in a line."""
        known = [(part.said, part.key_version) for part in self.said]
        places = map(known.__getitem__, decoded("places", self.places))
        times = times_in(decoded("received", self.received))
        repeated = times_in(decoded("repeats", self.repeats))
        successors = pseudonyms_in("successors", self.successors)
        pseudonyms = pseudonyms_in("pseudonyms", self.pseudonyms)
        rows = zip(pseudonyms, places, times, repeated, strict=True)
        for pseudonym, (said, key_version), received_us, first in rows:
            successor = next(successors) if said.act == "reissued" else None
            yield Entry(pseudonym, said, received_us, key_version, successor, first)

    def events(self) -> Iterator[OptOutEvent]:
        """Yield the events in sequence, each as a single one would be."""
        return map(event_of, repeat(self.unit), count(self.first_sequence), self.entries())


AnyBatch = OptOutBatch | OptOutBatchV2
_BATCHES = (OptOutBatch, OptOutBatchV2)
Document = OptOutEvent | AnyBatch


def event_of(unit: str, sequence: int, entry: Entry) -> OptOutEvent:
    """Return an event as a single one is. Raises: ValueError for what none may say."""
    return OptOutEvent(
        unit=unit,
        sequence=sequence,
        pseudonym=entry.pseudonym,
        key_version=entry.key_version,
        received_at=moment_of(entry.received_us),
        successor=entry.successor,
        repeats=entry.repeats,
        **entry.said._asdict(),
    )


def documents_of(unit: str, first_sequence: int, entries: Sequence[Entry]) -> Iterator[Document]:
    """Yield what is to be signed of consecutive events: several in a row as batches, one alone by
    itself.

    Raises: ValueError for what no event may say.
    """
    number = first_sequence
    for kind, group in groupby(entries, _kind_of_batch):
        found = list(group)
        if len(found) > 1 and kind == "reissue" and all((e.repeats or 0) < number for e in found):
            yield from reissues_of(unit, number, found)
        elif len(found) > 1 and isinstance(kind, int):
            yield from batches_of(unit, number, kind, found)
        else:
            yield from map(event_of, repeat(unit), count(number), found)
        number += len(found)


def batch_of(
    unit: str, first_sequence: int, key_version: int, entries: Sequence[Entry]
) -> OptOutBatch:
    """Return the batch of these events. Raises: ValueError for too many, or what none may say."""
    places: dict[Said, int] = {}
    column = bytes(places.setdefault(entry.said, len(places)) for entry in entries)
    return OptOutBatch(
        unit=unit,
        first_sequence=first_sequence,
        key_version=key_version,
        said=tuple(BatchSaid(**said._asdict()) for said in places),
        pseudonyms=encoded(bytes.fromhex("".join(entry.pseudonym for entry in entries))),
        places=encoded(column),
        received=encoded(time_column([entry.received_us for entry in entries])),
    )


def batches_of(
    unit: str, first_sequence: int, key_version: int, entries: Sequence[Entry]
) -> Iterator[OptOutBatch]:
    """Yield the batches of any number of events, none too long and none that says too much."""
    for start, end in _cuts([entry.said for entry in entries]):
        yield batch_of(unit, first_sequence + start, key_version, entries[start:end])


def reissues_of(
    unit: str, first_sequence: int, entries: Sequence[Entry]
) -> Iterator[OptOutBatchV2]:
    """Yield the batches of any number of events of re-issues, each of which repeats another one.

    Raises: ValueError for what none may say.
    """
    for start, end in _cuts([(entry.said, entry.key_version) for entry in entries]):
        yield reissue_of(unit, first_sequence + start, entries[start:end])


def reissue_of(unit: str, first_sequence: int, entries: Sequence[Entry]) -> OptOutBatchV2:
    """Return the batch of these events. Raises: ValueError for too many, or what none may say."""
    places: dict[tuple[Said, int], int] = {}
    column = bytes(places.setdefault((e.said, e.key_version), len(places)) for e in entries)
    return OptOutBatchV2(
        unit=unit,
        first_sequence=first_sequence,
        said=tuple(ReissueSaid(**said._asdict(), key_version=key) for said, key in places),
        pseudonyms=encoded(bytes.fromhex("".join(entry.pseudonym for entry in entries))),
        places=encoded(column),
        received=encoded(time_column([entry.received_us for entry in entries])),
        repeats=encoded(time_column([entry.repeats or 0 for entry in entries])),
        successors=encoded(bytes.fromhex("".join(entry.successor or "" for entry in entries))),
    )


def _cuts(said: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """Yield from where to where batches go, none too long and none that says too much."""
    start, known = 0, set[Hashable]()
    for place, each in enumerate(said):
        known.add(each)
        if place - start == MAX_EVENTS or len(known) > MAX_SAID:
            yield start, place
            start, known = place, {each}
    if said:
        yield start, len(said)


def _kind_of_batch(entry: Entry) -> int | Literal["reissue"] | None:
    """Return which batches could hold an event: under which key, or of re-issues; None for none."""
    if entry.repeats:
        return "reissue"
    return None if entry.successor else entry.key_version


def open_document(envelope: Envelope, signer: str, realm: Realm) -> Document:
    """Return the event or batch inside, after its signature was verified.

    Raises: as `open_envelope`.
    """
    if is_batch(envelope, realm):
        return open_envelope(envelope, batch_type(envelope, realm), signer, realm)
    return open_envelope(envelope, OptOutEvent, signer, realm)


def is_batch(envelope: Envelope, realm: Realm) -> bool:
    """Return whether an envelope claims to hold a batch."""
    return envelope.payload_type in {payload_type(kind, realm) for kind in _BATCHES}


def batch_type(envelope: Envelope, realm: Realm) -> type[AnyBatch]:
    """Return which kind of batch an envelope claims to hold, the first kind when it is none."""
    reissued = envelope.payload_type == payload_type(OptOutBatchV2, realm)
    return OptOutBatchV2 if reissued else OptOutBatch


def entries_of(document: Document) -> Iterator[Entry]:
    """Yield the events of a document in sequence, each in a line."""
    return document.entries() if isinstance(document, _BATCHES) else iter((document.entry,))


def events_of(document: Document) -> Iterator[OptOutEvent]:
    """Yield the events of a document in sequence, each as a single one would be."""
    return document.events() if isinstance(document, _BATCHES) else iter((document,))


def last_sequence_of(document: Document) -> int:
    """Return the sequence number of a document's last event."""
    return document.last_sequence if isinstance(document, _BATCHES) else document.sequence


def _verify_columns(batch: "AnyBatch", kinds: int) -> int:
    """Hold the columns that all batches have against each other. Returns: how many events.

    Raises: ValueError that names the field and its rule.
    """
    places, times = decoded("places", batch.places), decoded("received", batch.received)
    pseudonyms = decoded("pseudonyms", batch.pseudonyms)
    length = len(places)
    if not 1 <= length <= MAX_EVENTS:
        raise ValueError(f"places: 1 to {MAX_EVENTS} events")
    if len(pseudonyms) != length * PSEUDONYM_BYTES or len(times) != length * TIME_BYTES:
        raise ValueError("places: the columns have different lengths")
    if list(dict.fromkeys(places)) != list(range(kinds)):
        raise ValueError("said: not each once, in the order of first use")
    moments = times_in(times)
    try:
        moment_of(min(moments)), moment_of(max(moments))
    except OverflowError as error:
        raise ValueError("received: not in the years 1 to 9999 of UTC") from error
    return length
