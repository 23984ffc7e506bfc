"""Opt-outs and the bulletins that carry them back to the unit they belong to."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from fedcore.canonical import digest_of
from fedcore.record import At, Counter, Digest, Hex256, Name, Part, Realm, Record
from fedcore.signing import Envelope

EPOCH_S = 3600


class OptOutEvent(Record):
    """A customer, under a pseudonym that only the unit can make, objects to a purpose.

    Signed by the unit's node. Sequence numbers are gapless per unit, from 1.
    """

    schema_name: Literal["opt-out/1"] = Field(default="opt-out/1", alias="schema")
    unit: Name
    sequence: Annotated[int, Field(ge=1, le=2**53 - 1)]
    pseudonym: Hex256
    key_version: Annotated[int, Field(ge=1)]
    purpose: Name
    channel: Name
    ground: Literal["art21_2", "art21_1", "art7_3", "art17", "art18"]
    received_at: At


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
    """A node asks for its bulletin and has its ledger head witnessed. Signed by the node."""

    schema_name: Literal["bulletin-request/1"] = Field(default="bulletin-request/1", alias="schema")
    unit: Name
    nonce: Hex256
    after_sequence: Counter
    checkpoint_size: Counter
    head: HeadClaim
    requested_at: At


class LogPosition(Part):
    """A size of the log and its root."""

    size: Counter
    root: Hex256


class Bulletin(Record):
    """What a unit's node must know before it reads rows. Signed by governance.

    `events` are the node's own signed events after the requested sequence; `set_digest` is that of
    the set that results; `revoked_runs` are runs with this unit; `consistency` proves that `log`
    extends the log that the node saw last. The nonce makes the digest of a bulletin unguessable.
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


def epoch_of(moment: datetime) -> int:
    """Return the hourly epoch of a time."""
    return int(moment.timestamp()) // EPOCH_S


def set_digest(entries: frozenset[tuple[str, str]]) -> str:
    """Return the digest of a set of (pseudonym, purpose) pairs, independent of order."""
    return digest_of(sorted([pseudonym, purpose] for pseudonym, purpose in entries))
