"""Whether a model treats groups of people within the thresholds of a DPIA, from noised tables.

Each declared group is compared with the rest, which is everybody else in the table taken together:
a tiny group cannot set the reference. The verdict (PRIVACY.md, rule 24):

- PASS when the (1 - 2 alpha) interval of every comparison lies inside the threshold: every one has
  been shown to hold, so that errors do not add up (Berger 1982, intersection-union);
- FAIL when a comparison is shown to lie outside, after Holm's (1979) correction for their number;
- INSUFFICIENT otherwise. A comparison with fewer people than the declared minimum shows nothing
  either way, so that a tiny group cannot hide behind the others.

Everything here is a function of noised numbers and of what was declared beforehand.
"""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedcore.dpias import FairnessBound
from fedcore.fairness_tables import GroupTable, Mask, NoisedCount
from fedcore.fairness_terms import (
    Comparison,
    FairnessTerms,
    Rate,
    comparisons_of,
    declared_groups,
    rates_of,
)
from fedcore.noised_rates import (
    Interval,
    NoisedRate,
    count_bounds,
    difference_bounds,
    ratio_bounds,
)

Verdict = Literal["PASS", "FAIL", "INSUFFICIENT"]
Outcome = Literal["within", "outside", "open", "too_few"]
MEANINGS: dict[Verdict, str] = {
    "PASS": "Every declared comparison lies within the thresholds that this DPIA sets. "
    "PASS means that and no more; whether these are the right thresholds is for people to say.",
    "FAIL": "At least one declared comparison lies outside the thresholds that this DPIA sets.",
    "INSUFFICIENT": "These customers and this noise show neither that all declared comparisons lie "
    "within the thresholds that this DPIA sets, nor that one lies outside.",
}


@dataclass(frozen=True)
class Finding:
    """What a table says of one comparison.

    A gap is the group's rate minus that of the rest. For a ratio r it is r - 1 below 1 and
    1 - 1/r above: the share by which the smaller rate falls short of the larger.

    Attributes:
        attribute, metric, largest_gap: of the DPIA.
        group: the group, or groups of an intersection with " & " between them.
        rate: which rate is compared.
        gap: between the noised rates; None where nobody seems to be counted.
        interval: of the gap in the population, at confidence 1 - 2 alpha.
        simultaneous: intervals of all comparisons that hold together at confidence 1 - alpha.
        outcome: `within`, `outside` (after Holm), `open`, or `too_few` people.
    """

    attribute: str
    metric: str
    largest_gap: float
    group: str
    rate: str
    gap: float | None
    interval: Interval
    simultaneous: Interval
    outcome: Outcome


@dataclass(frozen=True)
class LargestGap:
    """The largest absolute gap of a bound, over its comparisons.

    Attributes:
        group, rate: where the noised gap is largest.
        interval: of the largest gap in the population; the intervals of all bounds hold together at
            confidence 1 - alpha.
    """

    attribute: str
    metric: str
    group: str
    rate: str
    interval: Interval


@dataclass(frozen=True)
class FairnessResult:
    """The verdict, what it means, and what it rests on."""

    verdict: Verdict
    meaning: str
    findings: tuple[Finding, ...]
    largest: tuple[LargestGap, ...]


