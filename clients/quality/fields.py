"""Each field by itself and against the label, from one table of how often each value occurs."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.quality.findings import Finding
from clients.quality.measures import auc_of_counts, chance, cramers_v, excess
from fedcore.contracts import ContractField

BINS = 10
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOSTLY_MISSING = 0.5
PILE = 0.2
PILE_ON_BOUND = 0.05
MANY_VALUES = 20
SENTINELS = (-1, -9, -99, -999, -9999, -99999, 9, 99, 999, 9999, 99999, 999999)
SENTINEL_ROWS = 3
SENTINEL_GAP = 0.1
LEAK_AUC = 0.95
LEAK_V = 0.8
LEAK_ROWS = 30

Numbers = NDArray[np.float64]
_FAULTS = {
    "empty": "field.missing_not_allowed",
    "not a finite number": "field.not_a_number",
    "outside its bounds": "field.outside_bounds",
    "category outside the contract": "field.unknown_category",
}


@dataclass(frozen=True)
class Column:
    """A field's cells: null where they are missing or no value of its kind.

    Attributes:
        about: the contract's field.
        values: finite numbers, also outside the bounds; or the contract's categories.
        missing: which cells are empty in the source.
        faults: how many cells break which rule.
    """

    about: ContractField
    values: pl.Series
    missing: pl.Series
    faults: dict[str, int]

    @property
    def levels(self) -> int:
        """How many bins or categories there are, by the contract."""
        return len(self.about.categories) or BINS

    def codes(self) -> NDArray[np.int64]:
        """Return each cell's bin or category; `levels` for a missing one, -1 for a faulty one."""
        if self.about.categories:
            kind = pl.Enum(list(self.about.categories))
            found = self.values.cast(kind).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        else:
            found = bins_of(self.values.fill_null(np.nan).to_numpy(), self.about)
        return np.where(self.missing.to_numpy(), self.levels, found)


@dataclass(frozen=True)
class FieldFacts:
    """What a field is like. A share is of all rows; quantiles are values that occur."""

    field: str
    kind: str
    rows: int
    missing: int
    distinct: int
    faults: dict[str, int]
    quantiles: dict[str, float] | None
    categories: dict[str, int] | None
    label_auc: float | None = None
    label_v: float | None = None
    findings: list[Finding] = dataclasses.field(default_factory=list)


def bins_of(values: Numbers, about: ContractField) -> NDArray[np.int64]:
    """Return the place of each number among BINS equal parts of the contract's bounds, else -1."""
    lower, upper = float(about.lower or 0.0), float(about.upper or 0.0)
    inside = (values >= lower) & (values <= upper)
    share = (np.where(inside, values, lower) - lower) / (upper - lower)
    return np.where(inside, np.minimum((share * BINS).astype(np.int64), BINS - 1), -1)


def examine_field(column: Column, label: pl.Series) -> FieldFacts:
    """Return what a field is like; `label` is 1 or 0, null where it is faulty.

    Only fields that may be inputs are held against the label: others cannot leak it.
    """
    about, counts = column.about, _value_counts(column.values, label)
    numbers = None if about.categories else counts["value"].to_numpy()
    rows, missing = len(label), int(column.missing.sum())
    auc, v, leak = _leakage(column, counts, label)
    facts = FieldFacts(
        field=about.name,
        kind=about.kind,
        rows=rows,
        missing=missing,
        distinct=counts.height,
        faults={rule: count for rule, count in column.faults.items() if count},
        quantiles=None if numbers is None else _quantiles(numbers, counts["rows"].to_numpy()),
        categories=None if numbers is not None else dict(counts.select("value", "rows").rows()),
        label_auc=auc,
        label_v=v,
    )
    facts.findings.extend([*_found(facts), *_implausible(column, counts, rows), *leak])
    return facts


def _value_counts(values: pl.Series, label: pl.Series) -> pl.DataFrame:
    table = pl.DataFrame({"value": values, "label": label.cast(pl.Int64)})
    return (
        table.drop_nulls("value")
        .group_by("value")
        .agg(
            rows=pl.len().cast(pl.Int64),
            positive=pl.col("label").eq(1).sum().cast(pl.Int64),
            negative=pl.col("label").eq(0).sum().cast(pl.Int64),
        )
        .sort("value")
    )


