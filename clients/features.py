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
from fedcore.plans import Feature

Matrix = NDArray[np.float64]


def encode(rows: pl.DataFrame, features: tuple[Feature, ...], contract: Contract) -> Matrix:
    """Return the rows as float64 numbers, shape (rows, features).

    `rows` holds numeric fields as Float64 inside their bounds and categorical ones as text among
    their categories, as `clients.data` yields them.
    Raises: MismatchError `plan.field_unknown`, `plan.encoding_unfit`.
    """
    fields = [(feature, field_of(feature, contract)) for feature in features]
    blocks = [_encode(rows[field.name], feature, field) for feature, field in fields]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1))


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