@dataclass(frozen=True)
class GapBounds:
    """The gap of one comparison in a table, and its bounds at any level.

    Attributes:
        bound: of the DPIA, that the comparison is made for.
        group: which group is compared.
        name: which rate of it.
        rates: the group's, and that of whom it is compared with.
        sizes: how many people are on each side, all of which must be enough.
        epsilon: of the noise in each entry of each unit's table.
    """

    bound: FairnessBound
    group: str
    name: str
    rates: tuple[NoisedRate, NoisedRate]
    sizes: tuple[NoisedCount, ...]
    epsilon: float | None

    @property
    def gap(self) -> float | None:
        """The gap between the noised rates."""
        one, other = (rate.value for rate in self.rates)
        if one is None or other is None:
            return None
        if not self._is_ratio:
            return one - other
        if one == other:
            return 0.0
        return one / other - 1 if one < other else 1 - other / one

    def bounds(self, tail: float) -> Interval:
        """Return bounds of the gap, each wrong with probability at most `tail`."""
        if not self._is_ratio:
            return difference_bounds(*self.rates, self.epsilon, tail)
        found = ratio_bounds(*self.rates, self.epsilon, tail)
        return Interval(_shortfall(found.low), _shortfall(found.high))

    def is_outside(self, tail: float) -> bool:
        """Return whether the whole interval lies outside the threshold."""
        found, most = self.bounds(tail), self.bound.largest_gap
        return found.low > most or found.high < -most

    def is_within(self, tail: float) -> bool:
        """Return whether the whole interval lies inside the threshold."""
        found, most = self.bounds(tail), self.bound.largest_gap
        return -most < found.low and found.high < most

    def is_of_enough(self, terms: FairnessTerms) -> bool:
        """Return whether each side has surely the least number of people, by noised counts."""
        return all(
            count_bounds(size, self.epsilon, terms.alpha).low >= terms.minimum_size
            for size in self.sizes
        )

    @property
    def _is_ratio(self) -> bool:
        return self.bound.metric == "demographic_parity_ratio"


def gap_in(table: GroupTable, comparison: Comparison) -> GapBounds:
    """Return what a table of outcomes by group says of one comparison."""
    cells, rate = comparison.cells, comparison.rate
    return GapBounds(
        bound=comparison.bound,
        group=comparison.group,
        name=rate.name,
        rates=(_noised(table, cells, rate), _noised(table, ~cells, rate)),
        sizes=sizes_of(table, comparison),
        epsilon=table.epsilon,
    )


def decide_fairness(
    table: GroupTable, terms: FairnessTerms, selected: Mask | None = None
) -> FairnessResult:
    """Return the verdict on a summed table under the terms of a DPIA.

    Guarantees: pure. When a compared gap of the population is at its threshold or beyond, PASS
        comes with probability at most alpha; when all are at theirs or within, FAIL does, both over
        sampling and noise (as far as `noised_rates` keeps its rate). A comparison with too few
        people in a group or in the rest is neither.
    Args: `selected` as for `rates_of`: who would be selected, where that is not the layout's say.
    Raises: InvalidRecordError `fairness.unknown_group` when the terms name what the table does not
        have; `fairness.not_bound` for more comparisons than `MAX_COMPARISONS`.
    """
    comparisons = comparisons_of(table.layout, terms, selected)
    return decide([gap_in(table, comparison) for comparison in comparisons], terms)


def decide(tested: Sequence[GapBounds], terms: FairnessTerms) -> FairnessResult:
    """Return the verdict over comparisons, of whatever kind of table.

    Guarantees: as `decide_fairness`.
    """
    enough = [one.is_of_enough(terms) for one in tested]
    outside = _outside_by_holm(tested, enough, terms.alpha)
    findings = tuple(
        _finding(one, (enough[at], at in outside), terms.alpha, len(tested))
        for at, one in enumerate(tested)
    )
    verdict = verdict_of({finding.outcome for finding in findings})
    return FairnessResult(verdict, MEANINGS[verdict], findings, _largest(terms.bounds, findings))


def verdict_of(outcomes: Collection[Outcome]) -> Verdict:
    """Return what follows from the outcomes of comparisons, of which there is one at least."""
    if "outside" in outcomes:
        return "FAIL"
    return "PASS" if set(outcomes) == {"within"} else "INSUFFICIENT"


def sizes_of(table: GroupTable, comparison: Comparison) -> tuple[NoisedCount, NoisedCount]:
    """Return how many people are in the group and in the rest, whatever their outcome."""
    everybody = np.ones((table.layout.bands, 2), dtype=np.bool_)
    return table.count(comparison.cells, everybody), table.count(~comparison.cells, everybody)


