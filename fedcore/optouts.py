"""Opt-outs, and what each legal ground does.

Guarantees: whoever has a unit's events has the same state of each objection; what the table does
    not allow is refused; a customer is in again only by a step that the table names.
"""

from collections import Counter as CountOf
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, NamedTuple, Protocol, Self

from pydantic import Field, model_validator

from fedcore.canonical import digest_of
from fedcore.errors import ConflictError
from fedcore.record import At, Hex256, Name, Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Ground = Literal["art21_2", "art21_1", "art7_3", "art17", "art18", "ccpa_120", "gpc"]
Act = Literal["withdrawn", "upheld", "rejected", "erased", "lifted", "consented", "reissued"]
Reason = Literal["compelling_grounds", "legal_claims"]
State = Literal[
    "excluded",
    "pending",
    "upheld",
    "rejected",
    "erasure_due",
    "erased",
    "restricted",
    "lifted",
    "withdrawn",
    "consented",
    "reissued",
]
Subject = tuple[str, str, Ground]
# The state of each objection: by purpose and ground, then by pseudonym.
States = dict[tuple[str, Ground], dict[str, State]]

# In these states an objection excludes nobody; in every other one it does.
_IN_AGAIN: frozenset[State] = frozenset(
    {"rejected", "lifted", "withdrawn", "consented", "reissued"}
)


@dataclass(frozen=True)
class Effect:
    """What an objection on one ground does.

    Attributes:
        first: the state that it begins in, or begins in anew after the customer was in again.
        steps: the state that an act leads to, by the state before; every other act is refused.
        every_purpose: whether it excludes from all purposes, whichever one it names.
    """

    first: State
    steps: Mapping[tuple[State | None, Act], State]
    every_purpose: bool = False

    @property
    def acts(self) -> frozenset[Act]:
        """The acts that customer or unit have on this ground."""
        return frozenset(act for _, act in self.steps)


_ABSOLUTE = Effect("excluded", {("excluded", "withdrawn"): "withdrawn"})
EFFECTS: Mapping[Ground, Effect] = {
    "art21_2": _ABSOLUTE,
    "art21_1": Effect(
        "pending",
        {
            ("pending", "upheld"): "upheld",
            ("pending", "rejected"): "rejected",
            ("rejected", "upheld"): "upheld",
            ("pending", "withdrawn"): "withdrawn",
            ("upheld", "withdrawn"): "withdrawn",
        },
    ),
    "art7_3": Effect(
        "excluded",
        {
            (None, "consented"): "consented",
            ("excluded", "consented"): "consented",
            ("consented", "consented"): "consented",
        },
    ),
    "art17": Effect(
        "erasure_due",
        {
            ("erasure_due", "erased"): "erased",
            ("erasure_due", "withdrawn"): "withdrawn",
        },
        every_purpose=True,
    ),
    "art18": Effect(
        "restricted",
        {
            ("restricted", "lifted"): "lifted",
            ("restricted", "withdrawn"): "withdrawn",
        },
        every_purpose=True,
    ),
    "ccpa_120": _ABSOLUTE,
    "gpc": _ABSOLUTE,
}


class Step(Protocol):
    """What the table looks at: an objection, or an act on one."""

    @property
    def ground(self) -> Ground:
        """The legal ground."""

    @property
    def act(self) -> Act | None:
        """What became of the objection; None for the objection itself."""


class Said(NamedTuple):
    """What an event says, besides of whom and when."""

    purpose: str
    channel: str
    ground: Ground
    act: Act | None = None
    reason: Reason | None = None

    @property
    def is_always_open(self) -> bool:
        """Whether it may follow any state: an objection, and a consent."""
        return self.act is None or self.act == "consented"


class Entry(NamedTuple):
    """One event in a line: of whom, what, and when in microseconds since 1970; under which key, and
    of a re-issue, as in `OptOutEvent`, its successor and what it repeats.
    """

    pseudonym: str
    said: Said
    received_us: int
    key_version: int
    successor: str | None = None
    repeats: int | None = None

    @property
    def subject(self) -> Subject:
        """What the event is about: customer, purpose and ground."""
        return self.pseudonym, self.said.purpose, self.said.ground


class OptOutEvent(Record):
    """A customer, under a pseudonym that only the unit can make, objects to a purpose; or, with an
    `act`, what became of it.

    `reissued` ends what is known under a pseudonym of a former key; it goes on under `successor`,
    where each event of it was repeated: `repeats` is the sequence of what was first said, in the
    end of what the last one said.
    Signed by the unit's node. Sequence numbers are gapless per unit, from 1.
    Guarantees: the ground has the act; a rejection has a reason, which its re-issue
        repeats, and nothing else has; a re-issue, and nothing else, has a successor.
    """

    schema_name: Literal["opt-out/1"] = Field(default="opt-out/1", alias="schema")
    unit: Name
    sequence: Annotated[int, Field(ge=1, le=2**53 - 1)]
    pseudonym: Hex256
    key_version: Annotated[int, Field(ge=1)]
    purpose: Name
    channel: Name
    ground: Ground
    received_at: At
    act: Act | None = None
    reason: Reason | None = None
    successor: Hex256 | None = None
    repeats: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _acts_of_the_ground(self) -> Self:
        refuse_other_acts(self.said)
        if (self.act == "reissued") != (self.successor not in (None, self.pseudonym)):
            raise ValueError("successor: a re-issue, and nothing else, has another pseudonym")
        if self.repeats is not None and self.repeats >= self.sequence:
            raise ValueError("repeats: an event before this one")
        return self

    @property
    def subject(self) -> Subject:
        """What the event is about: customer, purpose and ground."""
        return self.pseudonym, self.purpose, self.ground

    @property
    def heir(self) -> Subject | None:
        """What goes on in the place of a re-issued one; None for any other event."""
        return (self.successor, self.purpose, self.ground) if self.successor else None

    @property
    def said(self) -> Said:
        """What the event says."""
        return Said(self.purpose, self.channel, self.ground, self.act, self.reason)

    @property
    def entry(self) -> Entry:
        """The event in a line."""
        received_us = microseconds(self.received_at)
        more = (self.key_version, self.successor, self.repeats)
        return Entry(self.pseudonym, self.said, received_us, *more)


