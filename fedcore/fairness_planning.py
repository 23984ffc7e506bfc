"""How many customers would settle a fairness threshold, worked out before anybody is counted.

From what is declared or supposed beforehand: thresholds, epsilon, number of units, the groups'
shares and the rates that are expected. It is the verdict's own arithmetic at the counts that are
expected, with room for the chance that the table comes out otherwise.
"""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fedcore.dpias import Bindings
from fedcore.errors import InvalidRecordError
from fedcore.fairness import gap_in, sizes_of
from fedcore.fairness_bindings import CROSSED
from fedcore.fairness_tables import GroupTable, TableLayout
from fedcore.fairness_terms import (
    SEGMENT_METRIC,
    Comparison,
    FairnessTerms,
    audit_of,
    comparisons_of,
)
from fedcore.noised_rates import count_bounds

MAX_ROWS = 1_000_000_000


@dataclass(frozen=True)
class ExpectedRates:
    """What is expected of the customers of one cell, each a number from 0 to 1.

    Attributes:
        share: of the cell among all customers who are counted.
        positive: of its customers, those with a positive label.
        true_positive: of its positive customers, those who are selected.
        false_positive: of its negative customers, those who are selected.
    """

    share: float
    positive: float
    true_positive: float
    false_positive: float

    def __post_init__(self) -> None:
        """Raises: InvalidRecordError `fairness.table_invalid`, naming the field."""
        for field in fields(self):
            found = getattr(self, field.name)
            # In Python true is 1; in a file it is somebody's mistake.
            if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
                raise _invalid(f"{field.name}: a number from 0 to 1, not {found!r}")


@dataclass(frozen=True)
class PlannedTable:
    """A table as it is expected to come.

    Attributes:
        layout: as it will be counted: with further edges, every sum over bands holds more noise.
        shares: of all customers, one for each entry; or four for each cell as without further
            edges, which say who is selected and nothing else of how scores lie.
        units, epsilon: as of the table.
    """

    layout: TableLayout
    shares: tuple[float, ...]
    units: int
    epsilon: float

    def __post_init__(self) -> None:
        """Raises: InvalidRecordError `fairness.table_invalid`."""
        lengths = sorted({self.layout.cell_count * 4, self.layout.length})
        if len(self.shares) not in lengths or not 0.999 < sum(self.shares) < 1.001:
            told = " or ".join(map(str, lengths))
            raise _invalid(f"expected shares: {told} numbers that add up to 1")

    @property
    def has_bands(self) -> bool:
        """Whether it is expected of every band of the score how many customers it has."""
        return len(self.shares) == self.layout.length

    def at(self, rows: int) -> GroupTable:
        """Return the table of so many customers, when everything comes as expected.

        Where nothing is expected of bands, all are in the two beside the threshold: right in every
        sum over the bands on one side of it, whose noise is that of all of them.
        """
        counts = np.array([round(rows * share) for share in self.shares])
        if not self.has_bands:
            beside = counts.reshape(-1, 2, 2)
            counts = np.zeros((self.layout.cell_count, self.layout.bands, 2), dtype=np.int64)
            below = self.layout.edges.index(self.layout.threshold)
            counts[:, below : below + 2] = beside
        found = tuple(int(count) for count in counts.reshape(-1))
        return GroupTable(self.layout, found, self.units, self.epsilon)


@dataclass(frozen=True)
class RowsNeeded:
    """How many customers settle one bound: the least number, and what the verdict then is.

    Attributes:
        rows: in all groups together; None when up to 10^9 do not settle it, as when a gap is
            expected at its threshold, or when there is no forecast.
        settles: the verdict that is then reached with the wished probability; None when there is no
            forecast, as of calibration in bands of which nothing is expected.
    """

    attribute: str
    metric: str
    largest_gap: float
    rows: int | None
    settles: str | None


def forecast_terms(bindings: Bindings) -> tuple[TableLayout, FairnessTerms]:
    """Return the table and the terms that a DPIA binds, for a forecast.

    Raises: InvalidRecordError `fairness.no_forecast` when it binds shares of segments;
        `fairness.not_bound`, `fairness.unknown_group` as `audit_of`.
    """
    if any(bound.metric == SEGMENT_METRIC for bound in bindings.fairness or ()):
        raise InvalidRecordError(
            "fairness.no_forecast",
            f"the DPIA binds {SEGMENT_METRIC}: segments' shares have no forecast, only an audit",
        )
    return audit_of(bindings)


def read_rates(layout: TableLayout, given: object) -> tuple[ExpectedRates, ...]:
    """Return what a JSON object says is expected in each cell, in the order of the wire.

    Args: `given` has an object for each cell, by its groups with " & " between them.
    Raises: InvalidRecordError `fairness.table_invalid`, naming the group and the field, for a group
        or field that is missing or not known, or a rate that is no number from 0 to 1.
    """
    names = tuple(CROSSED.join(cell) for cell in layout.cells)
    by_group = _object_of(given, names, "expected rates")
    known = tuple(field.name for field in fields(ExpectedRates))
    found = []
    for name in names:
        rates = _object_of(by_group[name], known, f"expected rates of {name!r}")
        try:
            found.append(ExpectedRates(**rates))
        except InvalidRecordError as error:
            raise _invalid(f"expected rates of {name!r}: {error.public}") from error
    return tuple(found)


