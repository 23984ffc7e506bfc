"""Customers that never lived: rows within a contract's public bounds, and nothing else."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedcore.contracts import Contract, ContractField

_POSITIVE_SHARE = 0.3


def generate_rows(contract: Contract, unit: str, count: int, seed: int) -> pl.DataFrame:
    """Return `count` sound rows of a unit as text cells, the same ones for the same seed.

    Where the contract lets a customer have several rows, each has two, and the last may have one.
    Each number is uniform between its public bounds, each category as likely as the others, the
    label depends on nothing, and a row's day, where the contract has one, is today: what a
    rehearsal or a test needs, and nothing to learn from.
    """
    draw = np.random.default_rng([seed, *unit.encode()])
    each = 1 if contract.rows_per_customer is None else 2
    customers = [f"{unit}-{number // each:06d}" for number in range(count)]
    columns = {contract.subject.column: customers}
    columns |= {field.name: _cells(field, draw, count) for field in contract.fields}
    label = contract.label
    leaves = draw.uniform(size=count) < _POSITIVE_SHARE
    columns[label.name] = [label.positive if left else label.negative for left in leaves]
    if contract.row_day is not None:
        columns[contract.row_day.column] = [datetime.now(UTC).date().isoformat()] * count
    return pl.DataFrame(columns)


def _cells(field: ContractField, draw: np.random.Generator, count: int) -> list[str]:
    if field.kind == "categorical":
        return [str(value) for value in draw.choice(list(field.categories), count)]
    lower, upper = field.lower or 0.0, field.upper or 0.0
    numbers: NDArray[np.float64] = draw.uniform(lower, upper, count)
    return [str(max(lower, float(np.floor(number)))) for number in numbers]
