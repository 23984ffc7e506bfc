"""Governance's keys over time: each hands over to the next by a document that both of them sign.

A verifier is given one key and finds all others from there: forwards, because the old key names
its successor; backwards, because the new key has accepted to be one. A retired key still speaks for
what it signed before it was retired, and for nothing later. Time inside a document is its signer's
own word, so whoever has stolen a retired key can date a document back: where the log can be seen, a
document of a retired key must also have been logged before the hand-over (`fedcore.verify`), and a
node obeys such a permit only if the current key vouches for it (`clients.admission`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal, Self, TypeVar

from pydantic import Field, model_validator

from fedcore.errors import MismatchError, RollbackError, SignatureError
from fedcore.record import At, PublicKey, Realm, Record, Text
from fedcore.signing import Envelope, SigningKey, open_envelope, sign_record

R = TypeVar("R", bound=Record)
# Where a governance-signed record says when it was signed; contracts and DPIAs do not say.
_STATED = (
    "issued_at", "registered_at", "revoked_at", "decided_at", "evaluated_at", "audited_at",
    "waived_at", "approved_at", "moved_at",
)  # fmt: skip


class KeyAcceptance(Record):
    """A new key of governance accepts to follow an old one. Signed by the new key."""

    schema_name: Literal["key-acceptance/1"] = Field(default="key-acceptance/1", alias="schema")
    realm: Realm
    old_key: PublicKey
    new_key: PublicKey
    issued_at: At


class KeyHandover(Record):
    """Governance signs with another key from now on. Signed by the old key, around the acceptance
    that the new key signed.
    """

    schema_name: Literal["key-handover/1"] = Field(default="key-handover/1", alias="schema")
    realm: Realm
    old_key: PublicKey
    new_key: PublicKey
    reason: Text
    issued_at: At
    acceptance: Envelope

    @model_validator(mode="after")
    def _two_keys(self) -> Self:
        if self.old_key == self.new_key:
            raise ValueError("new_key: must be another key than old_key")
        return self


@dataclass(frozen=True)
class HeldKey:
    """A key of governance, and when it was retired; None for the current one."""

    key: str
    retired_at: datetime | None


@dataclass(frozen=True)
class GovernanceKeys:
    """The keys of governance, oldest first; the last one is the current one.

    `handovers` are the documents between them, in the same order.
    """

    held: tuple[HeldKey, ...]
    handovers: tuple[Envelope, ...] = ()

    @classmethod
    def of(cls, key: str) -> Self:
        """Return the keys of a governance that has only ever had this one."""
        return cls((HeldKey(key, None),))

    @property
    def current(self) -> str:
        """The key that signs now."""
        return self.held[-1].key

    def knows(self, key: str) -> bool:
        """Return whether a key is or was governance's."""
        return any(item.key == key for item in self.held)

    def open(self, envelope: Envelope, record_type: type[R], realm: Realm) -> R:
        """Return the record inside, signed by the current key, or by a retired one in its time.

        Raises: SignatureError `signature.wrong_key`, `signature.key_retired`, and as
            `open_envelope`.
        """
        signer = envelope.signer if self.knows(envelope.signer) else self.current
        record = open_envelope(envelope, record_type, signer, realm)
        retired_at = next(item.retired_at for item in self.held if item.key == signer)
        stated_at = _stated_at(record)
        if retired_at is not None and stated_at is not None and stated_at > retired_at:
            raise _retired(record_type, "after it had handed over to the next one")
        return record

    def open_current(self, envelope: Envelope, record_type: type[R], realm: Realm) -> R:
        """Return the record inside, signed by the current key and no other.

        Raises: SignatureError `signature.wrong_key`, `signature.key_retired`, and as
            `open_envelope`.
        """
        if envelope.signer != self.current and self.knows(envelope.signer):
            raise _retired(record_type, "which counts for older documents only")
        return open_envelope(envelope, record_type, self.current, realm)


