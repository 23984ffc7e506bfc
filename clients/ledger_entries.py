"""What a ledger consists of: entries in a chain, and how one is read, hashed and appended.

Entry i has the hash sha256(hash[i-1] || sha256(body[i])) over raw bytes. The chain starts at
`GENESIS`; that of a rebuilt ledger starts at the last head that governance has witnessed of the
lost one, which its first entry names, so that nobody can go on with both.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import Any

from fedcore import canonical
from fedcore.bulletins import WitnessedHead
from fedcore.errors import BudgetError, ConflictError, InvalidRecordError, TrustError
from fedcore.rounds import Order

GENESIS = WitnessedHead(sequence=0, hash=bytes(32).hex())
SCHEMA = (
    "CREATE TABLE entries (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL, hash TEXT NOT NULL)",
    "CREATE TABLE replies (order_digest TEXT PRIMARY KEY, reply BLOB NOT NULL, "
    "snapshot_key BLOB NOT NULL)",
    "CREATE TABLE witness (id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL, "
    "hash TEXT NOT NULL)",
    "CREATE TRIGGER entries_kept BEFORE DELETE ON entries "
    "BEGIN SELECT RAISE(ABORT, 'append-only'); END",
    "CREATE TRIGGER entries_fixed BEFORE UPDATE ON entries "
    "BEGIN SELECT RAISE(ABORT, 'append-only'); END",
)
# What each kind of entry is read for; an entry without it is damaged.
_FIELDS = {
    "open": {"unit", "namespace"},
    "reserve": {"run_id", "permit", "event", "exchanges", "at"},
    "order": {"run_id", "round", "attempt", "order"},
    "reply": {"order", "reply"},
    "close": {"run_id", "exchanges", "why", "at"},
    "swept": {"run_id", "orders", "days", "holds", "at"},
}


@dataclass(frozen=True)
class Entry:
    """One line of the ledger: kind `open`, `reserve`, `order`, `reply`, `close` or `swept`."""

    sequence: int
    hash: str
    kind: str
    body: dict[str, Any]


def append(connection: Connection, body: dict[str, Any], start: WitnessedHead = GENESIS) -> None:
    """Write the next entry; an empty file's first one follows `start`."""
    row = connection.execute(
        "SELECT sequence, hash FROM entries ORDER BY sequence DESC LIMIT 1"
    ).fetchone()
    sequence, previous = row or (start.sequence, start.hash)
    data = canonical.encode(body)
    connection.execute(
        "INSERT INTO entries VALUES (?, ?, ?)", (sequence + 1, data, chain(previous, data))
    )


def chain(previous: str, body: bytes) -> str:
    """Return the hash of the entry that has this body and follows the one of this hash."""
    return hashlib.sha256(bytes.fromhex(previous) + hashlib.sha256(body).digest()).hexdigest()


def start_of(first: bytes | None) -> WitnessedHead:
    """Return where a chain starts, by the body of its first entry, if there is one.

    Raises: TrustError `ledger.corrupt`.
    """
    try:
        body = {} if first is None else canonical.decode(bytes(first))
    except InvalidRecordError as error:
        raise TrustError("ledger.corrupt", "ledger entry 1 was altered", str(error)) from error
    return WitnessedHead.model_validate(body["follows"]) if "follows" in body else GENESIS


def read_entry(previous: WitnessedHead, sequence: int, body: bytes, found: str) -> Entry:
    """Return the entry that follows `previous`.

    Raises: TrustError `ledger.corrupt` when it does not; KeyError for one that says too little.
    """
    if sequence != previous.sequence + 1 or found != chain(previous.hash, body):
        raise TrustError(
            "ledger.corrupt", f"ledger entry {previous.sequence + 1} was altered or removed"
        )
    value = canonical.decode(body)
    missing = _FIELDS[value["kind"]] - set(value)
    if missing:
        raise KeyError(*sorted(missing))
    return Entry(sequence=sequence, hash=found, kind=value["kind"], body=value)


def order_body(order: Order, at: datetime) -> dict[str, Any]:
    """Return the entry of an order that is begun."""
    return {
        "kind": "order",
        "order": order.digest,
        "run_id": order.run_id,
        "round": order.round,
        "attempt": order.attempt,
        "model": order.model,
        "needed_until": order.deadline_at.isoformat(),
        "at": at.isoformat(),
    }


def is_slot_of(body: Mapping[str, Any], order: Order) -> bool:
    """Return whether an order's entry has the run, round and attempt of an order."""
    return (body["run_id"], body["round"], body["attempt"]) == (
        order.run_id,
        order.round,
        order.attempt,
    )


def verify_next(order: Order, begun: Sequence[Mapping[str, Any]], exchanges: int) -> None:
    """Hold an order against the entries of those that its run has begun, and what it reserved.

    Raises: BudgetError `budget.exchanges_exceeded`; ConflictError `order.old`.
    """
    if len(begun) >= exchanges:
        raise BudgetError(
            [("budget.exchanges_exceeded", "the run has used all exchanges that it reserved")]
        )
    if any((body["round"], body["attempt"]) >= (order.round, order.attempt) for body in begun):
        raise ConflictError("order.old", "a later round or attempt of this run was begun already")
