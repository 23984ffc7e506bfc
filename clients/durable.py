"""Files that survive a power cut and several processes: one way to open SQLite's, to write to them,
to find them damaged, and to wait for each other.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fedcore.errors import ConflictError, TrustError

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_UNWRITABLE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
# Our statements are constants: SQLITE_ERROR (no such table or column) tells of another schema.
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_SCHEMA,
}


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection in which a committed transaction is on disk (WAL, full sync).

    Raises: sqlite3.Error; ValueError for a directory in the file's place.
    """
    if path.is_dir():  # SQLite would call it a matter of permissions
        raise ValueError(f"{path.name} is a directory")
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    with closed_on_error(connection):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Return whether the database has a table of this name."""
    query = "SELECT 1 FROM sqlite_master WHERE name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do all writes inside or none, holding the database's write lock from the start."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Read one state of the file inside, whatever other processes write meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait until no other process, thread or act of this one is inside; the file is made and stays.

    The operating system ends the lock with its holder, also after `kill -9`. Not to be nested.

    Raises: ConflictError `state.unwritable`.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(path.name, str(error)) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Close the connection when what is done with it inside fails."""
    with ExitStack() as stack:
        stack.callback(connection.close)
        yield
        stack.pop_all()


@contextmanager
def storage_named(code: str, what: str) -> Iterator[None]:
    """Turn SQLite's failures into refusals, each with the operator's way out.

    A lock that is held and a full disk are no damage: whoever restored an old file because of them
    would roll the state back. An error that says none of these is a defect and passes.

    Raises: ConflictError `state.busy`, `state.unwritable`; TrustError with this code for damage.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        # The module itself gives no code when stored text is not UTF-8; extended codes are cut off.
        primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if primary in _BUSY:
            raise ConflictError(
                "state.busy", f"another process holds {what}: try again", str(error)
            ) from error
        if primary in _UNWRITABLE:
            raise unwritable(what, str(error)) from error
        if primary in _DAMAGED and not isinstance(error, sqlite3.ProgrammingError):
            raise _damaged(code, what, error) from error
        raise


@contextmanager
def damage_named(code: str, what: str) -> Iterator[None]:
    """Do as `storage_named`, and find damage in stored rows that cannot be read, too.

    For reading only: the same errors out of a computation are defects.

    Raises: as `storage_named`.
    """
    try:
        with storage_named(code, what):
            yield
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _damaged(code, what, error) from error


def unwritable(what: str, detail: str) -> ConflictError:
    """Return the refusal for a file that is sound, but that this machine does not let us use."""
    return ConflictError(
        "state.unwritable",
        f"{what} cannot be opened or written; this is no damage, restore nothing: free space or "
        "mend permissions, and try again",
        detail,
    )


def _damaged(code: str, what: str, error: Exception) -> TrustError:
    return TrustError(
        code, f"{what} is damaged: restore it from its backup, do not delete it", str(error)
    )
