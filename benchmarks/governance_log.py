"""Long logs for `governance.py`: filled in bulk, appended to one by one, exported and proved."""

import random
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert, text

from fedcore import merkle
from fedcore.bulletins import LogPosition
from fedcore.bundle import LogExportHeader
from fedcore.models import Checkpoint, LogEntry
from fedcore.permits import UnitCertificate
from fedcore.record import Realm
from fedcore.rounds import Cosignature
from fedcore.signing import SigningKey, sign_record
from registry import log
from registry.database import Database
from registry.tables.documents import LogEntryRow, LogNodeRow

_PAGE = 10_000
_UNITS = 50
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def entry_of(number: int) -> bytes:
    """Return an entry's canonical bytes, without the cost of making a record a million times."""
    document, salt = f"sha256:{number:064x}", secrets.token_hex(32)
    return (
        f'{{"document":"{document}","kind":"receipt","salt":"{salt}","schema":"log-entry/1"}}'
    ).encode()


def fill_log(database: Database, entries: int) -> None:
    """Write a log in pages, with its subtrees, as appending one by one would."""
    if LogEntry.from_bytes(entry_of(0)).to_bytes()[:12] != entry_of(0)[:12]:
        raise ValueError("an entry is not canonical")
    peaks = merkle.Peaks()
    for first in range(0, entries, _PAGE):
        leaves, nodes = [], []
        for place in range(first, min(first + _PAGE, entries)):
            data = entry_of(place)
            leaf = merkle.leaf_hash(data)
            leaves.append(
                {
                    "position": place,
                    "document": f"sha256:{place:064x}",
                    "entry": data.decode(),
                    "leaf_hash": leaf.hex(),
                }
            )
            nodes += [
                {"level": node.level, "place": node.place, "hash": value.hex()}
                for node, value in peaks.append(leaf)
            ]
        with database.writing() as session:
            session.connection().execute(insert(LogEntryRow), leaves)
            if nodes:
                session.connection().execute(insert(LogNodeRow), nodes)


def appends_per_s(database: Database, count: int) -> float:
    """Return how many entries a second are appended, one transaction each."""
    start = time.perf_counter()
    for _ in range(count):
        with database.writing() as session:
            log.append(session, "receipt", f"sha256:{secrets.token_hex(32)}")
    return count / (time.perf_counter() - start)


def make_floor(database: Database) -> None:
    """Make the table of `commits_per_s`."""
    with database.restoring() as connection:
        connection.execute(text("CREATE TABLE floor (document VARCHAR(71) PRIMARY KEY)"))


def commits_per_s(database: Database, count: int) -> float:
    """Return how many bare transactions of one insert a second the same database commits."""
    start = time.perf_counter()
    for _ in range(count):
        with database.restoring() as connection:
            connection.execute(
                text("INSERT INTO floor (document) VALUES (:document)"),
                {"document": f"sha256:{secrets.token_hex(32)}"},
            )
    return count / (time.perf_counter() - start)


def proof_ms(database: Database, count: int) -> float:
    """Return the mean milliseconds of a transaction that reads root, inclusion and consistency."""
    spent = 0.0
    chooser = random.Random(1)  # noqa: S311 - chooses places, no secrets
    for _ in range(count):
        start = time.perf_counter()
        with database.reading() as session:
            view = log.load_view(session)
            view.position()
            view.inclusion(chooser.randrange(view.size))
            view.consistency(chooser.randrange(view.size))
        spent += time.perf_counter() - start
    return 1000 * spent / count


def write_export(path: Path, entries: int) -> str:
    """Write an export of a log that 50 units have cosigned, and return governance's key."""
    key, realm = SigningKey.generate(), Realm.SIMULATION
    nodes = {f"unit-{number}": SigningKey.generate() for number in range(_UNITS)}
    lines = path.with_suffix(".lines")
    peaks, seen = merkle.Peaks(), {}
    with lines.open("wb") as file:
        for number in range(entries):
            data = entry_of(number)
            file.write(data + b"\n")
            peaks.append(merkle.leaf_hash(data))
            if peaks.size % (entries // _UNITS) == 0:
                seen[f"unit-{len(seen)}"] = LogPosition(size=peaks.size, root=peaks.root().hex())
    position = LogPosition(size=peaks.size, root=peaks.root().hex())
    header = LogExportHeader(
        checkpoint=sign_record(Checkpoint(realm=realm, log=position, issued_at=NOW), key, realm),
        certificates=tuple(sign_record(item, key, realm) for item in _certificates(nodes)),
        cosignatures=tuple(
            sign_record(Cosignature(unit=unit, log=log, seen_at=NOW), nodes[unit], realm)
            for unit, log in seen.items()
        ),
        handovers=(),
    )
    with path.open("wb") as whole, lines.open("rb") as file:
        whole.write(header.to_bytes() + b"\n")
        whole.writelines(file)
    return key.public


def _certificates(nodes: dict[str, SigningKey]) -> Iterator[UnitCertificate]:
    for unit, key in nodes.items():
        yield UnitCertificate(
            unit=unit,
            node_key=key.public,
            size_band=1024,
            enrolment="sha256:" + "0" * 64,
            issued_at=NOW,
        )