def _quantiles(values: Numbers, rows: NDArray[np.int64]) -> dict[str, float]:
    """Return the least value at or below which each share of the values lies."""
    if not len(values):
        return {}
    share = np.cumsum(rows) / rows.sum()
    places = np.minimum(np.searchsorted(share, QUANTILES), len(values) - 1)
    return {f"{q:g}": float(values[at]) for q, at in zip(QUANTILES, places, strict=True)}


def _found(facts: FieldFacts) -> list[Finding]:
    name, found = facts.field, []
    for rule, rows in facts.faults.items():
        found.append(Finding(_FAULTS.get(rule, "row.faulty"), name, rows, {"rule": rule}))
    if facts.rows and facts.missing == facts.rows:
        found.append(Finding("field.all_missing", name, facts.missing))
    elif facts.rows and facts.missing / facts.rows >= MOSTLY_MISSING:
        share = facts.missing / facts.rows
        found.append(Finding("field.mostly_missing", name, facts.missing, {"share": share}))
    if facts.distinct == 1:
        found.append(Finding("field.constant", name, facts.rows - facts.missing))
    return found


def _implausible(column: Column, counts: pl.DataFrame, rows: int) -> list[Finding]:
    """Return numbers that many rows have without a reason that the contract gives."""
    if column.about.categories or counts.height < 2:
        return []
    values, found = counts["value"].to_numpy(), counts["rows"].to_numpy()
    sentinels = _sentinels(values, found)
    findings = [_pile("field.sentinel", column, values[i], found[i], rows) for i in sentinels]
    if counts.height < MANY_VALUES:
        return findings
    for i in np.flatnonzero(found >= rows * PILE_ON_BOUND):
        if i in sentinels:
            continue
        if values[i] in {column.about.lower, column.about.upper}:
            findings.append(_pile("field.pile_on_bound", column, values[i], found[i], rows))
        elif found[i] >= rows * PILE:
            findings.append(_pile("field.pile", column, values[i], found[i], rows))
    return findings


def _pile(code: str, column: Column, value: float, found: int, rows: int) -> Finding:
    measures: dict[str, float | str] = {"value": float(value), "share": float(found) / rows}
    return Finding(code, column.about.name, int(found), measures)


def _sentinels(values: Numbers, rows: NDArray[np.int64]) -> list[int]:
    """Return the places of customary stand-ins that lie far from all other values, or are negative
    where no other value is.
    """
    listed = np.isin(values, SENTINELS) & (rows >= SENTINEL_ROWS)
    others = values[~listed]
    if not len(others):
        return []
    low, high = others[0], others[-1]
    gap = SENTINEL_GAP * (high - low)
    is_far = (values < low - gap) | (values > high + gap) | ((values < 0) & (low >= 0))
    return [int(place) for place in np.flatnonzero(listed & is_far)]


def _leakage(
    column: Column, counts: pl.DataFrame, label: pl.Series
) -> tuple[float | None, float | None, list[Finding]]:
    """Return AUC and Cramér's V of one field against the label, and what gives it away."""
    positive, negative = int((label == 1).sum()), int((label == 0).sum())
    if column.about.sensitivity != "none" or min(positive, negative) < LEAK_ROWS:
        return None, None, []
    found = counts.select("positive", "negative").to_numpy().astype(np.float64)
    auc = None if column.about.categories else auc_of_counts(found[:, 0], found[:, 1])
    away = label.filter(column.missing)
    missing = [float((away == 1).sum()), float((away == 0).sum())]
    table = np.vstack([_binned(column, counts["value"], found), missing])
    v = cramers_v(table)
    measures: dict[str, float | str] = {}
    if auc is not None and found.sum(axis=0).min() >= LEAK_ROWS and max(auc, 1 - auc) >= LEAK_AUC:
        measures["auc"] = auc
    if v is not None and v >= LEAK_V and excess(table) > 3 * chance(table):
        measures["cramers_v"] = v
    rows = int(table.sum())
    leaks = [Finding("leak.single_field", column.about.name, rows, measures)] if measures else []
    return auc, v, leaks


def _binned(column: Column, values: pl.Series, found: Numbers) -> Numbers:
    """Return how many positives and negatives each category or bin has; outside ones left out."""
    if column.about.categories:
        return found
    places = bins_of(values.to_numpy(), column.about)
    table = np.zeros((BINS, 2))
    np.add.at(table, places[places >= 0], found[places >= 0])
    return table