def is_repeat(entry: Entry, first: Entry) -> bool:
    """Return whether this says under a later key what the first event said, or ends that."""
    if first.repeats is not None:
        return False
    said, before = entry.said, first.said
    if said.act == "reissued":
        return (said.purpose, said.ground, said.reason) == (
            (before.purpose, before.ground, before.reason)
        )
    return (said, entry.received_us) == (before, first.received_us)


def refuse_other_acts(said: Said) -> None:
    """Refuse an act that the ground does not have, and a reason of anything but a rejection or its
    re-issue.

    Raises: ValueError that names the field and its rule.
    """
    if said.act == "reissued":
        return
    if said.act is not None and said.act not in EFFECTS[said.ground].acts:
        raise ValueError(f"act: there is no such act on ground {said.ground}")
    if (said.act == "rejected") != (said.reason is not None):
        raise ValueError("reason: a rejection, and nothing else, has one")


def microseconds(moment: datetime) -> int:
    """Return a time in whole microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(received_us: int) -> datetime:
    """Return the time of `microseconds`. Raises: OverflowError outside the years 1 to 9999."""
    return _EPOCH + received_us * _MICROSECOND


def next_state(event: Step, before: State | None, heir: State | None = None) -> State:
    """Return the state that an event leads to, from the one before; None for the first.

    Args: `heir` is the state of what goes on in the place of a re-issued one.
    Guarantees: nothing is re-issued before its heir is in the very same state.
    Raises: ConflictError `opt_out.act_not_open` for an act that the table does not allow there.
    """
    effect = EFFECTS[event.ground]
    if event.act is None:
        return effect.first if before is None or before in _IN_AGAIN else before
    if event.act == "reissued" and before not in (None, "reissued") and before == heir:
        return "reissued"
    # What was re-issued is begun anew by a new word, as if nothing had been said before it.
    after = effect.steps.get((None if before == "reissued" else before, event.act))
    if after is None:
        found = "there is no such objection" if before is None else f"the objection is {before}"
        raise ConflictError(
            "opt_out.act_not_open", f"{found}: on ground {event.ground} it cannot be {event.act}"
        )
    return after


def states_of(entries: Iterable[Entry]) -> States:
    """Return the current state of each objection, from a unit's events in sequence.

    Raises: ConflictError `opt_out.act_not_open`.
    """
    states: States = {}
    advance(states, entries)
    return states


def advance(states: States, entries: Iterable[Entry]) -> None:
    """Take the next events into the states.

    Raises: ConflictError `opt_out.act_not_open`; the states are then those before that event.
    """
    last: Said | None = None
    group: dict[str, State] = {}
    for pseudonym, said, _, _, successor, _ in entries:
        if said is not last:  # most events say what the one before does
            group, last = states.setdefault((said.purpose, said.ground), {}), said
        heir = group.get(successor) if successor else None
        group[pseudonym] = next_state(said, group.get(pseudonym), heir)


def advance_by_one(states: States, said: Said, pseudonyms: Iterable[str]) -> None:
    """Take in that many customers say one thing which is always open: as `advance` does, faster."""
    group = states.setdefault((said.purpose, said.ground), {})
    reached = dict.fromkeys(pseudonyms, next_state(said, None))
    for pseudonym in group.keys() & reached.keys():
        reached[pseudonym] = next_state(said, group[pseudonym])
    group.update(reached)


def live_versions(entries: Iterable[Entry], states: States) -> Mapping[int, int]:
    """Return the key versions that are needed still, each with how many objections and consents
    are known under it and were not re-issued.
    """
    versions = {
        entry.subject: entry.key_version
        for entry in entries
        if states[entry.said.purpose, entry.said.ground][entry.pseudonym] != "reissued"
    }
    return CountOf(versions.values())


def excluded_from(states: States, purposes: tuple[str, ...]) -> frozenset[str]:
    """Return the pseudonyms that are excluded from a purpose, given with all its ancestors."""
    return frozenset(
        pseudonym
        for (purpose, ground), group in states.items()
        if purpose in purposes or EFFECTS[ground].every_purpose
        for pseudonym, state in group.items()
        if state not in _IN_AGAIN
    )


def consenting_to(states: States, purpose: str) -> frozenset[str]:
    """Return the pseudonyms with a current consent to this very purpose."""
    return frozenset(
        pseudonym
        for (named, _), group in states.items()
        if named == purpose
        for pseudonym, state in group.items()
        if state == "consented"
    )


def excludes(reached: State) -> bool:
    """Return whether an objection in this state keeps its customer out."""
    return reached not in _IN_AGAIN


def set_digest(entries: frozenset[tuple[str, str]]) -> str:
    """Return the digest of a set of (pseudonym, purpose) pairs, independent of order."""
    return digest_of(sorted([pseudonym, purpose] for pseudonym, purpose in entries))