def sign_handover(
    old: SigningKey, new: SigningKey, realm: Realm, reason: str, now: datetime
) -> Envelope:
    """Return the hand-over from one key to the next, signed by both."""
    acceptance = KeyAcceptance(realm=realm, old_key=old.public, new_key=new.public, issued_at=now)
    handover = KeyHandover(
        realm=realm,
        old_key=old.public,
        new_key=new.public,
        reason=reason,
        issued_at=now,
        acceptance=sign_record(acceptance, new, realm),
    )
    return sign_record(handover, old, realm)


def open_handover(envelope: Envelope, realm: Realm) -> KeyHandover:
    """Return a hand-over after both signatures were verified.

    Whether it means anything depends on whether either key is governance's: `follow_handovers`.
    Raises: SignatureError; MismatchError `handover.invalid`.
    """
    handover = open_envelope(envelope, KeyHandover, envelope.signer, realm)
    accepted = open_envelope(handover.acceptance, KeyAcceptance, handover.new_key, realm)
    said = (handover.realm, handover.old_key, handover.new_key, handover.issued_at)
    if said != (accepted.realm, accepted.old_key, accepted.new_key, accepted.issued_at):
        raise _invalid("the new key accepted another hand-over")
    if handover.old_key != envelope.signer or handover.realm != realm:
        raise _invalid("the hand-over is not signed by the old key, or is of another realm")
    return handover


def follow_handovers(pinned: str, envelopes: Sequence[Envelope], realm: Realm) -> GovernanceKeys:
    """Return governance's keys, as they follow from one of them.

    Hand-overs that do not lead to or from the pinned key count for nothing.
    Guarantees: every step is signed by both of its keys; independent of the order of `envelopes`.
    Raises: SignatureError; MismatchError `handover.invalid`, and `handover.forked` when one key has
        two successors, or two keys have one.
    """
    opened = {envelope.digest: (open_handover(envelope, realm), envelope) for envelope in envelopes}
    by_old = {handover.old_key: (handover, envelope) for handover, envelope in opened.values()}
    by_new = {handover.new_key: (handover, envelope) for handover, envelope in opened.values()}
    if not len(by_old) == len(by_new) == len(opened):
        raise MismatchError("handover.forked", "one key of governance has two successors")
    first = _first(pinned, {new: handover.old_key for new, (handover, _) in by_new.items()})
    steps, key = [], first
    while key in by_old:
        steps.append(by_old.pop(key))
        key = steps[-1][0].new_key
    handovers = [handover for handover, _ in steps]
    if any(later.issued_at < earlier.issued_at for earlier, later in pairwise(handovers)):
        raise _invalid("a key handed over before it had been handed over to")
    held = [HeldKey(handover.old_key, handover.issued_at) for handover in handovers]
    return GovernanceKeys((*held, HeldKey(key, None)), tuple(envelope for _, envelope in steps))


def verify_extends(known: Sequence[Envelope], offered: Sequence[Envelope], realm: Realm) -> None:
    """Hold the hand-overs that governance shows now against those that were seen before.

    Raises: MismatchError `handover.forked` when a key has another successor now; RollbackError
        `handover.rollback` when one is left out.
    """
    successors = {item.old_key: item for item in (open_handover(each, realm) for each in offered)}
    for envelope in known:
        seen = open_handover(envelope, realm)
        found = successors.get(seen.old_key)
        if found is None:
            raise RollbackError(
                "handover.rollback", "governance has forgotten that it handed over to another key"
            )
        if found != seen:
            raise MismatchError("handover.forked", "one key of governance has two successors")


def _first(pinned: str, predecessors: Mapping[str, str]) -> str:
    key, seen = pinned, {pinned}
    while key in predecessors:
        key = predecessors[key]
        if key in seen:
            raise _invalid("the hand-overs go round in a circle")
        seen.add(key)
    return key


def _stated_at(record: Record) -> datetime | None:
    stated = (getattr(record, name, None) for name in _STATED)
    return next((moment for moment in stated if isinstance(moment, datetime)), None)


def _invalid(sentence: str) -> MismatchError:
    return MismatchError("handover.invalid", sentence)


def _retired(record_type: type[Record], sentence: str) -> SignatureError:
    return SignatureError(
        "signature.key_retired",
        f"the {record_type.schema_id()} document is signed by a retired key, {sentence}",
    )
