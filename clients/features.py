"""The feature map: one customer's row to numbers, by the contract's and plan's public constants
only.

Guarantees: a customer's numbers are a function of that customer's row, the contract and the plan;
    nothing here looks at another row. Every number lies in [-1, 1].
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedcore.contracts import Contract, ContractField
from fedcore.encodings import field_of, levels_of
from fedcore.errors import MismatchError
from fedcore.plans import Feature, Imputation

Matrix = NDArray[np.float64]


def encode(
    rows: pl.DataFrame,
    features: tuple[Feature, ...],
    contract: Contract,
    absent: frozenset[str] = frozenset(),
) -> Matrix:
    """Return the rows as float64 numbers, shape (rows, inputs).

    Args:
        rows: numeric fields as Float64 inside their bounds and categorical ones as text among their
            categories, as `clients.data` yields them; an empty cell is null.
        absent: the fields that the plan says this unit lacks; they are imputed and not looked at.
    Raises: MismatchError `plan.field_unknown`, `plan.encoding_unfit`, `plan.absence_unsaid`,
        `plan.absence_unfit`.
    """
    fields = [(feature, field_of(feature, contract)) for feature in features]
    blocks = [
        _inputs(rows, feature, field, lacks=field.name in absent) for feature, field in fields
    ]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1))


def _inputs(rows: pl.DataFrame, feature: Feature, field: ContractField, *, lacks: bool) -> Matrix:
    column = _imputed(feature, rows.height) if lacks else rows[field.name]
    numbers = [_encode(_filled(column, field), feature, field)]
    if feature.missing_indicator:
        numbers.append(column.is_null().to_numpy().astype(np.float64)[:, None])
    if feature.absent_indicator:
        numbers.append(np.full((rows.height, 1), float(lacks)))
    return np.concatenate(numbers, axis=1)


def _imputed(feature: Feature, count: int) -> pl.Series:
    if not isinstance(feature.absent, Imputation):
        raise MismatchError(
            "plan.absence_unsaid", f"the plan imputes nothing for {feature.field}, which is absent"
        )
    kind = pl.String if isinstance(feature.absent.impute, str) else pl.Float64
    return pl.Series([feature.absent.impute] * count, dtype=kind)


def _filled(column: pl.Series, field: ContractField) -> pl.Series:
    """Return the cells with what stands for the empty ones; without a rule there are none."""
    return column if field.missing is None else column.fill_null(field.missing)


def _encode(column: pl.Series, feature: Feature, field: ContractField) -> Matrix:
    if field.kind == "categorical":
        cells = column.to_numpy()[:, None]
        return np.asarray(
            cells == np.array(levels_of(feature, field), dtype=object), dtype=np.float64
        )
    values = column.to_numpy().astype(np.float64)
    lower, upper = float(field.lower or 0.0), float(field.upper or 0.0)
    if feature.encoding == "edges":
        edges = np.array(feature.edges)
        widths = edges[1:] - edges[:-1]
        return np.asarray(np.clip((values[:, None] - edges[:-1]) / widths, 0.0, 1.0))
    if feature.encoding == "log":
        values, lower, upper = np.log1p(values - lower), 0.0, float(np.log1p(upper - lower))
    return np.asarray(2.0 * (values - lower) / (upper - lower) - 1.0)[:, None]
