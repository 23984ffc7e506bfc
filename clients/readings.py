"""Which run could use whose rows: kept at the unit, so that a customer who asks can be answered.

One line for each reading of rows, with the run's permit and plan as they were received, and the
customers who were in the data. Nothing of it ever leaves the unit (ADR 0031).

Guarantees:
    - permit and plan are on disk before the ledger charges the run, and who is in the data before
      anything is computed from it: a crash may leave a reading that nothing came of, never the
      other way round;
    - no identifier is kept, and no pseudonym that governance knows: 64 bits of an HMAC under a key
      of the run's own, whatever becomes of the unit's pseudonym keys;
    - a sweep destroys marks and key once a run's last reading is as long ago as the contract lets
      a row be kept, unless a legal hold keeps them; that there was a reading, and of how many
      exchanges, stays;
    - a damaged file is refused.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.durable import connect, damage_named, exclusive, has_table, transaction
from clients.pseudonyms import KEY_BYTES, Pseudonymiser
from fedcore.contracts import Contract, SubjectRule
from fedcore.errors import TrustError
from fedcore.permits import Permit
from fedcore.rounds import Order
from fedcore.signing import Envelope

_SCHEMA = (
    "CREATE TABLE runs (permit TEXT PRIMARY KEY, permit_envelope BLOB NOT NULL, "
    "plan_envelope BLOB NOT NULL, key BLOB, marks_until TEXT)",
    "CREATE TABLE marks (permit TEXT NOT NULL, version INTEGER NOT NULL, list_mac BLOB NOT NULL, "
    "added BLOB NOT NULL, removed BLOB NOT NULL, digest BLOB NOT NULL, "
    "PRIMARY KEY (permit, version))",
    "CREATE TABLE readings (order_digest TEXT PRIMARY KEY, permit TEXT NOT NULL, "
    "round INTEGER NOT NULL, attempt INTEGER NOT NULL, at TEXT NOT NULL, "
    "last_opt_out INTEGER NOT NULL, version INTEGER NOT NULL)",
)
# Since 0.3: by what the models of an evaluation were trained.
_TRAINING = (
    "CREATE TABLE IF NOT EXISTS training (permit TEXT NOT NULL, place INTEGER NOT NULL, "
    "plan_envelope BLOB NOT NULL, PRIMARY KEY (permit, place))"
)
_MARK = ">u8"
_MARK_DIGITS = 16
Marks = NDArray[np.uint64]


@dataclass(frozen=True)
class Customers:
    """Whose rows were in the data of a reading, and by which contract they are identified."""

    identifiers: Sequence[str]
    contract: Contract


@dataclass(frozen=True)
class Reading:
    """Rows were read for one order.

    Attributes:
        order: the order's digest.
        round: of the run.
        attempt: of the round.
        at: when they were read; its day in UTC is the one by which rows were past retention.
        last_opt_out: the unit's events up to this number had been applied.
        version: of the run's marks.
    """

    order: str
    round: int
    attempt: int
    at: datetime
    last_opt_out: int
    version: int


@dataclass(frozen=True)
class KeptRun:
    """A run's permit and plan as they were received, and its readings, oldest first; of an
    evaluation also the plans that its models were trained by.
    """

    permit: Envelope
    plan: Envelope
    readings: tuple[Reading, ...]
    training: tuple[Envelope, ...] = ()


def keep_run(
    path: Path, permit: Envelope, plan: Envelope, training: Sequence[Envelope] = ()
) -> None:
    """Keep a run's permit and plans, once they were verified; again, it changes nothing.

    Raises: ConflictError `state.busy`, `state.unwritable`; TrustError `readings.corrupt`.
    """
    with _opened(path) as connection:
        if not has_table(connection, "runs"):
            with transaction(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
        if training:
            connection.execute(_TRAINING)
        known = connection.execute("SELECT 1 FROM runs WHERE permit = ?", (permit.digest,))
        if known.fetchone() is None:
            with transaction(connection):
                connection.execute(
                    "INSERT INTO runs (permit, permit_envelope, plan_envelope) VALUES (?, ?, ?)",
                    (permit.digest, permit.to_bytes(), plan.to_bytes()),
                )
                for place, one in enumerate(training):
                    row = (permit.digest, place, one.to_bytes())
                    connection.execute("INSERT INTO training VALUES (?, ?, ?)", row)


def note_reading(
    path: Path, order: Order, customers: Customers, last_opt_out: int, at: datetime
) -> None:
    """Write down who is in the data of an order, before anything is computed from it.

    Raises: as `keep_run`; TrustError `readings.corrupt` also for a run that was not kept.
    """
    until = at + timedelta(days=customers.contract.retention_days)
    with _opened(path) as connection, transaction(connection):
        version = _mark(connection, order.permit, customers)
        connection.execute(
            "UPDATE runs SET marks_until = ? WHERE permit = ?", (until.isoformat(), order.permit)
        )
        connection.execute(
            "INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                order.digest,
                order.permit,
                order.round,
                order.attempt,
                at.isoformat(),
                last_opt_out,
                version,
            ),
        )


def erase_past(path: Path, now: datetime, is_held: Callable[[str], bool]) -> int:
    """Destroy marks and keys of runs whose time is over, and return of how many.

    Args: `is_held` says of a run's name whether a legal hold keeps it.
    Raises: as `keep_run`.
    """
    if not path.exists():
        return 0
    with _opened(path) as connection:
        if not has_table(connection, "runs"):
            return 0
        with transaction(connection):
            rows = connection.execute(
                "SELECT permit, permit_envelope FROM runs "
                "WHERE key IS NOT NULL AND marks_until < ?",
                (now.isoformat(),),
            ).fetchall()
            over = [(permit,) for permit, data in rows if not is_held(_run_of(bytes(data)))]
            connection.executemany("DELETE FROM marks WHERE permit = ?", over)
            connection.executemany("UPDATE runs SET key = NULL WHERE permit = ?", over)
    return len(over)


def _run_of(permit: bytes) -> str:
    return Permit.from_bytes(Envelope.from_bytes(permit).payload_bytes).run_id


def load_runs(path: Path) -> list[KeptRun]:
    """Return the runs that were kept, in the order in which they came; none before the first.

    Raises: as `keep_run`.
    """
    if not path.exists():
        return []
    with _opened(path) as connection:
        if not has_table(connection, "runs"):
            return []
        readings: dict[str, list[Reading]] = {}
        rows = connection.execute(
            "SELECT permit, order_digest, round, attempt, at, last_opt_out, version "
            "FROM readings ORDER BY round, attempt"
        )
        for permit, order, round_, attempt, at, last_opt_out, version in rows:
            moment = datetime.fromisoformat(at)
            found = Reading(order, round_, attempt, moment, last_opt_out, version)
            readings.setdefault(permit, []).append(found)
        training = _training(connection)
        runs = connection.execute(
            "SELECT permit, permit_envelope, plan_envelope FROM runs ORDER BY rowid"
        )
        return [
            KeptRun(
                Envelope.from_bytes(bytes(signed)),
                Envelope.from_bytes(bytes(plan)),
                tuple(readings.get(permit, ())),
                tuple(training.get(permit, ())),
            )
            for permit, signed, plan in runs
        ]


def _training(connection: Any) -> dict[str, list[Envelope]]:
    found: dict[str, list[Envelope]] = {}
    if has_table(connection, "training"):
        rows = connection.execute("SELECT permit, plan_envelope FROM training ORDER BY place")
        for permit, plan in rows:
            found.setdefault(permit, []).append(Envelope.from_bytes(bytes(plan)))
    return found


def find_customer(path: Path, permit: str, identifier: str, rule: SubjectRule) -> dict[int, bool]:
    """Return whether a customer was in the data, by version of a run's marks.

    A version whose marks were destroyed is left out. Among n customers, one who was not there is
    taken for one who was with a chance of n / 2**64; never the other way round.
    Raises: as `keep_run`; DataError `data.subject_missing`.
    """
    with _opened(path) as connection:
        row = connection.execute("SELECT key FROM runs WHERE permit = ?", (permit,)).fetchone()
        if row is None or row[0] is None:
            return {}
        (mark,) = _marks_of(bytes(row[0]), rule, [identifier])
        found, is_in = dict[int, bool](), False
        for version, added, removed in _changes(connection, permit):
            is_in = (is_in or bool((added == mark).any())) and not bool((removed == mark).any())
            found[version] = is_in
        return found


def _mark(connection: Any, permit: str, customers: Customers) -> int:
    """Return a version of a run's marks with just these customers, made if there is none."""
    row = connection.execute("SELECT key FROM runs WHERE permit = ?", (permit,)).fetchone()
    if row is None:
        raise TrustError("readings.corrupt", "the readings lack a run that the node works for")
    key = bytes(row[0] or os.urandom(KEY_BYTES))
    list_mac = hmac.digest(key, json.dumps(list(customers.identifiers)).encode(), hashlib.sha256)
    # Not the last ones only: a run with checks reads two lists by turns.
    known = connection.execute(
        "SELECT version FROM marks WHERE permit = ? AND list_mac = ? ORDER BY version DESC LIMIT 1",
        (permit, list_mac),
    ).fetchone()
    if known is not None:
        return int(known[0])
    before = _present(connection, permit)
    present = np.unique(_marks_of(key, customers.contract.subject, customers.identifiers))
    added, removed = (
        _bytes(np.setdiff1d(*pair)) for pair in ((present, before), (before, present))
    )
    version = _last_version(connection, permit) + 1
    connection.execute(
        "INSERT INTO marks VALUES (?, ?, ?, ?, ?, ?)",
        (permit, version, list_mac, added, removed, _digest(added, removed)),
    )
    connection.execute("UPDATE runs SET key = ? WHERE permit = ?", (key, permit))
    return version


