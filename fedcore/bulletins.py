"""The bulletins that carry a unit's opt-outs back to it, and the requests for them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from fedcore.group_opt_outs import MAX_UNITS, GroupPart, GroupSeen
from fedcore.record import At, Counter, Digest, Hex256, Name, Part, Realm, Record
from fedcore.signing import Envelope

EPOCH_S = 3600


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

    `answer` names the bulletin that the node reads; without it, it is `bulletin/1`. `group_seen`
    says that it acts on the opt-outs of its group, and which of them it holds.
    """

    schema_name: Literal["bulletin-request/1"] = Field(default="bulletin-request/1", alias="schema")
    unit: Name
    nonce: Hex256
    after_sequence: Counter
    checkpoint_size: Counter
    head: HeadClaim
    requested_at: At
    answer: Literal["bulletin/2"] | None = None
    group_seen: Annotated[tuple[GroupSeen, ...], Field(max_length=MAX_UNITS)] | None = None


class LogPosition(Part):
    """A size of the log and its root."""

    size: Counter
    root: Hex256


class Bulletin(Record):
    """What a unit's node must know before it reads rows. Signed by governance.

    `set_digest` is that of all current states after the unit's events up to `last_sequence`
    (`fedcore.opt_out_sets`): a node that lacks some of them fetches them, each signed by itself.
    `revoked_runs` are runs with this unit; `consistency` proves that `log` extends the log that the
    node saw last. `group` is what other units of its group, if it has one, were told. The nonce
    makes the digest of a bulletin unguessable.
    """

    schema_name: Literal["bulletin/2"] = Field(default="bulletin/2", alias="schema")
    unit: Name
    nonce: Hex256
    realm: Realm
    epoch: Counter
    last_sequence: Counter
    set_digest: Digest
    revoked_runs: tuple[Name, ...]
    log: LogPosition
    consistency: tuple[Hex256, ...]
    witnessed: WitnessedHead
    issued_at: At
    valid_until: At
    group: GroupPart | None = None


class BulletinV1(Record):
    """A bulletin as version 0.2 reads it: with all events after the requested sequence.

    `events` are the node's own signed events after the requested sequence; `set_digest` is that of
    the set of pairs that results; the rest is as in `Bulletin`.
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


AnyBulletin = Bulletin | BulletinV1


def epoch_of(moment: datetime) -> int:
    """Return the hourly epoch of a time."""
    return int(moment.timestamp()) // EPOCH_S
