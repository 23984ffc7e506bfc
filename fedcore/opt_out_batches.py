"""Many events of one unit under one signature, in columns of fixed width.

Guarantees: equal events have one form and so equal bytes; what a single event may not say, none of
    a batch may; a batch's numbers are gapless.
"""

import base64
import binascii
import struct
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import compress, count, groupby, islice, repeat
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from fedcore.optouts import (
    Act,
    Entry,
    Ground,
    OptOutEvent,
    Reason,
    Said,
    States,
    advance,
    advance_by_one,
    moment_of,
    refuse_other_acts,
)
from fedcore.record import Name, Part, Realm, Record
from fedcore.signing import Envelope, open_envelope, payload_type

MAX_EVENTS = 10_000
MAX_SAID = 256
_PSEUDONYM_BYTES = 32
_TIME_BYTES = 8
_HEX = 2 * _PSEUDONYM_BYTES

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
        places, times = _decoded("places", self.places), _decoded("received", self.received)
        pseudonyms = _decoded("pseudonyms", self.pseudonyms)
        length = len(places)
        if not 1 <= length <= MAX_EVENTS:
            raise ValueError(f"places: 1 to {MAX_EVENTS} events")
        if len(pseudonyms) != length * _PSEUDONYM_BYTES or len(times) != length * _TIME_BYTES:
            raise ValueError("places: the columns have different lengths")
        if list(dict.fromkeys(places)) != list(range(len(self.said))):
            raise ValueError("said: not each once, in the order of first use")
        for part in self.said:
            if part.act == "reissued":
                raise ValueError("act: a re-issue names its successor, so it is signed by itself")
            refuse_other_acts(part.said)
        if len({part.said for part in self.said}) != len(self.said):
            raise ValueError("said: one is there twice")
        moments = _times(times)
        try:
            moment_of(min(moments)), moment_of(max(moments))
        except OverflowError as error:
            raise ValueError("received: not in the years 1 to 9999 of UTC") from error
        return self

    @property
    def sequence(self) -> int:
        """The sequence number of the first event."""
        return self.first_sequence

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last event."""
        return self.first_sequence + len(_decoded("places", self.places)) - 1

    @property
    def newest(self) -> datetime:
        """When the event that was received last was received."""
        return moment_of(max(_times(_decoded("received", self.received))))

    def entries(self) -> Iterator[Entry]:
        """Yield the events in sequence, each in a line."""
        pseudonyms = self._pseudonyms()
        said = [part.said for part in self.said]
        places = map(said.__getitem__, _decoded("places", self.places))
        times = _times(_decoded("received", self.received))
        return map(Entry, pseudonyms, places, times, repeat(self.key_version))

    def advance(self, states: States) -> None:
        """Take the events into the states. Raises: as `fedcore.optouts.advance`."""
        acts = {(part.purpose, part.ground): part.act for part in self.said}
        if not all(
            part.said.is_always_open and acts[part.purpose, part.ground] == part.act
            for part in self.said
        ):
            advance(states, self.entries())
            return
        # Of customers who say the same, it plays no part who says it first.
        pseudonyms, places = list(self._pseudonyms()), _decoded("places", self.places)
        for place, part in enumerate(self.said):
            advance_by_one(states, part.said, compress(pseudonyms, map(place.__eq__, places)))

    def _pseudonyms(self) -> Iterator[str]:
        digits = _decoded("pseudonyms", self.pseudonyms).hex()
        return (digits[at : at + _HEX] for at in range(0, len(digits), _HEX))

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


def documents_of(
    unit: str, first_sequence: int, entries: Sequence[Entry]
) -> Iterator[OptOutEvent | OptOutBatch]:
    """Yield what is to be signed of consecutive events: several in a row as batches, one alone by
    itself, and so each part of a re-issue, which says more than a batch can.

    Raises: ValueError for what no event may say.
    """
    number = first_sequence
    for key_version, group in groupby(entries, _key_of_batch):
        found = list(group)
        if key_version is not None and len(found) > 1:
            yield from batches_of(unit, number, key_version, found)
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
        pseudonyms=_encoded(bytes.fromhex("".join(entry.pseudonym for entry in entries))),
        places=_encoded(column),
        received=_encoded(_time_column([entry.received_us for entry in entries])),
    )


def batches_of(
    unit: str, first_sequence: int, key_version: int, entries: Sequence[Entry]
) -> Iterator[OptOutBatch]:
    """Yield the batches of any number of events, none too long and none that says too much."""
    start, said = 0, set[Said]()
    for place, entry in enumerate(entries):
        said.add(entry.said)
        if place - start == MAX_EVENTS or len(said) > MAX_SAID:
            yield batch_of(unit, first_sequence + start, key_version, entries[start:place])
            start, said = place, {entry.said}
    if entries:
        yield batch_of(unit, first_sequence + start, key_version, entries[start:])


def _key_of_batch(entry: Entry) -> int | None:
    """Return under which key a batch could hold an event; None when none could."""
    return None if entry.successor or entry.repeats else entry.key_version


def open_document(envelope: Envelope, signer: str, realm: Realm) -> OptOutEvent | OptOutBatch:
    """Return the event or batch inside, after its signature was verified.

    Raises: as `open_envelope`.
    """
    if is_batch(envelope, realm):
        return open_envelope(envelope, OptOutBatch, signer, realm)
    return open_envelope(envelope, OptOutEvent, signer, realm)


def is_batch(envelope: Envelope, realm: Realm) -> bool:
    """Return whether an envelope claims to hold a batch."""
    return envelope.payload_type == payload_type(OptOutBatch, realm)


def entries_of(document: OptOutEvent | OptOutBatch) -> Iterator[Entry]:
    """Yield the events of a document in sequence, each in a line."""
    return document.entries() if isinstance(document, OptOutBatch) else iter((document.entry,))


def events_of(document: OptOutEvent | OptOutBatch) -> Iterator[OptOutEvent]:
    """Yield the events of a document in sequence, each as a single one would be."""
    return document.events() if isinstance(document, OptOutBatch) else iter((document,))


def take(states: States, document: OptOutEvent | OptOutBatch) -> None:
    """Take the events of a document into the states. Raises: as `fedcore.optouts.advance`."""
    if isinstance(document, OptOutBatch):
        document.advance(states)
    else:
        advance(states, (document.entry,))


def last_sequence_of(document: OptOutEvent | OptOutBatch) -> int:
    """Return the sequence number of a document's last event."""
    return document.last_sequence if isinstance(document, OptOutBatch) else document.sequence


def _times(column: bytes) -> tuple[int, ...]:
    length, rows = len(column) // _TIME_BYTES, bytearray(len(column))
    for byte in range(_TIME_BYTES):
        rows[byte::_TIME_BYTES] = column[byte * length : (byte + 1) * length]
    return struct.unpack(f">{length}q", rows)


def _time_column(times: Sequence[int]) -> bytes:
    rows = struct.pack(f">{len(times)}q", *times)
    return b"".join(rows[byte::_TIME_BYTES] for byte in range(_TIME_BYTES))


def _encoded(column: bytes) -> str:
    return base64.b64encode(column).decode()


def _decoded(name: str, column: str) -> bytes:
    try:
        data = base64.b64decode(column, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{name}: not base64") from error
    if _encoded(data) != column:
        raise ValueError(f"{name}: not canonical base64")
    return data
