"""Everything that left this site, message by message, for the unit's own eyes.

A plain table, written before each message is handed over; not a chain: it is the operator's own
record on the operator's own machine, and nobody else relies on it.

Guarantees:
    - a message of the node leaves only after its line is on disk; a crash, or a line that is cut,
      may leave a line of a message that never left, never the other way round;
    - a line that cannot be written holds its message back. To the server one constant goes in its
      place, the bare code `node.unavailable`: the only thing of the node's that is not listed;
    - lines are never altered or removed by this software, and a gap in their numbers is found;
    - a line holds sizes, digests and names of signed documents; no identifier, no value.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from clients import runtime
from clients.durable import connect, damage_named, exclusive, has_table, transaction
from clients.settings import NodeSettings
from fedcore.errors import TrustError
from fedcore.gateway import About, NodeGateway
from fedcore.membership import LeaveAnswer
from fedcore.signing import Envelope

_COLUMNS = "at, recipient, kind, size, digest, run_id, round, event"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS messages (number INTEGER PRIMARY KEY, at TEXT NOT NULL, "
    "recipient TEXT NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL, digest TEXT, "
    "run_id TEXT, round INTEGER, event TEXT)",
    "CREATE TRIGGER IF NOT EXISTS messages_kept BEFORE DELETE ON messages "
    "BEGIN SELECT RAISE(ABORT, 'append-only'); END",
    "CREATE TRIGGER IF NOT EXISTS messages_fixed BEFORE UPDATE ON messages "
    "BEGIN SELECT RAISE(ABORT, 'append-only'); END",
)


@dataclass(frozen=True)
class Departure:
    """One message on its way out.

    Attributes:
        at: when, just before it was handed over.
        recipient: `server` or `governance`.
        kind: what it is, such as `train answer`; a refusal names its code.
        size: the bytes of its content, without what the transport adds.
        digest: of the signed document that it carries, which binds all else in it.
        run_id: the run that it belongs to; for a refusal, the run that was asked for.
        round: of that run.
        event: the privacy event that it releases, as JSON.
    """

    at: datetime
    recipient: Literal["server", "governance"]
    kind: str
    size: int
    digest: str | None = None
    run_id: str | None = None
    round: int | None = None
    event: str | None = None


@dataclass(frozen=True)
class SentLine:
    """A numbered line of the journal, numbers being gapless from 1."""

    number: int
    departure: Departure


def journal_path(directory: Path) -> Path:
    """Return where a node's journal lies."""
    return directory / "sent.db"


