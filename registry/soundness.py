"""Is the stored log sound? Every entry is hashed again, and held against all that is kept of it."""

from collections.abc import Iterator

from sqlalchemy import func, literal
from sqlmodel import Session, col, select

from fedcore import merkle
from fedcore.bulletins import LogPosition
from fedcore.errors import MismatchError
from fedcore.merkle import Node, Peaks
from fedcore.signing import Envelope
from registry.log import ERASED
from registry.tables.documents import DocumentRow, LogEntryRow, LogNodeRow

_PAGE = 5_000


def verify_stored_log(session: Session) -> LogPosition:
    """Return the position of the log, after every row of it was looked at; a few are held at once.

    Raises: MismatchError `log.entry_changed` for an entry, leaf or subtree that is not what the
        entries lead to, or a document that is not the one of its entry.
    """
    position = _verify_tree(session)
    _verify_documents(session)
    return position


def _verify_tree(session: Session) -> LogPosition:
    peaks, kept = Peaks(), _nodes(session)
    query = (
        select(LogEntryRow.position, LogEntryRow.document, LogEntryRow.entry, LogEntryRow.leaf_hash)
        .order_by(col(LogEntryRow.position))
        .execution_options(yield_per=_PAGE)
    )
    for place, document, entry, leaf_hash in session.exec(query):
        if place != peaks.size:
            raise _changed(peaks.size)
        leaf = bytes.fromhex(leaf_hash)
        if not document.startswith(ERASED) and merkle.leaf_hash(entry.encode()) != leaf:
            raise _changed(place)
        for node, value in peaks.append(leaf):
            if next(kept, None) != (node, value.hex()):
                raise _changed(place)
    if next(kept, None) is not None:
        raise _changed(peaks.size)
    return LogPosition(size=peaks.size, root=peaks.root().hex())


def _nodes(session: Session) -> Iterator[tuple[Node, str]]:
    """Yield the kept subtrees in the order in which entries complete them."""
    size = literal(1).op("<<")(col(LogNodeRow.level))
    query = (
        select(LogNodeRow.level, LogNodeRow.place, LogNodeRow.hash)
        .order_by((col(LogNodeRow.place) + 1) * size, col(LogNodeRow.level))
        .execution_options(yield_per=_PAGE)
    )
    for level, place, value in session.exec(query):
        yield Node(level, place), value


def _verify_documents(session: Session) -> None:
    logged = select(func.count()).where(~col(LogEntryRow.document).startswith(ERASED))
    count = session.exec(logged).one()
    query = (
        select(DocumentRow.digest, DocumentRow.envelope, func.coalesce(LogEntryRow.position, -1))
        .join(LogEntryRow, col(LogEntryRow.document) == col(DocumentRow.digest), isouter=True)
        .execution_options(yield_per=_PAGE)
    )
    found = 0
    for digest, envelope, place in session.exec(query):
        if place < 0 or Envelope.from_bytes(envelope.encode()).digest != digest:
            raise MismatchError(
                "log.entry_changed", f"the document {digest} is not what was logged"
            )
        found += 1
    if found != count:
        raise MismatchError("log.entry_changed", "a document of the log is missing")


def _changed(place: int) -> MismatchError:
    return MismatchError(
        "log.entry_changed", f"entry {place} of the log, or what is kept of its tree, was changed"
    )
