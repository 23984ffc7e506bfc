"""The one way to the database: read or write transactions on SQLite or PostgreSQL.

A write transaction excludes every other one from its beginning, so that "the next number is the
last one plus one" holds without retries: SQLite takes its write lock at once (BEGIN IMMEDIATE),
PostgreSQL takes an advisory lock that ends with the transaction.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlmodel import Session

from fedcore.errors import InvalidRecordError, UnreachableError

MIGRATIONS = Path(__file__).parent.parent / "migrations"
_BUSY_TIMEOUT_S = 30
# The web server works with so many threads at most; each may need a connection while it waits.
_THREADS = 40
# The last one: what is erased is overwritten, and does not wait in a free page to be found.
_SQLITE_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
)
_WRITER_LOCK = 0x666564706163  # "fedpac"


class Database:
    """An engine with its two kinds of transactions.

    Guarantees: a transaction commits when its block ends, and leaves nothing behind when it raises;
        write transactions follow each other; a commit on SQLite has reached the disk (WAL,
        synchronous FULL); foreign keys hold.

    Args:
        url: `sqlite:///<path>` or `postgresql+psycopg://...`.
    """

    def __init__(self, url: str) -> None:
        """Prepare the engine; nothing is opened yet.

        Raises: InvalidRecordError `database.url_invalid`.
        """
        self._engine = _engine(url)
        self._writing_engine = self._engine.execution_options(fedpact_writing=True)
        self._reading_engine = self._glancing_engine = self._engine
        if self._engine.dialect.name == "postgresql":
            self._glancing_engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            self._reading_engine = self._engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session for one transaction that sees one state and is never committed."""
        with Session(self._reading_engine) as session:
            yield session

    @contextmanager
    def glancing(self) -> Iterator[Session]:
        """Give a session for a look at one row: on PostgreSQL each statement is a transaction by
        itself, and two round trips are saved.
        """
        with Session(self._glancing_engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Give a session for one transaction that is committed at the end."""
        with Session(self._writing_engine) as session, session.begin():
            if self._engine.dialect.name == "postgresql":
                session.exec(_statement(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})"))
            yield session

    @contextmanager
    def restoring(self) -> Iterator[Connection]:
        """Give a connection for one transaction that may make tables, committed at the end."""
        with self._writing_engine.begin() as connection:
            yield connection

    def migrate(self) -> None:
        """Bring the schema to the newest migration, in one transaction.

        Raises: UnreachableError `database.unreachable`.
        """
        try:
            with self._writing_engine.begin() as connection:
                command.upgrade(alembic_config(connection), "head")
        except OperationalError as error:
            raise _unreachable(error) from error

    def verify_schema(self) -> None:
        """Refuse a database that does not answer, or whose schema is not the newest migration's.

        Raises: UnreachableError `database.unreachable`, `database.schema_differs`.
        """
        try:
            with self._engine.connect() as connection:
                found = MigrationContext.configure(connection).get_current_revision()
                script = ScriptDirectory.from_config(alembic_config(connection))
        except OperationalError as error:
            raise _unreachable(error) from error
        if found != script.get_current_head():
            raise UnreachableError(
                "database.schema_differs",
                "the database's schema is not the one of this software: restart the service",
            )

    @property
    def folder(self) -> Path | None:
        """Where the database's file lies; None for a database of another process."""
        url = self._engine.url
        return Path(url.database or "").parent if url.get_backend_name() == "sqlite" else None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def migrate(url: str) -> None:
    """Bring the database at `url` to the newest schema; a missing SQLite file is made."""
    database = Database(url)
    try:
        database.migrate()
    finally:
        database.close()


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for the shipped migrations on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _unreachable(error: OperationalError) -> UnreachableError:
    return UnreachableError(
        "database.unreachable",
        "the database does not answer, or its file cannot be opened: look at database_url, "
        "and whether the database runs",
        str(error.orig),
    )


def _statement(sql: str) -> Any:
    # SQLModel's `exec` is typed for SELECT and DML only.
    return text(sql)


def _engine(url: str) -> Engine:
    try:
        backend = make_url(url).get_backend_name()
    except ArgumentError as error:  # its text has the URL, and so perhaps a password
        raise InvalidRecordError(
            "database.url_invalid",
            "database_url: must be sqlite:///<path> or postgresql+psycopg://<...>",
        ) from error
    if backend not in ("sqlite", "postgresql"):
        raise InvalidRecordError(
            "database.url_invalid", f"database_url: {backend} is neither SQLite nor PostgreSQL"
        )
    if backend != "sqlite":
        return create_engine(url, pool_pre_ping=True, max_overflow=_THREADS, hide_parameters=True)
    engine = create_engine(
        url,
        connect_args={"timeout": _BUSY_TIMEOUT_S},
        max_overflow=_THREADS,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Without this the driver begins transactions by its own, later than we need them.
    connection.isolation_level = None
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("fedpact_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
