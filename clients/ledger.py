"""The write-ahead privacy ledger of one customer base: what was promised, asked and answered.

An append-only chain of entries in SQLite (WAL, full sync): entry i has the hash
sha256(hash[i-1] || sha256(body[i])). A whole run is reserved as one block before its first row is
read; each order is written before rows are read, and its reply before it is sent. Nothing that was
begun is refunded; a run that is closed counts as what was begun and one exchange more, which an
older disk might not know of, and goes on no more.

Guarantees:
    - reserved events never exceed the cap of the Renyi filter, over the whole history; the first
      reservation fixes cap and delta, without which the filter proves nothing (ADR 0003);
    - one answer per order: a repeat gets the stored bytes or a refusal;
    - a closed run stays closed: no order of it is begun, settled or repeated (ADR 0051);
    - a stored reply goes only together with the entry that says so, and its charge stays;
    - after a crash at any point the ledger charges at least what left the node;
    - an edited, swapped, truncated or rolled-back file is refused (the last together with
      governance, which witnesses the head and refuses an older one);
    - two processes cannot spend the same budget: each write holds the database's write lock.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from clients.budget import (
    Cap,
    Reservation,
    Reserved,
    Why,
    read_reserved,
    use_terms,
    verify_granted,
    verify_same_cap,
    verify_within,
)
from clients.durable import (
    closed_on_error,
    connect,
    damage_named,
    snapshot,
    storage_named,
    transaction,
)
from clients.ledger_entries import (
    GENESIS,
    SCHEMA,
    Entry,
    append,
    is_slot_of,
    order_body,
    read_entry,
    start_of,
    verify_next,
)
from clients.reservations import Reservations, close_body
from fedcore import canonical
from fedcore.bulletins import HeadClaim, WitnessedHead
from fedcore.errors import (
    ConflictError,
    MismatchError,
    RollbackError,
    TrustError,
)
from fedcore.privacy.events import PrivacyEvent
from fedcore.rounds import Order


class Ledger:
    """The ledger of one customer base, opened from its file and verified whole.

    Attributes:
        cap: the most that may ever be spent.
        start: where the chain starts.
    """

    def __init__(self, path: Path, unit: str, namespace: str, cap: Cap) -> None:
        """Open a ledger.

        Raises: TrustError `ledger.missing`, `ledger.corrupt`, `ledger.other_base`; RollbackError
            `ledger.rollback` when entries that governance witnessed are gone.
        """
        if not path.exists():
            raise TrustError("ledger.missing", f"there is no ledger at {path.name}")
        self.cap = cap
        self.start = GENESIS
        self._entries: list[Entry] = []
        self._reservations = Reservations()
        self._read = 0
        with _damage():
            self._connection = connect(path)
            with closed_on_error(self._connection), snapshot(self._connection):
                self._verify(unit, namespace)

    @staticmethod
    def create(
        path: Path,
        unit: str,
        namespace: str,
        at: datetime,
        follows: WitnessedHead = GENESIS,
        reserved: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Write a new ledger for a customer base; an existing file is refused.

        Args: a rebuilt one `follows` the last witnessed head of the lost one, and begins with the
        bodies of what that may have `reserved`.
        Raises: ConflictError `ledger.exists`.
        """
        if path.exists():
            raise ConflictError("ledger.exists", f"there is a ledger at {path.name} already")
        body: dict[str, Any] = {"kind": "open", "unit": unit, "namespace": namespace}
        body |= {"at": at.isoformat()}
        if follows != GENESIS:
            body |= {"follows": follows.model_dump(mode="json")}
        with _storage(), closing(connect(path)) as connection, transaction(connection):
            for statement in SCHEMA:
                connection.execute(statement)
            for each in (body, *reserved):
                append(connection, each, follows)
            if follows != GENESIS:
                connection.execute(
                    "INSERT INTO witness VALUES (1, ?, ?)", (follows.sequence, follows.hash)
                )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first, another process's included.

        Raises: TrustError `ledger.corrupt` when an entry does not follow from the one before.
        """
        with _damage():
            for row in self._connection.execute(
                "SELECT sequence, body, hash FROM entries WHERE sequence > ? ORDER BY sequence",
                (self._newest().sequence,),
            ).fetchall():
                self._entries.append(read_entry(self._newest(), *row))
        return list(self._entries)

    def reservations(self) -> list[Reserved]:
        """Return everything that counts for the customer base, oldest first: open runs as they were
        reserved, closed ones as `Reservations` counts them.

        Raises: TrustError `ledger.corrupt`.
        """
        return self._noted().listed()

    def events(self) -> list[PrivacyEvent]:
        """Return every event that counts, the whole history of the customer base."""
        return [one.event for one in self.reservations()]

    def verify_open(self, run_id: str) -> None:
        """Raises: as `Reservations.verify_open`."""
        self._noted().verify_open(run_id)

    def claim(self) -> HeadClaim:
        """Return the head, and the digests that lead to it from the last witnessed one."""
        since, entries = self._witness().sequence, self.entries()
        bodies = [canonical.encode(e.body) for e in entries if e.sequence > since]
        head = entries[-1]
        return HeadClaim(
            sequence=head.sequence,
            hash=head.hash,
            since=since,
            body_digests=tuple(hashlib.sha256(body).hexdigest() for body in bodies),
        )

    def mark_witnessed(self, head: WitnessedHead) -> None:
        """Remember that governance has countersigned this head."""
        with _storage(), transaction(self._connection):
            self._connection.execute(
                "INSERT INTO witness VALUES (1, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash",
                (head.sequence, head.hash),
            )

    def stored_reply(self, order: Order) -> bytes | None:
        """Return the bytes that this very order was answered with, or None when it is new.

        Raises: ConflictError `order.unanswered` when the order was begun and never answered, as
            after a crash; `order.swept` when its reply was deleted since; `order.replayed` when
            another order had this run, round and attempt; as `Reservations.verify_open`.
        """
        self._noted().verify_open(order.run_id)
        begun = [e for e in self.entries() if e.kind == "order" and is_slot_of(e.body, order)]
        if not begun:
            return None
        if begun[-1].body["order"] != order.digest:
            raise ConflictError(
                "order.replayed",
                "this run, round and attempt was already ordered: send a new attempt",
            )
        with _damage():
            row = self._connection.execute(
                "SELECT reply FROM replies WHERE order_digest = ?", (order.digest,)
            ).fetchone()
        if row is None and order.digest in self._swept():
            raise ConflictError(
                "order.swept", "the answer was kept as long as it may be: send a new attempt"
            )
        if row is None:
            raise ConflictError(
                "order.unanswered", "this order was begun and not answered: send a new attempt"
            )
        return bytes(row[0])

    def begin(self, order: Order, reservation: Reservation, at: datetime) -> None:
        """Write the order, and before a run's first order its reservation, in one transaction.

        Raises: BudgetError `budget.exceeded` when the whole history with the run would pass the
            cap, `budget.purpose_exceeded`, `budget.line_exceeded`, `budget.year_exceeded` when
            a part of it would pass that part's, `ledger.other_cap` when the settings name another
            cap or delta than the first reservation, `budget.permit_exceeded` when the run would
            cost more than its permit grants, `budget.exchanges_exceeded` when the run has used up
            its exchanges;
            ConflictError `order.old` for a round before one that was begun; MismatchError
            `order.other_permit` when the run was reserved on other terms: a second permit of its
            name is not paid for; `ledger.rebuilt` when it was begun, or may have been, under a
            ledger that was lost; as `Reservations.verify_open`.
        """
        with _storage(), transaction(self._connection):
            self._noted().verify_open(order.run_id)
            entries = self.entries()
            of_run = [e for e in entries if e.body.get("run_id") == order.run_id]
            reserved = [e.body for e in of_run if e.kind == "reserve"]
            if any("rebuilt" in body for body in reserved):
                raise MismatchError(
                    "ledger.rebuilt",
                    "the run's answers were lost with the former ledger: take a fresh run id",
                )
            if not reserved:
                self._reserve(reservation, at)
            elif reserved[0] != {**reserved[0], **reservation.terms}:
                raise MismatchError(
                    "order.other_permit", "the run was reserved under another permit"
                )
            begun = [e.body for e in of_run if e.kind == "order"]
            verify_next(order, begun, reservation.exchanges)
            append(self._connection, order_body(order, at))

    def settle(self, order: Order, reply: bytes, snapshot_key: bytes, at: datetime) -> None:
        """Store the exact reply bytes, before they are sent. Raises: `Reservations.verify_open`."""
        body = {
            "kind": "reply",
            "order": order.digest,
            "reply": canonical.digest(reply),
            "at": at.isoformat(),
        }
        with _storage(), transaction(self._connection):
            self._noted().verify_open(order.run_id)
            self._connection.execute(
                "INSERT INTO replies VALUES (?, ?, ?)", (order.digest, reply, snapshot_key)
            )
            append(self._connection, body)

    def close_runs(self, run_ids: Iterable[str], why: Why, at: datetime) -> tuple[str, ...]:
        """Close those of these runs that are open here, and return them.

        Guarantees: from the entry on no order of the run is answered, and what was begun of it
            stays charged; whoever asks for it can do no more than end the run. A run of a lost
            ledger stays as it is: how often it was answered is not known.
        """
        noted, closed = self._noted(), list[str]()
        for run_id in filter(noted.is_open, run_ids):
            with _storage(), transaction(self._connection):
                if self._noted().is_open(run_id):
                    append(self._connection, close_body(run_id, why, self._noted(), at))
                    closed.append(run_id)
        return tuple(closed)

    def sweep(self, decide: Callable[[list[Entry]], Sequence[dict[str, Any]]]) -> None:
        """Delete stored replies for good, and write that down, in one transaction.

        Args: `decide` gets all entries, and returns the bodies of the `swept` entries to write,
        each naming `orders` whose replies go.
        Guarantees: of a deleted reply no copy is left in the database file; none in its log either,
            once no other process reads it: each sweep, with or without anything to delete, tries.
        """
        with _storage():
            self._connection.execute("PRAGMA secure_delete = ON")
            with transaction(self._connection):
                for body in decide(self.entries()):
                    append(self._connection, body)
                    self._connection.executemany(
                        "DELETE FROM replies WHERE order_digest = ?",
                        [(order,) for order in body["orders"]],
                    )
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def verify_one_unwitnessed(self) -> None:
        """Allow at most one order, and no reservation, beyond what governance has witnessed.

        Raises: RollbackError `ledger.unwitnessed`.
        """
        since = self._witness().sequence
        ahead = [e.kind for e in self.entries() if e.sequence > since]
        if "reserve" in ahead or ahead.count("order") > 1:
            raise RollbackError(
                "ledger.unwitnessed", "governance must witness the ledger before another round"
            )

    def head(self) -> WitnessedHead:
        """Return the newest entry's sequence and hash."""
        self.entries()
        return self._newest()

    def _reserve(self, reservation: Reservation, at: datetime) -> None:
        verify_same_cap((e.body for e in self.entries() if e.kind == "reserve"), self.cap)
        verify_granted(reservation, self.cap.delta)
        body = {
            "kind": "reserve",
            **reservation.terms,
            **use_terms(reservation.use, reservation.bounds, reservation.split),
            "cap": asdict(self.cap),
            "at": at.isoformat(),
        }
        if reservation.update_retention_days is not None:
            body["update_retention_days"] = reservation.update_retention_days
        verify_within(self._noted().groups.reserved(), read_reserved(body), self.cap)
        append(self._connection, body)

    def _noted(self) -> Reservations:
        entries = self.entries()
        with _damage():
            for entry in entries[self._read :]:
                self._reservations.note(entry)
                self._read += 1
        return self._reservations

    def _swept(self) -> set[str]:
        return {o for e in self.entries() if e.kind == "swept" for o in e.body["orders"]}

    def _newest(self) -> WitnessedHead:
        """Return the newest entry that is known here, or where the chain starts."""
        if not self._entries:
            return self.start
        last = self._entries[-1]
        return WitnessedHead(sequence=last.sequence, hash=last.hash)

    def _witness(self) -> WitnessedHead:
        with _damage():
            row = self._connection.execute("SELECT sequence, hash FROM witness").fetchone()
            sequence, found = row or (GENESIS.sequence, GENESIS.hash)
            return WitnessedHead(sequence=sequence, hash=found)

    def _verify(self, unit: str, namespace: str) -> None:
        first = self._connection.execute("SELECT body FROM entries ORDER BY sequence").fetchone()
        self.start = start_of(first and first[0])
        hashes = {entry.sequence: entry.hash for entry in self.entries()}
        hashes[self.start.sequence] = self.start.hash
        if len(hashes) == 1:
            raise TrustError("ledger.corrupt", "the ledger has no entries")
        witness = self._witness()
        if hashes.get(witness.sequence) != witness.hash:
            raise RollbackError(
                "ledger.rollback", "the ledger lacks entries that governance has witnessed"
            )
        self._verify_contents(unit, namespace)

    def _verify_contents(self, unit: str, namespace: str) -> None:
        first = self.entries()[0].body
        if (first.get("unit"), first.get("namespace")) != (unit, namespace):
            raise TrustError("ledger.other_base", "the ledger belongs to another customer base")
        told = {e.body["order"]: e.body["reply"] for e in self.entries() if e.kind == "reply"}
        swept = self._swept()
        replies = {order: reply for order, reply in told.items() if order not in swept}
        rows = self._connection.execute("SELECT order_digest, reply FROM replies")
        # One reply in memory at a time: together they may be larger than the machine's.
        if {order: canonical.digest(bytes(reply)) for order, reply in rows} != replies:
            raise TrustError("ledger.corrupt", "a stored reply was altered, removed or added")


def _damage() -> AbstractContextManager[None]:
    return damage_named("ledger.corrupt", "the ledger file")


def _storage() -> AbstractContextManager[None]:
    return storage_named("ledger.corrupt", "the ledger file")