def record_departure(journal: Path, departure: Departure) -> None:
    """Write a line to disk; only then may its message be handed over.

    Raises: ConflictError `state.busy`, `state.unwritable`; TrustError `sent.corrupt`.
    """
    row = (departure.at.isoformat(), *astuple(departure)[1:])
    with _opened(journal) as connection:
        if not has_table(connection, "messages"):
            with transaction(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
        with transaction(connection):
            connection.execute(
                "INSERT INTO messages SELECT COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ? "
                "FROM messages",
                row,
            )


def load_departures(journal: Path) -> list[SentLine]:
    """Return all lines, oldest first; none before the first message.

    Raises: ConflictError as `record_departure`; TrustError `sent.corrupt`.
    """
    if not journal.exists():
        return []
    with _opened(journal) as connection:
        query = f"SELECT number, {_COLUMNS} FROM messages ORDER BY number"  # noqa: S608
        rows = connection.execute(query).fetchall() if has_table(connection, "messages") else []
        lines = [_line(row) for row in rows]
    if [line.number for line in lines] != list(range(1, len(lines) + 1)):
        raise TrustError("sent.corrupt", "the journal of what was sent lacks lines")
    return lines


def open_gateway(settings: NodeSettings) -> NodeGateway:
    """Return the node's way to governance, the only one: each request on it is listed first.

    Raises: MismatchError `realm.simulation_bound`.
    """
    surroundings = runtime.SEAM.current(settings.realm)
    journal = journal_path(settings.state_dir)
    return RecordingGateway(surroundings.gateway(settings), journal, surroundings.clock.now)


class RecordingGateway:
    """A way to governance on which each request is listed before it is made."""

    def __init__(self, gateway: NodeGateway, journal: Path, now: Callable[[], datetime]) -> None:
        self._gateway, self._journal, self._now = gateway, journal, now

    def fetch_about(self) -> About:
        """Return what governance says of itself, unsigned."""
        self._record("question about versions", 0, None)
        return self._gateway.fetch_about()

    def fetch_contract(self, digest: str) -> Envelope:
        """Return the signed contract with this digest."""
        self._record("contract request", len(digest), digest)
        return self._gateway.fetch_contract(digest)

    def sync_bulletin(self, request: Envelope) -> Envelope:
        """Hand over a signed BulletinRequest and return the signed Bulletin."""
        self._record("bulletin request", len(request.to_bytes()), request.digest)
        return self._gateway.sync_bulletin(request)

    def submit_opt_out(self, event: Envelope) -> None:
        """Hand over a signed OptOutEvent; repeating the same event changes nothing."""
        self._record("opt-out", len(event.to_bytes()), event.digest)
        self._gateway.submit_opt_out(event)

    def submit_opt_outs(self, batch: Envelope) -> None:
        """Hand over a signed OptOutBatch; repeating the same batch changes nothing."""
        self._record("opt-outs", len(batch.to_bytes()), batch.digest)
        self._gateway.submit_opt_outs(batch)

    def fetch_opt_outs(self, request: Envelope) -> bytes:
        """Hand over a signed HistoryRequest and return the part of the history that it asks for."""
        self._record("question about its opt-outs", len(request.to_bytes()), request.digest)
        return self._gateway.fetch_opt_outs(request)

    def submit_group_opt_out(self, event: Envelope) -> None:
        """Hand over a signed GroupOptOut; repeating the same event changes nothing."""
        self._record("group opt-out", len(event.to_bytes()), event.digest)
        self._gateway.submit_group_opt_out(event)

    def set_aside_group_opt_out(self, statement: Envelope) -> None:
        """Hand over a signed GroupSetAside; repeating the same one changes nothing."""
        self._record("group set-aside", len(statement.to_bytes()), statement.digest)
        self._gateway.set_aside_group_opt_out(statement)

    def fetch_handovers(self) -> tuple[Envelope, ...]:
        """Return all signed KeyHandovers of governance, oldest first."""
        self._record("question about its keys", 0, None)
        return self._gateway.fetch_handovers()

    def rotate_key(self, rotation: Envelope) -> Envelope:
        """Hand over a signed KeyRotation and return the new signed UnitCertificate."""
        self._record("key rotation", len(rotation.to_bytes()), rotation.digest)
        return self._gateway.rotate_key(rotation)

    def fetch_ledger_history(self, request: Envelope) -> Envelope:
        """Hand over a signed LedgerRequest and return the signed LedgerHistory."""
        self._record("ledger request", len(request.to_bytes()), request.digest)
        return self._gateway.fetch_ledger_history(request)

    def leave(self, statement: Envelope) -> LeaveAnswer:
        """Hand over a signed Leave, after which governance accepts nothing more of this key."""
        self._record("leave", len(statement.to_bytes()), statement.digest)
        return self._gateway.leave(statement)

    def _record(self, kind: str, size: int, digest: str | None) -> None:
        departure = Departure(self._now(), "governance", kind, size, digest)
        record_departure(self._journal, departure)


def _line(row: tuple[Any, ...]) -> SentLine:
    number, at, *rest = row
    return SentLine(number, Departure(datetime.fromisoformat(at), *rest))


@contextmanager
def _opened(journal: Path) -> Iterator[Any]:
    # One process at a time: SQLite lets nobody wait while a file is made or recovered.
    with (
        exclusive(journal.with_suffix(".lock")),
        damage_named("sent.corrupt", "the journal of what was sent"),
        closing(connect(journal)) as connection,
    ):
        yield connection