def group_rates(
    table: GroupTable, terms: FairnessTerms, bound: FairnessBound
) -> Mapping[str, Mapping[str, float | None]]:
    """Return, for each rate that a bound compares, that of each group; None where nobody seems to
    be counted.
    """
    groups = declared_groups(table.layout, terms.merges, bound.attribute)
    return {
        rate.name: {group: _noised(table, cells, rate).value for group, cells in groups.items()}
        for rate in rates_of(table.layout, bound.metric)
    }


def between_groups(table: GroupTable, terms: FairnessTerms, bound: FairnessBound) -> float | None:
    """Return a metric in its usual form, between the groups with the largest and the smallest rate:
    the difference, for equalised odds and calibration the largest one, or the ratio.

    It is shown beside the verdict and plays no part in it: of noised rates it is biased upwards.
    None where a group seems to have nobody counted, or none of a ratio is selected.
    """
    rates = [list(of.values()) for of in group_rates(table, terms, bound).values()]
    known = [[value for value in values if value is not None] for values in rates]
    if any(len(some) < len(values) for some, values in zip(known, rates, strict=True)):
        return None
    if bound.metric == "demographic_parity_ratio":
        return min(known[0]) / max(known[0]) if max(known[0]) > 0 else None
    return max(max(values) - min(values) for values in known)


def _shortfall(ratio: float) -> float:
    return ratio - 1 if ratio <= 1 else 1 - 1 / ratio


def _outside_by_holm(
    tested: Sequence[GapBounds], enough: Sequence[bool], alpha: float
) -> frozenset[int]:
    """Return which comparisons are shown to be outside: Holm's steps, both sides of each.

    Steps may be as many as comparisons, so that each is first asked among how many it is shown.
    """
    among = [
        _shown_among(one, alpha, len(tested)) if enough[at] else 0 for at, one in enumerate(tested)
    ]
    found: frozenset[int] = frozenset()
    while True:
        left = max(1, len(tested) - len(found))
        more = found | {at for at, most in enumerate(among) if most >= left}
        if more == found:
            return found
        found = more


def _shown_among(one: GapBounds, alpha: float, count: int) -> int:
    """Return among how many comparisons, of so many at most, one is still shown to be outside: the
    more there are, the wider is its interval.
    """
    if not one.is_outside(alpha / 2):
        return 0
    if one.is_outside(alpha / (2 * count)):
        return count
    return bisect_left(range(1, count), x=True, key=lambda n: not one.is_outside(alpha / (2 * n)))


def _finding(one: GapBounds, shown: tuple[bool, bool], alpha: float, count: int) -> Finding:
    enough, is_outside = shown
    outcome: Outcome = "open"
    if not enough:
        outcome = "too_few"
    elif is_outside:
        outcome = "outside"
    elif one.is_within(alpha):
        outcome = "within"
    return Finding(
        attribute=one.bound.attribute,
        metric=one.bound.metric,
        largest_gap=one.bound.largest_gap,
        group=one.group,
        rate=one.name,
        gap=one.gap,
        interval=one.bounds(alpha),
        simultaneous=one.bounds(alpha / (2 * count)),
        outcome=outcome,
    )


def _largest(
    bounds: Sequence[FairnessBound], findings: Sequence[Finding]
) -> tuple[LargestGap, ...]:
    return tuple(
        _largest_of([f for f in findings if (f.attribute, f.metric) == (b.attribute, b.metric)])
        for b in bounds
    )


def _largest_of(findings: Sequence[Finding]) -> LargestGap:
    widest = max(findings, key=lambda finding: abs(finding.gap or 0.0))
    least = (max(0.0, f.simultaneous.low, -f.simultaneous.high) for f in findings)
    most = (max(-f.simultaneous.low, f.simultaneous.high) for f in findings)
    return LargestGap(
        attribute=widest.attribute,
        metric=widest.metric,
        group=widest.group,
        rate=widest.rate,
        interval=Interval(max(least), max(most)),
    )


def _noised(table: GroupTable, cells: Mask, rate: Rate) -> NoisedRate:
    return NoisedRate(table.count(cells, rate.hits), table.count(cells, rate.misses))
