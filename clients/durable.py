"""SQLite files that survive a power cut: one way to open them, write to them and find them
damaged.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fedcore.errors import TrustError


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection in which a committed transaction is on disk (WAL, full sync)."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    with closed_on_error(connection):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


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
def closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Close the connection when what is done with it inside fails."""
    with ExitStack() as stack:
        stack.callback(connection.close)
        yield
        stack.pop_all()


@contextmanager
def damage_named(code: str, what: str) -> Iterator[None]:
    """Turn a damaged file into a refusal. Raises: TrustError with this code."""
    try:
        yield
    except (sqlite3.Error, KeyError, TypeError, ValueError, OverflowError) as error:
        raise TrustError(
            code, f"{what} is damaged: restore it from its backup, do not delete it", str(error)
        ) from error
