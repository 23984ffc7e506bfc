"""The hand-over to another signing key, on the service's host.

The order makes a crash harmless: the new key is on the disk before the hand-over is logged, and the
hand-over is logged before the new key takes the old one's place. Between the two no service signs
any more (`governance.office`), and the same command finishes what is left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlmodel import Session

from fedcore.atomic import sync_directory
from fedcore.errors import ConflictError
from fedcore.handovers import KeyHandover, sign_handover
from fedcore.signing import SigningKey
from governance.settings import GovernanceSettings
from registry import documents
from registry.database import Database
from registry.documents import Filing


@dataclass(frozen=True)
class HandedOver:
    """What a hand-over led from and to, as public keys; `finished` one that was begun before."""

    old_key: str
    new_key: str
    finished: bool


def rotate_key(
    settings: GovernanceSettings, reason: str, now: Callable[[], datetime]
) -> HandedOver:
    """Replace the signing key by a fresh one, to which the old one has handed over in the log.

    Guarantees: killed at any point, the old key or the new one is in its place, whole; a second
        call finishes the first. The old private key is gone in the end.
    Raises: InvalidRecordError `key.unreadable`, `key.permissions`; ConflictError `key.other` when
        the key that was handed over to is not the one that lies beside.
    """
    path = settings.signing_key
    beside = path.with_name(path.name + ".next")
    old = SigningKey.load(path)
    database = Database(settings.database_url)
    try:
        with database.writing() as session:
            begun = _successor(session, old.public)
            new = _next_key(beside, begun)
            if begun is None:
                envelope = sign_handover(old, new, settings.realm, reason, now())
                documents.append(session, KeyHandover, envelope, Filing(now()))
    finally:
        database.close()
    beside.replace(path)
    sync_directory(path.parent)
    return HandedOver(old.public, new.public, begun is not None)


def _successor(session: Session, old: str) -> str | None:
    """Return the key that an unfinished hand-over has named, or None."""
    for envelope in documents.of_kind(session, KeyHandover):
        if envelope.signer == old:
            return KeyHandover.from_bytes(envelope.payload_bytes).new_key
    return None


def _next_key(beside: Path, begun: str | None) -> SigningKey:
    """Return the key to hand over to: a fresh one, or the one of an unfinished hand-over."""
    if begun is None:
        beside.unlink(missing_ok=True)  # of a call that was killed before it logged anything
        SigningKey.generate().save(beside)
    new = SigningKey.load(beside)
    if begun not in (None, new.public):
        raise ConflictError(
            "key.other",
            f"{beside.name} is not the key that governance has handed over to: restore it from "
            "its backup",
        )
    return new
