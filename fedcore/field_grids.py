"""The public states of each input field and what they become as inputs: from contract and plan
alone, without a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.contracts import Contract, ContractField
from fedcore.encodings import field_of, input_names, levels_of
from fedcore.plans import Feature, Imputation, TrainingPlan

# Even points between the public bounds of a numeric field, both of them included.
POINTS = 33


@dataclass(frozen=True)
class FieldGrid:
    """A field's public states.

    Attributes:
        labels: what each state is called.
        columns: the places of the field's inputs among those of the model.
        codes: the inputs of each state, shape (states, columns).
    """

    field: str
    labels: tuple[str, ...]
    columns: tuple[int, ...]
    codes: NDArray[np.float64]


@dataclass(frozen=True)
class _State:
    """A cell's value, and whether the cell was empty, or the unit lacks the field."""

    label: str
    value: float | str
    missing: bool = False
    lacks: bool = False


def field_grids(plan: TrainingPlan, contract: Contract) -> tuple[FieldGrid, ...]:
    """Return the grid of each input field, in the order of the plan.

    The states of a numeric field are even points between its bounds and all edges of its features;
    of a categorical one its categories; of either, besides, an empty cell and the absence at a
    unit, where the plan marks them with an input of their own.

    Guarantees: codes are those that nodes train on; every input of the model is in one grid.
    Raises: MismatchError as `input_names`.
    """
    places = _columns(plan, contract)
    grids = []
    for name in dict.fromkeys(feature.field for feature in plan.features):
        features = [feature for feature in plan.features if feature.field == name]
        field = field_of(features[0], contract)
        states = list(_states(features, field))
        codes = [
            [number for feature in features for number in _code(feature, field, state)]
            for state in states
        ]
        grids.append(
            FieldGrid(
                field=name,
                labels=tuple(state.label for state in states),
                columns=tuple(places[name]),
                codes=np.array(codes, dtype=np.float64),
            )
        )
    return tuple(grids)


def _columns(plan: TrainingPlan, contract: Contract) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    start = 0
    for feature in plan.features:
        width = len(input_names((feature,), contract))
        found.setdefault(feature.field, []).extend(range(start, start + width))
        start += width
    return found


def _states(features: list[Feature], field: ContractField) -> Iterator[_State]:
    if field.kind == "categorical":
        yield from (_State(category, category) for category in field.categories)
    else:
        edges = {edge for feature in features for edge in feature.edges}
        even = np.linspace(float(field.lower or 0.0), float(field.upper or 0.0), POINTS)
        values = sorted({*map(float, even), *edges})
        yield from (_State(f"{value:g}", value) for value in values)
    if field.missing is not None and any(feature.missing_indicator for feature in features):
        yield _State("empty cell", field.missing, missing=True)
    rule = features[0].absent
    if isinstance(rule, Imputation) and any(feature.absent_indicator for feature in features):
        yield _State("not held at the unit", rule.impute, lacks=True)


def _code(feature: Feature, field: ContractField, point: _State) -> list[float]:
    numbers = _value_code(feature, field, point.value)
    if feature.missing_indicator:
        numbers.append(float(point.missing))
    if feature.absent_indicator:
        numbers.append(float(point.lacks))
    return numbers


def _value_code(feature: Feature, field: ContractField, value: float | str) -> list[float]:
    if isinstance(value, str):
        return [float(value == level) for level in levels_of(feature, field)]
    lower, upper = float(field.lower or 0.0), float(field.upper or 0.0)
    if feature.encoding == "edges":
        edges = np.array(feature.edges)
        widths = edges[1:] - edges[:-1]
        return list(np.clip((value - edges[:-1]) / widths, 0.0, 1.0))
    if feature.encoding == "log":
        value, lower, upper = float(np.log1p(value - lower)), 0.0, float(np.log1p(upper - lower))
    return [2.0 * (value - lower) / (upper - lower) - 1.0]
