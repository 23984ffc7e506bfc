"""Opt-outs, what each legal ground does, and the bulletins that carry them back to their unit.

Guarantees: whoever has a unit's events has the same state of each objection; what the table does
    not allow is refused; a customer is in again only by a step that the table names.
"""

from collections import Counter as CountOf
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.canonical import digest_of
from fedcore.errors import ConflictError
from fedcore.group_opt_outs import MAX_UNITS, GroupPart, GroupSeen
from fedcore.record import At, Counter, Digest, Hex256, Name, Part, Realm, Record
from fedcore.signing import Envelope

EPOCH_S = 3600

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
        if self.act not in (None, "reissued") and self.act not in EFFECTS[self.ground].acts:
            raise ValueError(f"act: there is no such act on ground {self.ground}")
        if self.act != "reissued" and (self.act == "rejected") != (self.reason is not None):
            raise ValueError("reason: a rejection, and nothing else, has one")
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

    def is_repeat_of(self, first: "OptOutEvent") -> bool:
        """Return whether this says under a later key what the first event said, or ends that."""
        own = {"pseudonym", "key_version", "sequence", "repeats"}
        if self.act == "reissued":
            own |= {"act", "channel", "received_at", "successor"}
        same = first.model_dump(exclude=own) == self.model_dump(exclude=own)
        return same and first.repeats is None

    @property
    def is_always_open(self) -> bool:
        """Whether it may follow any state: an objection, and a consent."""
        return self.act is None or self.act == "consented"


def next_state(event: OptOutEvent, before: State | None, heir: State | None = None) -> State:
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


def states_of(events: Iterable[OptOutEvent]) -> dict[Subject, State]:
    """Return the current state of each objection, from a unit's events in sequence.

    Raises: ConflictError `opt_out.act_not_open`.
    """
    states: dict[Subject, State] = {}
    for event in events:
        states[event.subject] = state_after(event, states)
    return states


def state_after(event: OptOutEvent, states: Mapping[Subject, State]) -> State:
    """Return the state of its subject that an event leads to, given the states before it.

    Raises: ConflictError `opt_out.act_not_open`.
    """
    heir = states.get(event.heir) if event.heir else None
    return next_state(event, states.get(event.subject), heir)


def live_versions(
    events: Iterable[OptOutEvent], states: Mapping[Subject, State]
) -> Mapping[int, int]:
    """Return the key versions that are needed still, each with how many objections and consents
    are known under it and were not re-issued.
    """
    versions = {e.subject: e.key_version for e in events if states[e.subject] != "reissued"}
    return CountOf(versions.values())


def standing(states: Mapping[Subject, State]) -> frozenset[tuple[str, str]]:
    """Return the (pseudonym, purpose) pairs with an objection that excludes."""
    return frozenset(
        (pseudonym, purpose) for (pseudonym, purpose, _), state in states.items() if excludes(state)
    )


def excluded_from(states: Mapping[Subject, State], purposes: tuple[str, ...]) -> frozenset[str]:
    """Return the pseudonyms that are excluded from a purpose, given with all its ancestors."""
    return frozenset(
        pseudonym
        for (pseudonym, purpose, ground), state in states.items()
        if excludes(state) and (purpose in purposes or EFFECTS[ground].every_purpose)
    )


def consenting_to(states: Mapping[Subject, State], purpose: str) -> frozenset[str]:
    """Return the pseudonyms with a current consent to this very purpose."""
    return frozenset(
        pseudonym
        for (pseudonym, named, _), state in states.items()
        if named == purpose and state == "consented"
    )


def excludes(reached: State) -> bool:
    """Return whether an objection in this state keeps its customer out."""
    return reached not in _IN_AGAIN


class HeadClaim(Part):
    """A ledger's head and the body digests of its entries after the last witnessed one.

    With them governance recomputes the chain from the head that it witnessed before.
    """

    sequence: Counter
    hash: Hex256
    since: Counter
    body_digests: Annotated[tuple[Hex256, ...], Field(max_length=10_000)]


class WitnessedHead(Part):
    """The newest ledger head that governance has seen from a unit."""

    sequence: Counter
    hash: Hex256


class BulletinRequest(Record):
    """A node asks for its bulletin and has its ledger head witnessed. Signed by the node.

    `group_seen` says that it acts on the opt-outs of its group, and which of them it holds.
    """

    schema_name: Literal["bulletin-request/1"] = Field(default="bulletin-request/1", alias="schema")
    unit: Name
    nonce: Hex256
    after_sequence: Counter
    checkpoint_size: Counter
    head: HeadClaim
    requested_at: At
    group_seen: Annotated[tuple[GroupSeen, ...], Field(max_length=MAX_UNITS)] | None = None


class LogPosition(Part):
    """A size of the log and its root."""

    size: Counter
    root: Hex256


class Bulletin(Record):
    """What a unit's node must know before it reads rows. Signed by governance.

    `events` are the node's own signed events after the requested sequence; `set_digest` is that of
    the set that results; `revoked_runs` are runs with this unit; `consistency` proves that `log`
    extends the log that the node saw last. The nonce makes the digest of a bulletin unguessable.
    `group` is what other units of its group, if it has one, were told.
    """

    schema_name: Literal["bulletin/1"] = Field(default="bulletin/1", alias="schema")
    unit: Name
    nonce: Hex256
    realm: Realm
    epoch: Counter
    events: tuple[Envelope, ...]
    last_sequence: Counter
    set_digest: Digest
    revoked_runs: tuple[Name, ...]
    log: LogPosition
    consistency: tuple[Hex256, ...]
    witnessed: WitnessedHead
    issued_at: At
    valid_until: At
    group: GroupPart | None = None


def epoch_of(moment: datetime) -> int:
    """Return the hourly epoch of a time."""
    return int(moment.timestamp()) // EPOCH_S


def set_digest(entries: frozenset[tuple[str, str]]) -> str:
    """Return the digest of a set of (pseudonym, purpose) pairs, independent of order."""
    return digest_of(sorted([pseudonym, purpose] for pseudonym, purpose in entries))
