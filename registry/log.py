"""The tamper-evident log: one salted entry for each document, in the order of the facts.

Opt-outs are not in it one by one: the log's size is shown to every unit, and would tell each unit
how many customers of the others have opted out. Bulletins and cosignatures speak about the log and
are not in it either.
"""

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import TextClause, func, insert, text
from sqlmodel import Session, col, select

from fedcore import merkle
from fedcore.bulletins import LogPosition
from fedcore.errors import RollbackError
from fedcore.merkle import Node, Span
from fedcore.models import Erasure, LogEntry
from registry.tables.documents import LogEntryRow, LogNodeRow

# Stands for the digest in the row of an erased entry, before its place.
ERASED = "erased:"
_PAGE = 5_000
_NAMED_AT_ONCE = 5_000
# Positions are integers of 31 bits.
_LEVELS = 32


class LogView:
    """The log at one moment, and what is proved about it from a few hashes of its tree.

    Guarantees: no proof reads more than two rows for each level of the tree; none is read twice.
    """

    def __init__(self, session: Session, size: int) -> None:
        """Look at the first `size` entries; the log must have as many."""
        self.size = size
        self._session = session
        self._known: dict[Node, bytes] = {}

    def position(self, size: int | None = None) -> LogPosition:
        """Return size and root, by default of the whole log.

        Raises: RollbackError `log.rollback`.
        """
        wanted = self.size if size is None else size
        self._require(wanted)
        [root] = self._roots([Span(0, wanted)])
        return LogPosition(size=wanted, root=root)

    def inclusion(self, index: int) -> tuple[str, ...]:
        """Return the proof that entry `index` is in the whole log."""
        return self._roots(merkle.inclusion_spans(index, self.size))

    def consistency(self, old_size: int) -> tuple[str, ...]:
        """Return the proof that the whole log extends its first `old_size` entries.

        Raises: RollbackError `log.rollback` when the log is shorter than that.
        """
        self._require(old_size)
        return self._roots(merkle.consistency_spans(old_size, self.size))

    def _roots(self, spans: Sequence[Span]) -> tuple[str, ...]:
        wanted = {node for span in spans for node in merkle.nodes_of(span)}
        self._known |= _load_hashes(self._session, wanted - self._known.keys())
        return tuple(merkle.span_root(span, self._known).hex() for span in spans)

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


@dataclass(frozen=True)
class ErasedEntry:
    """A place whose entry was erased, and the erasure that stands there."""

    index: int
    entry: Erasure


def append(session: Session, kind: str, document: str) -> int:
    """Add an entry for a document and return its index; the transaction must be a writing one.

    The subtrees that the entry completes are kept in the same transaction.
    """
    index, siblings = _load_edge(session)
    entry = LogEntry(kind=kind, document=document, salt=secrets.token_hex(32))
    data = entry.to_bytes()
    leaf = merkle.leaf_hash(data)
    connection = session.connection()
    connection.execute(
        insert(LogEntryRow),
        {
            "position": index,
            "document": document,
            "entry": data.decode(),
            "leaf_hash": leaf.hex(),
        },
    )
    completed = [
        {"level": node.level, "place": node.place, "hash": value.hex()}
        for node, value in merkle.completed_nodes(index, leaf, siblings).items()
    ]
    if completed:
        connection.execute(insert(LogNodeRow), completed)
    return index


def size(session: Session) -> int:
    """Return the number of entries."""
    return session.exec(select(func.coalesce(func.max(LogEntryRow.position) + 1, 0))).one()


def load_view(session: Session) -> LogView:
    """Return the log as this transaction sees it."""
    return LogView(session, size(session))


def list_entries(session: Session, after: int, limit: int) -> tuple[LoggedEntry | ErasedEntry, ...]:
    """Return at most `limit` entries from index `after` on."""
    query = (
        select(LogEntryRow)
        .where(LogEntryRow.position >= after)
        .order_by(col(LogEntryRow.position))
        .limit(limit)
    )
    return tuple(_entry(row) for row in session.exec(query))


def stream_entries(session: Session, size: int) -> Iterator[bytes]:
    """Yield the canonical bytes of the first `size` entries, some pages of rows at a time."""
    query = (
        select(LogEntryRow.entry)
        .where(LogEntryRow.position < size)
        .order_by(col(LogEntryRow.position))
        .execution_options(yield_per=_PAGE)
    )
    for entry in session.exec(query):
        yield entry.encode()


