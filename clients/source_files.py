"""CSV and Parquet files of customers, as text.

One line of a CSV file is one customer: lines are read one by one, so that a broken line (a stray
quote, a missing cell, a byte that is not UTF-8) never changes how another one is read.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from fedcore.errors import DataError

Line = list[str] | None


def read_file(path: Path, columns: Mapping[str, str]) -> tuple[pl.DataFrame, int]:
    """Return columns of a file as text, and how many lines are no rows.

    Args: `columns` says for each name in the result what the column is called in the file; the
        first one holds the identifiers.
    Raises: DataError `data.unreadable`, `data.column_missing`, `data.column_doubled`,
        `data.column_not_text`; OSError, UnicodeError and errors of polars, which may quote cells.
    """
    return _parquet(path, columns) if path.suffix == ".parquet" else _csv(path, columns)


def require_columns(source: str, columns: Mapping[str, str], found: list[str]) -> None:
    """Raise unless each column is there once.

    Raises: DataError `data.column_missing`, `data.column_doubled`, naming all that it is true of.
    """
    missing = [_named(*pair) for pair in columns.items() if pair[1] not in found]
    if missing:
        raise DataError(
            "data.column_missing",
            f"the source {source} lacks the contract's columns: {', '.join(missing)}",
        )
    doubled = [_named(*pair) for pair in columns.items() if found.count(pair[1]) > 1]
    if doubled:
        raise DataError(
            "data.column_doubled",
            f"the source {source} has several columns of one name: {', '.join(doubled)}",
        )


def _named(column: str, place: str) -> str:
    return column if column == place else f"{place} (for {column})"


def _parquet(path: Path, columns: Mapping[str, str]) -> tuple[pl.DataFrame, int]:
    frame = pl.read_parquet(path)
    require_columns(path.name, columns, frame.columns)
    identifiers = next(iter(columns.values()))
    _require_identifier(frame.schema[identifiers], identifiers)
    texts = [pl.col(place).cast(pl.String).alias(column) for column, place in columns.items()]
    return frame.select(texts), 0


def _csv(path: Path, columns: Mapping[str, str]) -> tuple[pl.DataFrame, int]:
    lines = _lines(path.read_bytes())
    header = next(lines, None)
    if header is None:
        raise DataError("data.unreadable", f"the source {path.name} has no header line")
    require_columns(path.name, columns, header)
    places = [header.index(column) for column in columns.values()]
    rows, malformed = [], 0
    for cells in lines:
        if cells is None or len(cells) != len(header):
            malformed += 1
        else:
            rows.append([cells[place] for place in places])
    schema = dict.fromkeys(columns, pl.String)
    return pl.DataFrame(rows, schema=schema, orient="row"), malformed


def _lines(data: bytes) -> Iterator[Line]:
    """Yield the cells of each line that is not blank; None for one that is no CSV line."""
    for raw in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        line = raw.removesuffix(b"\r")
        if line.strip():
            yield _cells(line)


def _cells(line: bytes) -> Line:
    try:
        return next(csv.reader([line.decode("utf-8")], strict=True), None)
    except (UnicodeDecodeError, csv.Error):
        return None


def _require_identifier(kind: pl.DataType, column: str) -> None:
    """Refuse identifiers that would be written in another way than when an opt-out came in."""
    if not (kind.is_integer() or kind in {pl.String, pl.Categorical}):
        raise DataError(
            "data.column_not_text",
            f"column {column} holds identifiers: store them as text or whole numbers",
        )
