"""Where customer rows come from.

Cells arrive as text; what they mean is the contract's business.
"""

from pathlib import Path

import polars as pl

from fedcore.errors import DataError


def load_rows(source: Path, columns: list[str]) -> pl.DataFrame:
    """Return these columns of a CSV or Parquet file, every cell as text, empty cells as null.

    Raises: DataError `data.unreadable`, `data.column_missing` (all missing ones are named),
        `data.empty`.
    """
    try:
        frame = _read(source)
    except (OSError, pl.exceptions.PolarsError, UnicodeError) as error:
        raise DataError(
            "data.unreadable", f"cannot read the source {source.name}", str(error)
        ) from error
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(
            "data.column_missing",
            f"the source {source.name} lacks the contract's columns: {', '.join(missing)}",
        )
    if frame.is_empty():
        raise DataError("data.empty", f"the source {source.name} has no rows")
    text = frame.select(pl.col(column).cast(pl.String) for column in columns)
    stripped = text.with_columns(pl.all().str.strip_chars())
    return stripped.with_columns(
        pl.when(pl.col(column) != "").then(pl.col(column)) for column in columns
    )


def _read(source: Path) -> pl.DataFrame:
    if source.suffix == ".parquet":
        return pl.read_parquet(source)
    return pl.read_csv(source, infer_schema=False)