def expected_shares(layout: TableLayout, cells: Sequence[ExpectedRates]) -> tuple[float, ...]:
    """Return shares of all customers from what is expected in each cell, in their order: of each
    cell those of (TN, FN, FP, TP), which are the table's entries when it has no further edges.

    Raises: InvalidRecordError `fairness.table_invalid` when a cell is missing.
    """
    if len(cells) != len(layout.cells):
        raise _invalid(f"expected rates: one for each cell, of which there are {len(layout.cells)}")
    found: list[float] = []
    for of in cells:
        positive, negative = of.share * of.positive, of.share * (1 - of.positive)
        found += [negative * (1 - of.false_positive), positive * (1 - of.true_positive)]
        found += [negative * of.false_positive, positive * of.true_positive]
    return tuple(found)


def rows_to_settle(
    planned: PlannedTable, terms: FairnessTerms, power: float = 0.9
) -> tuple[RowsNeeded, ...]:
    """Return, for each bound of the terms by itself, how many customers settle it.

    Of calibration in bands of which nothing is expected there is no forecast; its comparisons count
    among all those that are tested.
    A bound whose expected gaps are all inside is settled by PASS of its comparisons, and one with a
    gap outside by FAIL, each with probability `power` or more when everything is as supposed.
    Args: power in (1/2, 1).
    Raises: InvalidRecordError `fairness.unknown_group`, `fairness.not_bound`.
    """
    comparisons = comparisons_of(planned.layout, terms)
    found = []
    for bound in terms.bounds:
        about = (bound.attribute, bound.metric, bound.largest_gap)
        if bound.metric == "calibration_difference" and not planned.has_bands:
            found.append(RowsNeeded(*about, rows=None, settles=None))
            continue
        own = [comparison for comparison in comparisons if comparison.bound == bound]
        gaps = [gap_in(planned.at(MAX_ROWS), comparison).gap for comparison in own]
        passes = all(gap is not None and abs(gap) < bound.largest_gap for gap in gaps)
        question = _Question(planned, terms, own, passes, 1 - power, len(comparisons))
        verdict = "PASS" if passes else "FAIL"
        found.append(RowsNeeded(*about, rows=_least(question), settles=verdict))
    return tuple(found)


def planning_text(needed: Sequence[RowsNeeded], planned: PlannedTable, rows: int) -> str:
    """Return, for people, whether so many customers can settle each bound, one line for each."""
    lines = [
        f"Fairness beforehand: {rows:,} customers, {planned.units} units, "
        f"epsilon {planned.epsilon:g} each."
    ]
    for one in needed:
        asked = f"{one.attribute}, {one.metric} within {one.largest_gap:g}"
        if one.settles is None:
            lines.append(
                f"- {asked}: no forecast. It compares every band between the DPIA's further_edges; "
                "rates at one threshold do not say how many customers a band has."
            )
        elif one.rows is None:
            lines.append(f"- {asked}: no number of customers settles it if all is as supposed.")
        elif one.rows <= rows:
            lines.append(f"- {asked}: {one.rows:,} customers settle it ({one.settles} expected).")
        else:
            lines.append(
                f"- {asked}: expect INSUFFICIENT; {one.rows:,} customers would settle it "
                f"({one.settles} expected)."
            )
    return "\n".join(lines)


@dataclass(frozen=True)
class _Question:
    """Whether a number of customers settles the comparisons of one bound."""

    planned: PlannedTable
    terms: FairnessTerms
    comparisons: Sequence[Comparison]
    passes: bool
    miss: float
    tested: int

    def is_settled_by(self, rows: int) -> bool:
        """Return whether the verdict is as expected, unless chance takes the gaps further away."""
        table = self.planned.at(rows)
        answers = (self._is_shown(table, comparison) for comparison in self.comparisons)
        return all(answers) if self.passes else any(answers)

    def _is_shown(self, table: GroupTable, comparison: Comparison) -> bool:
        """A gap comes out further off than its bound at level `miss` with that probability; the
        verdict's bound then lies as much further.
        """
        tested = gap_in(table, comparison)
        if tested.gap is None or not self._is_large_enough(table, comparison):
            return False
        most = comparison.bound.largest_gap
        if self.passes:
            chance = tested.bounds(self.miss / len(self.comparisons))
            sure = tested.bounds(self.terms.alpha)
            return (
                sure.high + chance.high - tested.gap < most
                and sure.low + chance.low - tested.gap > -most
            )
        chance, sure = tested.bounds(self.miss), tested.bounds(self.terms.alpha / (2 * self.tested))
        return (
            sure.low + chance.low - tested.gap > most
            or sure.high + chance.high - tested.gap < -most
        )

    def _is_large_enough(self, table: GroupTable, comparison: Comparison) -> bool:
        """As in the verdict, and once more the noise's reach, for the chance of it."""
        return all(
            2 * count_bounds(size, table.epsilon, self.terms.alpha).low - size.value
            >= self.terms.minimum_size
            for size in sizes_of(table, comparison)
        )


def _least(question: _Question) -> int | None:
    """Return the least number that settles it, to two digits: what is supposed has no more."""
    scale = 10
    while scale <= MAX_ROWS:
        if question.is_settled_by(scale * 10):
            steps = range(scale, scale * 10 + 1, scale // 10)
            return steps[bisect.bisect_left(steps, True, key=question.is_settled_by)]
        scale *= 10
    return None


def _object_of(given: object, names: Sequence[str], what: str) -> Mapping[str, Any]:
    """Return a JSON object that has exactly these names."""
    if not isinstance(given, Mapping):
        raise _invalid(f"{what}: an object with {', '.join(names)}")
    for name in names:
        if name not in given:
            raise _invalid(f"{what}: {name!r} is missing")
    for name in given:
        if name not in names:
            raise _invalid(f"{what}: {name!r} is none of {', '.join(names)}")
    return given


def _invalid(rule: str) -> InvalidRecordError:
    return InvalidRecordError("fairness.table_invalid", rule)