def _last_version(connection: Any, permit: str) -> int:
    """Return the last version that a run ever had, also when its marks are gone."""
    query = "SELECT MAX(version) FROM readings WHERE permit = ?"
    return int(connection.execute(query, (permit,)).fetchone()[0] or 0)


def _present(connection: Any, permit: str) -> Marks:
    present: Marks = np.array([], dtype=np.uint64)
    for _, added, removed in _changes(connection, permit):
        present = np.setdiff1d(np.union1d(present, added), removed)
    return present


def _changes(connection: Any, permit: str) -> Iterator[tuple[int, Marks, Marks]]:
    """Yield each version of a run's marks as what it added to the one before, and removed."""
    rows = connection.execute(
        "SELECT version, added, removed, digest FROM marks WHERE permit = ? ORDER BY version",
        (permit,),
    )
    for version, added, removed, digest in rows:
        if _digest(bytes(added), bytes(removed)) != bytes(digest):
            raise TrustError("readings.corrupt", "the marks of a run's customers were altered")
        yield version, np.frombuffer(added, _MARK), np.frombuffer(removed, _MARK)


def _marks_of(key: bytes, rule: SubjectRule, identifiers: Sequence[str]) -> Marks:
    maker = Pseudonymiser(key, rule)
    marks = (int(maker.pseudonym(one)[:_MARK_DIGITS], 16) for one in identifiers)
    return np.fromiter(marks, np.uint64, len(identifiers))


def _bytes(marks: Marks) -> bytes:
    return marks.astype(_MARK).tobytes()


def _digest(added: bytes, removed: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(added).digest() + removed).digest()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    # One process at a time: SQLite lets nobody wait while a file is made or recovered.
    with (
        exclusive(path.with_suffix(".lock")),
        damage_named("readings.corrupt", "the record of readings"),
        closing(connect(path)) as connection,
    ):
        connection.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten
        yield connection
