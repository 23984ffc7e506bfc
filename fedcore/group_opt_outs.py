"""Opt-outs of a group of units: given at one of them, they act at each.

Each is under a pseudonym of a key that the group's units share and governance never has, signed by
the unit that took it in, and sealed with the shared key, so that governance can drop none in
between, alter none and make none up.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator

from fedcore import canonical
from fedcore.contracts import Normaliser
from fedcore.errors import SignatureError
from fedcore.record import At, Counter, Digest, Hex256, Name, Part, PublicKey, Record
from fedcore.signing import Envelope

MAX_EVENTS = 2_000
MAX_UNITS = 1_000

# Those that the customer's word alone begins and ends: no unit decides on them for another.
GroupGround = Literal["art21_2", "ccpa_120", "gpc"]
Standing = tuple[str, str, str, str]


class OptOutGroup(Record):
    """Which units act on each other's group opt-outs. Signed by governance.

    A later version has all units of the one before. `key_check` tells the group's key from another
    one, and tells nothing of it; `namespace` and `normaliser` are the rule of its pseudonyms.
    """

    schema_name: Literal["opt-out-group/1"] = Field(default="opt-out-group/1", alias="schema")
    group: Name
    version: Annotated[int, Field(ge=1)]
    units: Annotated[tuple[Name, ...], Field(min_length=2, max_length=MAX_UNITS)]
    namespace: Name
    normaliser: Normaliser
    key_check: Hex256
    decided_by: Name
    decided_at: At

    @model_validator(mode="after")
    def _units_once(self) -> Self:
        if list(self.units) != sorted(set(self.units)):
            raise ValueError("units: sorted, each once")
        return self


class GroupOptOut(Record):
    """A customer objects to a purpose at all units of a group, or takes that back at the unit where
    it was said. Signed by that unit's node.

    Sequence numbers are gapless per unit, from 1. `seal` is the HMAC-SHA256 of all other fields
    under the group's key.
    """

    schema_name: Literal["group-opt-out/1"] = Field(default="group-opt-out/1", alias="schema")
    group: Name
    unit: Name
    sequence: Annotated[int, Field(ge=1, le=2**53 - 1)]
    pseudonym: Hex256
    purpose: Name
    channel: Name
    ground: GroupGround
    received_at: At
    act: Literal["withdrawn"] | None = None
    seal: Hex256

    @property
    def about(self) -> Standing:
        """What it is about: unit, customer, purpose and ground."""
        return self.unit, self.pseudonym, self.purpose, self.ground


class GroupSetAside(Record):
    """A unit of a group says that a group opt-out has no seal of the group's key, so that whoever
    finds the same passes over it. Signed by that unit's node.

    `by` is the unit that says so; `unit`, `sequence` and `event`, its digest, name the opt-out.
    `seal` is as in `GroupOptOut`: whoever has no key sets nothing aside.
    """

    schema_name: Literal["group-set-aside/1"] = Field(default="group-set-aside/1", alias="schema")
    group: Name
    by: Name
    unit: Name
    sequence: Annotated[int, Field(ge=1, le=2**53 - 1)]
    event: Digest
    decided_at: At
    seal: Hex256

    @property
    def about(self) -> tuple[str, int, str]:
        """What it is about: unit, number and digest of the group opt-out."""
        return self.unit, self.sequence, self.event


Sealed = TypeVar("Sealed", GroupOptOut, GroupSetAside)


class GroupSource(Part):
    """A unit of a group as a bulletin shows it: the keys that its node has and had, and the number
    of its newest group opt-out.
    """

    unit: Name
    node_keys: Annotated[tuple[PublicKey, ...], Field(max_length=10_000)]
    last_sequence: Counter


class GroupPart(Part):
    """What a bulletin says of the unit's group: its sources, and the opt-outs after those that the
    request names, the first of them when they are many. `set_aside` are the GroupSetAsides about
    them, and about the unit's own; absent when there are none.
    """

    group: Name
    version: Annotated[int, Field(ge=1)]
    normaliser: Normaliser
    key_check: Hex256
    sources: Annotated[tuple[GroupSource, ...], Field(max_length=MAX_UNITS)]
    events: Annotated[tuple[Envelope, ...], Field(max_length=MAX_EVENTS)]
    set_aside: Annotated[tuple[Envelope, ...], Field(max_length=MAX_EVENTS)] | None = None


class GroupSeen(Part):
    """Up to which number a node holds a unit's group opt-outs."""

    unit: Name
    sequence: Annotated[int, Field(ge=1, le=2**53 - 1)]


def sealed(said: Sealed, key: bytes) -> Sealed:
    """Return the event, or what sets one aside, with the seal of a key."""
    return said.model_copy(update={"seal": _seal_of(said, key)})


def is_sealed(said: GroupOptOut | GroupSetAside, key: bytes) -> bool:
    """Return whether somebody with the group's key has made this."""
    return hmac.compare_digest(said.seal, _seal_of(said, key))


def verify_seal(said: GroupOptOut | GroupSetAside, key: bytes) -> None:
    """Refuse what nobody with the group's key has made. Raises: SignatureError `group.unsealed`."""
    if not is_sealed(said, key):
        raise SignatureError(
            "group.unsealed", "a group opt-out was made or altered by somebody without the key"
        )


def standing_of(events: Iterable[GroupOptOut]) -> frozenset[Standing]:
    """Return which group opt-outs stand, from each unit's events in sequence.

    Guarantees: what one unit takes back leaves what another one was told standing.
    """
    standing: set[Standing] = set()
    for event in events:
        if event.act == "withdrawn":
            standing.discard(event.about)
        else:
            standing.add(event.about)
    return frozenset(standing)


def excluded_by_group(
    standing: Iterable[Standing], line: Iterable[str], known: Iterable[str]
) -> frozenset[str]:
    """Return the pseudonyms that group opt-outs exclude from a purpose.

    Args: `line` is the purpose with all above it; `known` are all purposes of the contract.
    Guarantees: one to a purpose that this unit's contract does not know, as another unit's may,
        excludes from every purpose.
    """
    within, names = set(line), set(known)
    return frozenset(
        pseudonym
        for _, pseudonym, purpose, _ in standing
        if purpose in within or purpose not in names
    )


def _seal_of(record: GroupOptOut | GroupSetAside, key: bytes) -> str:
    said = record.to_json()
    del said["seal"]
    message = f"fedpact.{record.schema_id()}".encode() + canonical.encode(said)
    return hmac.new(key, message, hashlib.sha256).hexdigest()
