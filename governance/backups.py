"""Backups of governance's database, sealed by its key, and restored only when they verify.

A backup is one file: a line for each row, all of one moment, and as its last line the seal, which
signs their digest and the log's position.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import Field
from sqlmodel import Session

from fedcore.bulletins import LogPosition
from fedcore.errors import ConflictError, InvalidRecordError, MismatchError
from fedcore.record import At, Counter, Digest, Realm, Record
from fedcore.signing import Envelope, SigningKey, open_envelope, sign_record
from governance.settings import GovernanceSettings
from registry import backups, log
from registry.database import Database
from registry.soundness import verify_stored_log


class BackupSeal(Record):
    """What a backup holds: the digest of its lines, their number, and the log in it."""

    schema_name: Literal["backup-seal/1"] = Field(default="backup-seal/1", alias="schema")
    realm: Realm
    lines: Counter
    content: Digest
    log: LogPosition
    made_at: At


def back_up(settings: GovernanceSettings, path: Path, now: datetime) -> BackupSeal:
    """Write a backup of the database to a new file, while the service may go on.

    Guarantees: all rows are of one moment; the file is for its owner only, and either whole or not
        there.
    Raises: ConflictError `file.exists`; FedError of the database or the key.
    """
    key = SigningKey.load(settings.signing_key)
    digest, count = hashlib.sha256(), 0
    with _opened(settings) as database, _new_file(path) as file, database.reading() as session:
        position = log.load_view(session).position()
        for line in backups.dump(session):
            file.write(line)
            digest.update(line)
            count += 1
        seal = BackupSeal(
            realm=settings.realm,
            lines=count,
            content="sha256:" + digest.hexdigest(),
            log=position,
            made_at=now,
        )
        file.write(sign_record(seal, key, settings.realm).to_bytes() + b"\n")
    return seal


def restore(settings: GovernanceSettings, path: Path) -> BackupSeal:
    """Fill the empty database that the settings name, and return what the backup's seal says.

    Guarantees: nothing is restored unless this service's key sealed exactly these lines, and every
        entry, subtree and document of the log verifies, and leads to the sealed position.
    Raises: SignatureError; InvalidRecordError `backup.unreadable`; MismatchError `backup.changed`,
        `log.entry_changed`; ConflictError `database.not_empty`, `backup.other_version`.
    """
    seal = _verified_seal(settings, path)
    with _opened(settings) as database, database.restoring() as connection, path.open("rb") as file:
        backups.load(connection, (line for _, line in zip(range(seal.lines), file, strict=False)))
        with Session(connection) as session:
            if verify_stored_log(session) != seal.log:
                raise MismatchError("backup.changed", "the backup's log is not the sealed one")
    return seal


def _verified_seal(settings: GovernanceSettings, path: Path) -> BackupSeal:
    """Return the seal of a file, after all lines before it were hashed again."""
    digest, count, last = hashlib.sha256(), 0, b""
    try:
        with path.open("rb") as file:
            for line in file:
                digest.update(last)
                last, count = line, count + 1
    except OSError as error:
        raise InvalidRecordError(
            "backup.unreadable", f"{path.name} cannot be read", str(error)
        ) from error
    key = SigningKey.load(settings.signing_key).public
    envelope = Envelope.from_bytes(last.rstrip(b"\n"))
    seal = open_envelope(envelope, BackupSeal, key, settings.realm)
    if (seal.lines, seal.content) != (count - 1, "sha256:" + digest.hexdigest()):
        raise MismatchError("backup.changed", "the backup is not as it was when it was sealed")
    return seal


@contextmanager
def _opened(settings: GovernanceSettings) -> Iterator[Database]:
    database = Database(settings.database_url)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Give a new file for its owner only; it gets its name when it is whole and on the disk."""
    if path.exists():
        raise ConflictError("file.exists", f"{path} is there already; name another file")
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
