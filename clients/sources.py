"""Where customer rows come from. Cells arrive as text; what they mean is the contract's business.

One line of a CSV file, one row of a Parquet file or of a database is one customer. A database is
read in one read-only transaction, in pages; its password and what it says about rows are told to
nobody. A row with a cell that is no text, number or truth value is counted, and changes no other.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url

from clients.mapping import ColumnMapping
from clients.settings import NodeSettings, SqlSource
from clients.source_files import read_file, require_columns
from fedcore.errors import DataError, InvalidRecordError
from fedcore.keyfiles import read_secret

_UNREADABLE = (
    OSError,
    UnicodeError,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    sa.exc.SQLAlchemyError,
)
_PAGE_ROWS = 10_000
_CONNECT_S = 10
_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "sqlite": "sqlite",
}
# What PostgreSQL writes as text must not depend on how the role or the server is set.
_POSTGRESQL_TEXT = ("SET LOCAL extra_float_digits = 1", "SET LOCAL datestyle = 'ISO'")


@dataclass(frozen=True)
class Source:
    """Where the rows are, and what columns and values are called there."""

    place: Path | SqlSource
    mapping: ColumnMapping = field(default_factory=ColumnMapping)

    @property
    def name(self) -> str:
        """What messages call it; never a URL."""
        return self.place.name


@dataclass(frozen=True)
class Rows:
    """The columns that were asked for, and how many lines could not be read as rows."""

    frame: pl.DataFrame
    malformed: int


def source_of(settings: NodeSettings) -> Source:
    """Return the source that the settings name."""
    mapping = ColumnMapping(settings.columns, settings.values, settings.absent_fields)
    return Source(settings.source, mapping)


def load_rows(source: Source, columns: list[str]) -> Rows:
    """Return these columns of the contract, every cell as text, empty cells as null.

    The first column holds the identifiers.
    Raises: DataError `data.unreadable`, `data.column_missing` (all missing ones are named),
        `data.column_doubled`, `data.column_mapped_twice`, `data.column_not_text` for a Parquet
        identifier of another kind than text or whole number, `data.url_invalid`, `key.unreadable`
        and `key.permissions` of the file of a URL; none holds anything that the reader says, as
        that may quote cells.
    """
    named = dict(zip(columns, source.mapping.source_columns(columns), strict=True))
    try:
        frame, malformed = _read(source.place, named)
        return Rows(source.mapping.translate(_plain(frame)), malformed)
    except _UNREADABLE as error:
        raise _unreadable(source, error) from None


def verify_readable(source: Source) -> None:
    """Raise unless a database answers and has the table; no row is read.

    Raises: DataError as `load_rows`.
    """
    if isinstance(source.place, Path):
        return
    try:
        with _connected(source.place) as connection:
            _column_names(connection, source.place)
    except _UNREADABLE as error:
        raise _unreadable(source, error) from None


def _unreadable(source: Source, error: BaseException) -> DataError:
    sentence = f"cannot read the source {source.name}"
    return DataError("data.unreadable", sentence, type(error).__name__)


def _read(place: Path | SqlSource, columns: Mapping[str, str]) -> tuple[pl.DataFrame, int]:
    if isinstance(place, Path):
        return read_file(place, columns)
    with _connected(place) as connection:
        require_columns(place.name, columns, _column_names(connection, place))
        return _fetch(connection, place, columns)


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Take outer white space off, and let empty cells be null."""
    stripped = frame.with_columns(pl.all().str.strip_chars())
    return stripped.with_columns(
        pl.when(pl.col(column) != "").then(pl.col(column)) for column in frame.columns
    )


@contextmanager
def _connected(place: SqlSource) -> Iterator[Connection]:
    engine = _engine(_url(place))
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execution_options(postgresql_readonly=True)
                for statement in _POSTGRESQL_TEXT:
                    connection.execute(sa.text(statement))
            yield connection
    finally:
        engine.dispose()


