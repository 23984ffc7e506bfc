"""All tables as lines, and back: from one moment, into an empty database of either kind.

Rows are read and written as they are, by the schema that the database itself shows: a backup is of
one migration, and is loaded into that migration, which is then brought to the newest.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from alembic import command
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, Table, func, inspect, select, text
from sqlmodel import Session

from fedcore.errors import ConflictError, InvalidRecordError
from registry.database import MIGRATIONS, alembic_config

_PAGE = 1_000
_VERSIONS = "alembic_version"
# Whoever restores signs in anew: a session that was ended since must not come back.
_OF_THE_MOMENT = frozenset({"sessions", "spent_refreshes", "sign_in_attempts"})


def dump(session: Session) -> Iterator[bytes]:
    """Yield the migration and then every row of every table, as the session sees them.

    Guarantees: parents come before what refers to them; sessions of people are left out.
    """
    connection = session.connection()
    revision = MigrationContext.configure(connection).get_current_revision()
    yield _line({"revision": revision})
    for table in _tables(connection):
        if table.name in _OF_THE_MOMENT:
            continue
        query = (
            select(*_columns(table)).order_by(*table.primary_key).execution_options(yield_per=_PAGE)
        )
        for row in connection.execute(query):
            yield _line([table.name, [_plain(value) for value in row]])


def load(connection: Connection, lines: Iterable[bytes]) -> None:
    """Fill an empty database with the lines of `dump`, and bring it to the newest migration.

    Raises: ConflictError `database.not_empty`, `backup.other_version`; InvalidRecordError
        `backup.unreadable`.
    """
    if inspect(connection).get_table_names():
        raise ConflictError(
            "database.not_empty", "a backup is restored into an empty database: name another one"
        )
    rows = (_parsed(line) for line in lines)
    first = next(rows, None)
    revision = first.get("revision") if isinstance(first, dict) else None
    known = {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    if revision is None or revision not in known:
        raise ConflictError(
            "backup.other_version", "the backup is of a newer version: restore it with that one"
        )
    command.upgrade(alembic_config(connection), revision)
    tables = {table.name: table for table in _tables(connection)}
    for name, group in groupby(rows, key=lambda row: row[0]):
        _insert(connection, tables[name], (values for _, values in group))
    _continue_sequences(connection, tables.values())
    command.upgrade(alembic_config(connection), "head")


def _insert(connection: Connection, table: Table, rows: Iterable[list[Any]]) -> None:
    names = [column.name for column in _columns(table)]
    page: list[dict[str, Any]] = []
    for values in rows:
        page.append(dict(zip(names, map(_value, values), strict=True)))
        if len(page) == _PAGE:
            connection.execute(table.insert(), page)
            page = []
    if page:
        connection.execute(table.insert(), page)


def _continue_sequences(connection: Connection, tables: Iterable[Table]) -> None:
    """Let PostgreSQL count on where the rows end; SQLite does so by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables:
        if "id" not in table.columns or table.columns["id"].server_default is None:
            continue
        newest = connection.execute(select(func.max(table.columns["id"]))).scalar()
        if newest is not None:
            statement = text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :newest)")
            connection.execute(statement, {"table": table.name, "newest": newest})


def _tables(connection: Connection) -> list[Table]:
    """Return the tables that are there, parents first."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != _VERSIONS]


def _columns(table: Table) -> list[Column[Any]]:
    """Return a table's columns by name: databases that were migrated differ in their order."""
    return sorted(table.columns, key=lambda column: column.name)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return {"time": moment.isoformat()}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    return value


def _value(plain: Any) -> Any:
    if not isinstance(plain, dict):
        return plain
    if "time" in plain:
        return datetime.fromisoformat(plain["time"])
    return base64.b64decode(plain["bytes"])


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise InvalidRecordError("backup.unreadable", "the file is no backup") from error
