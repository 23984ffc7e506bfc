"""Where customer rows come from.

Cells arrive as text; what they mean is the contract's business.
"""

from pathlib import Path

import polars as pl

from fedcore.errors import DataError


def load_rows(source: Path, columns: list[str]) -> pl.DataFrame:
    """Return these columns of a CSV or Parquet file, every cell as text, empty cells as null.

    Raises: DataError `data.unreadable`, `data.column_missing` (all missing ones are named); neither
        holds anything that the reader says, as that may quote cells.
    """
    try:
        frame = _read(source)
        missing = [column for column in columns if column not in frame.columns]
        if not missing:
            return _as_text(frame, columns)
    except (
        OSError,
        UnicodeError,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
    ) as error:
        raise DataError(
            "data.unreadable", f"cannot read the source {source.name}", type(error).__name__
        ) from None
    raise DataError(
        "data.column_missing",
        f"the source {source.name} lacks the contract's columns: {', '.join(missing)}",
    )


def _read(source: Path) -> pl.DataFrame:
    if source.suffix == ".parquet":
        return pl.read_parquet(source)
    return pl.read_csv(source, infer_schema=False)


def _as_text(frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    text = frame.select(pl.col(column).cast(pl.String) for column in columns)
    stripped = text.with_columns(pl.all().str.strip_chars())
    return stripped.with_columns(
        pl.when(pl.col(column) != "").then(pl.col(column)) for column in columns
    )
