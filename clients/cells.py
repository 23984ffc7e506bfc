"""What single cells of a source are, as the contract means them, and which rules they break.

Guarantees: what becomes of a cell depends on no other row's, except that a second row of one
    customer is found.
"""

import polars as pl

from clients.pseudonyms import Pseudonymiser, normalise
from fedcore.contracts import Contract, ContractField

DUPLICATE = "one customer has several rows"
_DECIMAL = r"^[+-]?\d+([.,]\d+)?[eE][+-]?\d+$|^[+-]?\d+[.,]\d+$"


def field_cells(column: pl.Series, field: ContractField) -> tuple[pl.Series, dict[str, pl.Series]]:
    """Return the cells and the broken rules; an empty cell stays null, and breaks one only where
    the contract has nothing that stands for it.
    """
    empty = column.is_null()
    broken = empty if field.missing is None else empty & ~empty
    if field.kind == "categorical":
        unknown = ~column.is_in(list(field.categories)).fill_null(value=True)
        return column, {"empty": broken, "category outside the contract": unknown}
    values = column.cast(pl.Float64, strict=False)
    number = values.is_finite().fill_null(value=False)
    outside = number & ((values < field.lower) | (values > field.upper)).fill_null(value=False)
    return values, {
        "empty": broken,
        "not a finite number": ~number & ~empty,
        "outside its bounds": outside,
    }


def label_cells(column: pl.Series, contract: Contract) -> tuple[pl.Series, pl.Series]:
    """Return 1 for the positive label and else 0, and which cells are none of the two labels."""
    positive = (column == contract.label.positive).fill_null(value=False)
    negative = (column == contract.label.negative).fill_null(value=False)
    return positive.cast(pl.Float64), ~(positive | negative)


def subject_cells(
    column: pl.Series, pseudonymiser: Pseudonymiser
) -> tuple[pl.Series, dict[str, pl.Series]]:
    """Return pseudonyms and broken rules.

    A number with decimals or an exponent is what a spreadsheet or a column of floats makes of an
    identifier: its pseudonym would no longer be the one that opt-outs were taken in under.
    """
    pseudonyms = pl.Series(
        [pseudonymiser.pseudonym(cell) if normalise(cell or "") else None for cell in column],
        dtype=pl.String,
    )
    empty = pseudonyms.is_null()
    rules = {
        "empty": empty,
        "written as a number with decimals": column.str.contains(_DECIMAL).fill_null(value=False),
        DUPLICATE: pseudonyms.is_duplicated() & ~empty,
    }
    return pseudonyms, rules
