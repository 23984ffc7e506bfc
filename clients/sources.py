"""Where customer rows come from. Cells arrive as text; what they mean is the contract's business.

One line of a CSV file is one customer: lines are read one by one, so that a broken line (a stray
quote, a missing cell, a byte that is not UTF-8) never changes how another one is read.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fedcore.errors import DataError

Line = list[str] | None
_UNREADABLE = (OSError, UnicodeError, pl.exceptions.PolarsError, pl.exceptions.PanicException)


@dataclass(frozen=True)
class Rows:
    """The columns that were asked for, and how many lines could not be read as rows."""

    frame: pl.DataFrame
    malformed: int


def load_rows(source: Path, columns: list[str]) -> Rows:
    """Return these columns of a CSV or Parquet file, every cell as text, empty cells as null.

    Raises: DataError `data.unreadable`, `data.column_missing` (all missing ones are named),
        `data.column_not_text` for a Parquet identifier of another kind than text or whole number;
        none holds anything that the reader says, as that may quote cells.
    """
    try:
        return _read(source, columns)
    except _UNREADABLE as error:
        raise DataError(
            "data.unreadable", f"cannot read the source {source.name}", type(error).__name__
        ) from None


def _read(source: Path, columns: list[str]) -> Rows:
    if source.suffix == ".parquet":
        frame = pl.read_parquet(source)
        _require_columns(source, columns, frame.columns)
        _require_identifier(frame.schema[columns[0]], columns[0])
        return Rows(_as_text(frame, columns), 0)
    lines = _lines(source.read_bytes())
    header = next(lines, None)
    if header is None:
        raise DataError("data.unreadable", f"the source {source.name} has no header line")
    _require_columns(source, columns, header)
    places = [header.index(column) for column in columns]
    rows, malformed = [], 0
    for cells in lines:
        if cells is None or len(cells) != len(header):
            malformed += 1
        else:
            rows.append([cells[place] for place in places])
    schema = dict.fromkeys(columns, pl.String)
    return Rows(_as_text(pl.DataFrame(rows, schema=schema, orient="row"), columns), malformed)


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


def _require_columns(source: Path, columns: list[str], found: list[str]) -> None:
    missing = [column for column in columns if column not in found]
    if missing:
        raise DataError(
            "data.column_missing",
            f"the source {source.name} lacks the contract's columns: {', '.join(missing)}",
        )


def _require_identifier(kind: pl.DataType, column: str) -> None:
    """Refuse identifiers that would be written in another way than when an opt-out came in."""
    if not (kind.is_integer() or kind in {pl.String, pl.Categorical}):
        raise DataError(
            "data.column_not_text",
            f"column {column} holds identifiers: store them as text or whole numbers",
        )


def _as_text(frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    text = frame.select(pl.col(column).cast(pl.String) for column in columns)
    stripped = text.with_columns(pl.all().str.strip_chars())
    return stripped.with_columns(
        pl.when(pl.col(column) != "").then(pl.col(column)) for column in columns
    )