def find_entry(session: Session, document: str) -> LoggedEntry | None:
    """Return the entry of a document, or None when it was never logged, or is erased."""
    row = session.exec(select(LogEntryRow).where(LogEntryRow.document == document)).first()
    if row is None:
        return None
    return LoggedEntry(row.position, LogEntry.from_bytes(row.entry.encode()))


def find_logged(session: Session, digests: Sequence[str]) -> frozenset[str]:
    """Return those of the documents that have an entry in the log which was not erased."""
    found: set[str] = set()
    for start in range(0, len(digests), _NAMED_AT_ONCE):
        part = digests[start : start + _NAMED_AT_ONCE]
        query = select(LogEntryRow.document).where(col(LogEntryRow.document).in_(part))
        found |= set(session.exec(query))
    return frozenset(found)


def erase(session: Session, found: LoggedEntry, reason: str, now: datetime) -> Erasure:
    """Put an erasure in the place of an entry, and return it for the log; the leaf stays.

    Guarantees: the digest of the document and the salt are nowhere in the log any more.
    """
    query = select(LogEntryRow).where(LogEntryRow.position == found.index)
    row = session.exec(query).one()
    erasure = Erasure(
        index=row.position,
        kind=found.entry.kind,
        leaf=row.leaf_hash,
        reason=reason,
        erased_at=now,
    )
    row.document = f"{ERASED}{row.position}"
    row.entry = erasure.to_bytes().decode()
    session.add(row)
    session.flush()
    return erasure


# The size, and the hash of what the next entry completes to a larger subtree, level by level.
_VALUES = ", ".join(f"({level})" for level in range(1, _LEVELS))
_EDGE = text(
    f"""
    WITH log AS (SELECT CAST(coalesce(max(position) + 1, 0) AS BIGINT) AS size FROM log_entries),
        levels (level) AS (VALUES {_VALUES})
    SELECT log.size, 0, log_entries.leaf_hash
        FROM log LEFT JOIN log_entries ON log_entries.position = log.size - 1
    UNION ALL
    SELECT log.size, levels.level, log_nodes.hash
        FROM log CROSS JOIN levels JOIN log_nodes
        ON log_nodes.level = levels.level
        AND log_nodes.place = (log.size >> levels.level) - 1
        WHERE (log.size + 1) % (CAST(2 AS BIGINT) << levels.level) = 0
    """  # noqa: S608 - whole numbers only
)


def _load_edge(session: Session) -> tuple[int, dict[Node, bytes]]:
    """Return the number of entries, and the hashes of `merkle.left_siblings` of the next one."""
    session.flush()
    rows = session.connection().execute(_EDGE).all()
    size = rows[0][0]
    found = {
        Node(level, (size >> level) - 1): bytes.fromhex(value)
        for _, level, value in rows
        if value is not None
    }
    return size, found


def _load_hashes(session: Session, nodes: Collection[Node]) -> dict[Node, bytes]:
    """Return the hashes of complete subtrees; those of single leaves are in the entries."""
    places: dict[int, list[int]] = {}
    for node in nodes:
        places.setdefault(node.level, []).append(node.place)
    if not places:
        return {}
    rows = session.connection().execute(_nodes_query(places))
    return {Node(level, place): bytes.fromhex(value) for level, place, value in rows}


def _nodes_query(places: Mapping[int, Sequence[int]]) -> TextClause:
    """Return the query of subtrees, level by level: for pairs SQLite would read the whole table.

    Written out, for there are as many forms of it as shapes of proofs; whole numbers only.
    """
    parts = [
        f"SELECT {level:d}, place, hash FROM log_nodes "  # noqa: S608
        f"WHERE level = {level:d} AND place IN ({_listed(of_level)})"
        for level, of_level in places.items()
        if level > 0
    ]
    if leaves := places.get(0):
        parts.append(
            "SELECT 0, position, leaf_hash FROM log_entries "  # noqa: S608
            f"WHERE position IN ({_listed(leaves)})"
        )
    return text(" UNION ALL ".join(parts))


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(f"{number:d}" for number in numbers)


def _entry(row: LogEntryRow) -> LoggedEntry | ErasedEntry:
    data = row.entry.encode()
    if row.document.startswith(ERASED):
        return ErasedEntry(row.position, Erasure.from_bytes(data))
    return LoggedEntry(row.position, LogEntry.from_bytes(data))
