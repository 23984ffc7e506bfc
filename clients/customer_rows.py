"""Which rows of a customer count where the contract lets a customer have several.

Guarantees: what becomes of a customer's rows depends on that customer's rows, the contract and the
    fields that the plan calls absent, and neither on where the rows stand nor on anybody else's.
"""

import hashlib
import json

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedcore.contracts import Contract, RowsRule

CUSTOMER = "\x00customer"
DAY = "\x00day"
_DRAWN = "\x00drawn"


def whole_customers(subject: pl.Series, usable: pl.Series) -> pl.Series:
    """Return which rows are of customers all of whose rows are usable; null is nobody's."""
    table = pl.DataFrame({CUSTOMER: subject, "usable": usable})
    all_are = pl.col("usable").all().over(CUSTOMER)
    return table.select((all_are & pl.col(CUSTOMER).is_not_null()).alias("usable")).to_series()


def take_rows(
    rows: pl.DataFrame, rule: RowsRule, content: list[str]
) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Return the rows that count, each customer's beside each other, and how many each has.

    Customers are in the order of their identifiers. Equal rows stay as many as they are: nothing in
    a contract tells the same row twice from the same thing done twice.

    Args:
        rows: with CUSTOMER, the identifier as its rule normalises it, and for `newest/1` with DAY,
            the day as text.
        content: the columns that a row is told from its customer's other ones by.
    """
    are_several = (pl.len().over(CUSTOMER) > 1).alias(_DRAWN)
    found = rows.select(are_several, CUSTOMER, *content).iter_rows()
    drawn = [_draw(row) if several else "" for several, *row in found]
    by = [CUSTOMER, DAY, _DRAWN] if rule.rule == "newest/1" else [CUSTOMER, _DRAWN]
    ordered = rows.with_columns(pl.Series(_DRAWN, drawn, dtype=pl.String)).sort(
        by, descending=[name == DAY for name in by]
    )
    taken = ordered.filter(pl.int_range(pl.len()).over(CUSTOMER) < rule.most).drop(_DRAWN)
    return taken, taken[CUSTOMER].rle().struct.field("len").to_numpy().astype(np.int64)


def rows_of_crowded(subject: pl.Series, contract: Contract) -> list[int]:
    """Return how many rows each customer has who has more than the contract lets count.

    None where it lets one count: a second row is a fault there.
    """
    if contract.rows_per_customer is None:
        return []
    counts = subject.drop_nulls().value_counts(name="rows")["rows"]
    return counts.filter(counts > contract.rows_per_customer.most).to_list()


def _draw(row: list[object]) -> str:
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()