def _url(place: SqlSource) -> URL:
    """Return the URL of the database. Raises: DataError; nothing of a URL is in it."""
    try:
        text = place.url or read_secret(place.url_file or Path()).decode("utf-8").strip()
        url = make_url(text)
        return url.set(drivername=_DRIVERS[url.drivername])
    except InvalidRecordError as error:
        raise DataError(error.code, error.public, error.detail) from None
    except (sa.exc.ArgumentError, ValueError, KeyError):
        raise DataError(
            "data.url_invalid",
            f"the URL of the source {place.name} is none of postgresql+psycopg://… or sqlite:///…",
        ) from None


def _engine(url: URL) -> Engine:
    if url.drivername == "sqlite":
        # Only by a URI can a file be opened that must be there and must not be written.
        file = f"file:{quote(url.database or '')}"
        engine = sa.create_engine(
            url.set(database=file, query={"mode": "ro", "uri": "true"}), poolclass=sa.NullPool
        )
        sa.event.listen(engine, "connect", _keep_broken_text)
        return engine
    return sa.create_engine(
        url,
        poolclass=sa.NullPool,
        isolation_level="REPEATABLE READ",
        connect_args={"connect_timeout": _CONNECT_S},
    )


def _keep_broken_text(connection: Any, _record: Any) -> None:
    connection.text_factory = _decoded


def _decoded(data: bytes) -> str | bytes:
    """Text that is not UTF-8 stays bytes: its row is counted, and the others are read on."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _rows_of(place: SqlSource) -> sa.TextClause | sa.TableClause:
    if place.query is not None:
        # The text has no parameters: each colon is one. Its last line may be a comment.
        query = place.query.replace(":", "\\:")
        return sa.text(f"({query}\n) AS fedpact_rows")
    schema, _, table = (place.table or "").rpartition(".")
    return sa.table(_exact(table), schema=_exact(schema) if schema else None)


def _exact(name: str) -> sa.quoted_name:
    return sa.quoted_name(name, quote=True)


def _column_names(connection: Connection, place: SqlSource) -> list[str]:
    """Return the names of all columns, those that occur twice, too; no row is asked for."""
    nothing = sa.select(sa.text("*")).select_from(_rows_of(place)).limit(0)
    described = connection.execute(nothing).cursor.description
    return [column[0] for column in described or ()]


def _fetch(
    connection: Connection, place: SqlSource, columns: Mapping[str, str]
) -> tuple[pl.DataFrame, int]:
    asked: list[sa.ColumnElement[Any]] = [sa.column(_exact(name)) for name in columns.values()]
    if connection.dialect.name == "postgresql":
        # The database writes what it holds: a date that Python does not have stops no reading.
        asked[1:] = [sa.cast(column, sa.Text) for column in asked[1:]]
    schema, malformed = dict.fromkeys(columns, pl.String), 0
    pages = [pl.DataFrame(schema=schema)]
    result = connection.execute(
        sa.select(*asked).select_from(_rows_of(place)),
        execution_options={"yield_per": _PAGE_ROWS},
    )
    for page in result.partitions():
        rows = [cells for cells in map(_texts, page) if cells is not None]
        malformed += len(page) - len(rows)
        pages.append(pl.DataFrame(rows, schema=schema, orient="row"))
    return pl.concat(pages), malformed


def _texts(row: Sequence[object]) -> list[str | None] | None:
    """Return the cells of a row as text, None when one of them has no text."""
    try:
        if isinstance(row[0], bool):
            return None  # no identifier
        return [_text(cell) for cell in row]
    except TypeError:
        return None


def _text(cell: object) -> str | None:
    match cell:
        case None | str():
            return cell
        case bool():
            return str(cell).lower()
        case int() | UUID():
            return str(cell)
        case float():
            return repr(cell)
        case Decimal():
            return format(cell, "f")
    raise TypeError
