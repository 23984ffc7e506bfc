"""The tamper-evident log: one salted entry for each document, in the order of the facts.

Opt-outs are not in it one by one: the log's size is shown to every unit, and would tell each unit
how many customers of the others have opted out. Bulletins and cosignatures speak about the log and
are not in it either.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from fedcore import merkle
from fedcore.errors import RollbackError
from fedcore.models import LogEntry
from fedcore.optouts import LogPosition
from registry.tables.documents import LogEntryRow


@dataclass(frozen=True)
class LogView:
    """The log's leaf hashes at one moment, and what is proved from them."""

    leaf_hashes: Sequence[bytes]

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self.leaf_hashes)

    def position(self, size: int | None = None) -> LogPosition:
        """Return size and root, by default of the whole log.

        Raises: RollbackError `log.rollback`.
        """
        wanted = self.size if size is None else size
        self._require(wanted)
        root = merkle.root_hash(self.leaf_hashes[:wanted])
        return LogPosition(size=wanted, root=root.hex())

    def inclusion(self, index: int) -> tuple[str, ...]:
        """Return the proof that entry `index` is in the whole log."""
        return tuple(node.hex() for node in merkle.inclusion_proof(self.leaf_hashes, index))

    def consistency(self, old_size: int) -> tuple[str, ...]:
        """Return the proof that the whole log extends its first `old_size` entries.

        Raises: RollbackError `log.rollback` when the log is shorter than that.
        """
        self._require(old_size)
        return tuple(node.hex() for node in merkle.consistency_proof(self.leaf_hashes, old_size))

    def _require(self, size: int) -> None:
        if size > self.size:
            raise RollbackError(
                "log.rollback",
                f"the log has {self.size} entries and not {size}: one of the two was set back",
            )


@dataclass(frozen=True)
class LoggedEntry:
    """An entry and its place."""

    index: int
    entry: LogEntry


def append(session: Session, kind: str, document: str) -> int:
    """Add an entry for a document and return its index; the transaction must be a writing one."""
    index = size(session)
    entry = LogEntry(kind=kind, document=document, salt=secrets.token_hex(32))
    data = entry.to_bytes()
    session.add(
        LogEntryRow(
            position=index,
            document=document,
            entry=data.decode(),
            leaf_hash=merkle.leaf_hash(data).hex(),
        )
    )
    session.flush()
    return index


def size(session: Session) -> int:
    """Return the number of entries."""
    return session.exec(select(func.coalesce(func.max(LogEntryRow.position) + 1, 0))).one()


def load_view(session: Session) -> LogView:
    """Return the log's leaf hashes."""
    query = select(LogEntryRow.leaf_hash).order_by(col(LogEntryRow.position))
    return LogView([bytes.fromhex(leaf) for leaf in session.exec(query)])


def list_entries(session: Session, after: int, limit: int) -> tuple[LoggedEntry, ...]:
    """Return at most `limit` entries from index `after` on."""
    query = (
        select(LogEntryRow)
        .where(LogEntryRow.position >= after)
        .order_by(col(LogEntryRow.position))
        .limit(limit)
    )
    return tuple(_entry(row) for row in session.exec(query))


def find_entry(session: Session, document: str) -> LoggedEntry | None:
    """Return the entry of a document, or None when it was never logged."""
    row = session.exec(select(LogEntryRow).where(LogEntryRow.document == document)).first()
    return None if row is None else _entry(row)


def _entry(row: LogEntryRow) -> LoggedEntry:
    return LoggedEntry(row.position, LogEntry.from_bytes(row.entry.encode()))
