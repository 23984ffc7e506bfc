"""The unit's opt-outs as this node knows them, and how fresh that knowledge is.

Guarantees:
    - an opt-out taken in here excludes at once, before governance has it, until an act that the
      table of grounds names; where a purpose rests on consent, nobody is in without one;
    - the set after each bulletin has the digest that governance signed, is never rolled back, and
      only holds events that this unit's own key signed, the present one or one it had before, each
      by itself or in a batch: whoever can write the file and has no key makes no event;
    - a bulletin never takes the place of a newer one, whichever process brings it;
    - age is counted on the boot clock from the moment the bulletin was asked for; wall time may
      not lie before the greatest signed time seen;
    - a damaged file is refused.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from clients.clock import Clock
from clients.durable import (
    closed_on_error,
    connect,
    damage_named,
    snapshot,
    storage_named,
    transaction,
)
from clients.left_out import LeftOut
from clients.opt_out_states import KeptStates
from fedcore import canonical
from fedcore.bulletins import AnyBulletin, Bulletin, BulletinV1, LogPosition
from fedcore.contracts import Contract, basis_of, purpose_line
from fedcore.errors import ExpiredError, MismatchError, RollbackError, TrustError
from fedcore.merkle import verify_consistency
from fedcore.opt_out_batches import (
    Document,
    documents_of,
    entries_of,
    events_of,
    last_sequence_of,
    open_document,
)
from fedcore.opt_out_sets import set_digest_of
from fedcore.opt_out_states import newest_key_version_of
from fedcore.optouts import (
    Entry,
    OptOutEvent,
    consenting_to,
    excluded_from,
    live_versions,
)
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey, sign_record
from fedcore.trust import MAX_CLOCK_SKEW

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY, envelope BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS latest (id INTEGER PRIMARY KEY CHECK (id = 1), "
    "bulletin BLOB NOT NULL, boot_id TEXT NOT NULL, boot_s REAL NOT NULL, "
    "confirmed INTEGER NOT NULL, digest TEXT NOT NULL)",
)


class BulletinStore:
    """The opt-out store of one unit, opened from its file."""

    def __init__(
        self,
        path: Path,
        unit: str,
        node_key: str,
        realm: Realm,
        former_keys: tuple[str, ...] = (),
    ) -> None:
        """Open or create the store.

        Args: `former_keys` are those that the unit's node had before.
        Raises: TrustError `bulletin.corrupt` for a damaged file; SignatureError for altered events.
        """
        self._unit, self._node_key, self._realm = unit, node_key, realm
        self._own_keys = {node_key, *former_keys}
        with _damage():
            self._connection = connect(path)
            self._states = KeptStates(self._data_version, self._documents)
            with closed_on_error(self._connection):
                for statement in _SCHEMA:
                    self._connection.execute(statement)
                # One state: what another process adds meanwhile must not look like damage.
                with snapshot(self._connection):
                    self._verify()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def events(self, after: int = 0) -> list[OptOutEvent]:
        """Return the events after a sequence, confirmed by governance or not, in sequence."""
        return [
            event
            for document in self._documents(after)
            for event in events_of(document)
            if event.sequence > after
        ]

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """Yield the same, each in a line."""
        for document in self._documents(after):
            yield from islice(entries_of(document), max(after + 1 - document.sequence, 0), None)

    def pending(self) -> list[Envelope]:
        """Return the documents with events that governance has not confirmed yet, in sequence."""
        return self._envelopes(self.confirmed_sequence())

    def count_pending(self) -> int:
        """Return how many events governance has not confirmed yet."""
        return self.next_sequence() - 1 - self.confirmed_sequence()

    def pending_signed_by(self, key: SigningKey) -> list[Envelope]:
        """Return what is pending, signed by this key: governance takes none of a former one."""
        return [
            envelope
            if envelope.signer == key.public
            else sign_record(self._open(envelope), key, self._realm)
            for envelope in self.pending()
        ]

    def confirmed_sequence(self) -> int:
        """Return up to which sequence governance has confirmed the events; 0 for none."""
        row = self._row("SELECT confirmed FROM latest")
        return int(row[0]) if row else 0

    def next_sequence(self) -> int:
        """Return the sequence number of the unit's next event, from 1."""
        row = self._row("SELECT envelope FROM events ORDER BY sequence DESC LIMIT 1")
        if row is None:
            return 1
        with _damage():
            envelope = Envelope.from_bytes(bytes(row[0]))
        return last_sequence_of(self._open(envelope)) + 1

    def add(self, *envelopes: Envelope, known_open: bool = False) -> None:
        """Store events of this unit, single or in batches, all of them or none; they act from now
        on.


        Args: `known_open` when whoever numbered them has worked out all states up to the first.
        Raises: MismatchError `opt_out.sequence_gap` when they are not the next in sequence;
            ConflictError `opt_out.act_not_open`.
        """
        opened = [(envelope, self._open(envelope)) for envelope in envelopes]
        with self._writing():
            number = self.next_sequence()
            for envelope, document in opened:
                if document.sequence != number:
                    raise MismatchError(
                        "opt_out.sequence_gap", "another opt-out came in between: repeat it"
                    )
                self._insert(number, envelope)
                number = last_sequence_of(document) + 1
            said = {entry.said for _, document in opened for entry in entries_of(document)}
            if not known_open and not all(each.is_always_open for each in said):
                self._states.current()

    def reach(self, envelopes: Sequence[Envelope]) -> int:
        """Return up to which sequence documents of this unit reach. Raises: as `give_way`."""
        return max(last_sequence_of(self._open(envelope)) for envelope in envelopes)

    def give_way(self, known: Sequence[Envelope], key: SigningKey) -> None:
        """Put the events that governance has not confirmed behind those that it has and the store
        lacks, which are `known`; each that is among them counts once.

        Parts of a re-issue go: they name others by their numbers, and what they carried over still
        acts under its former key.
        Raises: SignatureError of what none of the unit's keys has signed; MismatchError
            `opt_out.sequence_gap`, `opt_out.other_unit`; ConflictError `opt_out.act_not_open` when
            an act would have nothing to act on. Nothing changes in these cases.
        """
        after = self.confirmed_sequence()
        with self._writing():
            own = [e for e in self.entries(after) if e.successor is None and e.repeats is None]
            self._connection.execute("DELETE FROM events WHERE sequence > ?", (after,))
            self._states.forget()
            number = after + 1
            for envelope in known:
                document = self._open(envelope)
                if document.sequence != number:
                    raise MismatchError("opt_out.sequence_gap", "governance leaves out opt-outs")
                self._insert(number, envelope)
                number = last_sequence_of(document) + 1
            there = {(e.pseudonym, e.said, e.received_us) for e in self.entries(after)}
            left = [e for e in own if (e.pseudonym, e.said, e.received_us) not in there]
            for document in documents_of(self._unit, number, left):
                self._insert(document.sequence, sign_record(document, key, self._realm))
            self._states.current()

    def latest(self) -> AnyBulletin | None:
        """Return the bulletin that was applied last, or None."""
        row = self._row("SELECT bulletin FROM latest")
        return _bulletin(bytes(row[0])) if row else None

    def log_position(self) -> LogPosition | None:
        """Return the log as the last bulletin showed it, or None."""
        bulletin = self.latest()
        return bulletin.log if bulletin else None

    def apply(self, bulletin: Bulletin, asked: tuple[str, float]) -> None:
        """Take over a verified bulletin; `asked` is the boot clock when it was asked for.

        What the store lacks of the unit's events must have been added before.
        Raises: RollbackError `bulletin.rollback`; MismatchError `bulletin.set_mismatch`,
            `log.consistency_failed`. Nothing changes in these cases.
        """
        with self._writing():
            self._verify_newer(bulletin)
            last = bulletin.last_sequence
            if not self.confirmed_sequence() <= last < self.next_sequence():
                raise RollbackError("bulletin.rollback", "the bulletin leaves out opt-outs")
            if set_digest_of(self._states.after(last)) != bulletin.set_digest:
                raise MismatchError(
                    "bulletin.set_mismatch", "governance holds another set of opt-outs"
                )
            row = (bulletin.to_bytes(), asked[0], float(asked[1]), last)
            self._connection.execute(
                "INSERT OR REPLACE INTO latest VALUES (1, ?, ?, ?, ?, ?)",
                (*row, _row_digest(row)),
            )

    def verify_fresh(self, clock: Clock) -> AnyBulletin:
        """Return the bulletin in force. Raises: ExpiredError `bulletin.stale`, `clock.behind`."""
        row = self._row("SELECT boot_id, boot_s FROM latest")
        bulletin = self.latest()
        boot_id, boot_s = clock.boot()
        stale = ExpiredError(
            "bulletin.stale", "the opt-out bulletin is too old: reach governance and try again"
        )
        if bulletin is None or row[0] != boot_id:
            raise stale
        if boot_s - row[1] >= (bulletin.valid_until - bulletin.issued_at).total_seconds():
            raise stale
        self.verify_wall_time(clock.now())
        return bulletin

    def verify_wall_time(self, now: datetime) -> None:
        """Refuse a clock before the greatest signed time seen.

        Raises: ExpiredError `clock.behind`.
        """
        bulletin = self.latest()
        if bulletin is not None and now < bulletin.issued_at - MAX_CLOCK_SKEW:
            raise ExpiredError(
                "clock.behind", "this machine's clock is behind governance's: set the clock"
            )

    def age(self, clock: Clock) -> timedelta | None:
        """Return the age of the bulletin on the boot clock, or None when it cannot be told."""
        row = self._row("SELECT boot_id, boot_s FROM latest")
        boot_id, boot_s = clock.boot()
        return timedelta(seconds=boot_s - row[1]) if row and row[0] == boot_id else None

    def newest_key_version(self) -> int | None:
        """Return the version of the key under which something was said last; None before that."""
        query = "SELECT envelope FROM events ORDER BY sequence DESC"
        with _damage():
            for (data,) in self._connection.execute(query):
                document = self._open(Envelope.from_bytes(bytes(data)))
                if (version := newest_key_version_of(document)) is not None:
                    return version
        return None

    def left_out(self, contract: Contract, purpose: str | None) -> LeftOut:
        """Return what says of a customer's pseudonyms whether they must not be read for a purpose.

        Args: `purpose` is None for what serves none: then the grounds that leave none are left.

        Guarantees: whoever an objection excludes is left out; where the purpose rests on consent,
            so is everybody without a current consent to it.
        Raises: ValueError for a purpose that is not in the contract.
        """
        with snapshot(self._connection):  # both looks see the same events
            states, versions = self._states.current(), self._states.key_versions
            if len(versions) > 1:
                versions = set(live_versions(self.entries(), states))
        line, consents = purpose_line(contract.purposes, purpose) if purpose else (), None
        if purpose and basis_of(contract.purposes, purpose) == "consent":
            consents = consenting_to(states, purpose)
        return LeftOut(excluded_from(states, line), consents, frozenset(versions))

    def _verify_newer(self, bulletin: Bulletin) -> None:
        seen = self.latest()
        if seen is None:
            return
        if bulletin.issued_at < seen.issued_at or bulletin.epoch < seen.epoch:
            raise RollbackError(
                "bulletin.rollback", "the bulletin is older than the one in force: ask again"
            )
        verify_consistency(
            seen.log.size,
            bytes.fromhex(seen.log.root),
            bulletin.log.size,
            bytes.fromhex(bulletin.log.root),
            [bytes.fromhex(step) for step in bulletin.consistency],
        )

    def _verify(self) -> None:
        self._states.current()
        row = self._connection.execute("SELECT * FROM latest").fetchone()
        if row is None:
            return
        if row[-1] != _row_digest(row[1:-1]):
            raise TrustError("bulletin.corrupt", "the bulletin in force was altered")
        if self._states.last < row[-2]:
            raise TrustError("bulletin.corrupt", "the opt-out store lacks confirmed events")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Write all of it or nothing."""
        try:
            with _storage(), transaction(self._connection):
                yield
        except BaseException:
            self._states.forget()  # they may hold what was not written
            raise

    def _insert(self, sequence: int, envelope: Envelope) -> None:
        self._connection.execute(
            "INSERT INTO events VALUES (?, ?)", (sequence, envelope.to_bytes())
        )

    def _documents(self, after: int = 0) -> Iterator[Document]:
        """Yield the documents with events after a sequence, in sequence."""
        number = None
        for sequence, envelope in self._stored(after):
            document = self._open(envelope)
            is_next = sequence == number if number else sequence <= after + 1
            if document.sequence != sequence or not is_next:
                raise TrustError("bulletin.corrupt", "the opt-out store lacks events")
            number = last_sequence_of(document) + 1
            if number > after + 1:
                yield document

    def _envelopes(self, after: int) -> list[Envelope]:
        return [
            envelope
            for _, envelope in self._stored(after)
            if last_sequence_of(self._open(envelope)) > after
        ]

    def _stored(self, after: int) -> Iterator[tuple[int, Envelope]]:
        """Yield the documents after a sequence with the numbers of their first events, and the one
        before it, which may reach beyond.
        """
        query = (
            "SELECT sequence, envelope FROM events WHERE sequence >= "
            "(SELECT COALESCE(MAX(sequence), 0) FROM events WHERE sequence <= ?) ORDER BY sequence"
        )
        with _damage():
            rows = self._connection.execute(query, (after + 1,))
            for sequence, data in rows:
                yield sequence, Envelope.from_bytes(bytes(data))

    def _data_version(self) -> int:
        return int(self._row("PRAGMA data_version")[0])

    def _row(self, query: str, *values: int) -> Any:
        with _storage():
            return self._connection.execute(query, values).fetchone()

    def _open(self, envelope: Envelope) -> Document:
        signer = envelope.signer if envelope.signer in self._own_keys else self._node_key
        document = open_document(envelope, signer, self._realm)
        if document.unit != self._unit:
            raise MismatchError("opt_out.other_unit", "the opt-out belongs to another unit")
        return document


def _row_digest(row: tuple[bytes, str, float, int]) -> str:
    """Return a digest of the bulletin in force, the boot clock when it was asked for, and how many
    events are confirmed: a changed bit must not make it look fresh.
    """
    bulletin, *rest = row
    return canonical.digest(bulletin + repr(rest).encode())


def _bulletin(data: bytes) -> AnyBulletin:
    """Return the bulletin of either version."""
    value = canonical.parse(data)
    is_first = isinstance(value, dict) and value.get("schema") == BulletinV1.schema_id()
    return BulletinV1.from_json(value, data) if is_first else Bulletin.from_json(value, data)


def _damage() -> AbstractContextManager[None]:
    return damage_named("bulletin.corrupt", "the opt-out store")


def _storage() -> AbstractContextManager[None]:
    return storage_named("bulletin.corrupt", "the opt-out store")
