"""What other thresholds would do to a model's fairness and to its worth, from an audit's table.

The table counts scores in bands, so that each edge between bands could be the threshold: one for
everybody, or one for each group of an attribute. Every candidate is held against the DPIA's bounds
by the very arithmetic of the audit; no row is read again, and nothing is charged.

Whoever looks at many candidates finds one that seems to keep the bounds. Hence each is tested at
alpha divided by the number of all that could have been looked at (Bonferroni): with probability
1 - alpha none passes that should not, whichever is taken. Of several curves of one table each has
its part of alpha; another audit's table has an alpha of its own.
Reference: thresholds by group as in Hardt, Price and Srebro (2016), arXiv 1610.02413.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from fedcore.dpias import FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.fairness import FairnessResult, Finding, Verdict, decide_fairness, verdict_of
from fedcore.fairness_tables import GroupTable, Mask
from fedcore.fairness_terms import FairnessTerms, declared_groups, rates_of
from fedcore.noised_rates import NoisedRate, difference_bounds, rate_bounds
from fedcore.record import Name, Part, Text

# With more thresholds by group each would be tested at a rate that no table reaches.
MAX_CANDIDATES = 1000
MEANINGS: dict[Verdict, str] = {
    "PASS": "At the chosen thresholds every declared comparison lies within the bounds that this "
    "DPIA sets; that it was picked from all candidates is allowed for. It is no audit: that is one "
    "of the model that decides by these thresholds.",
    "FAIL": "At every candidate at least one declared comparison lies outside the bounds that this "
    "DPIA sets: none of these candidates mends that; thresholds between them were not looked at.",
    "INSUFFICIENT": "These customers and this noise show of no candidate that it keeps the bounds "
    "that this DPIA sets, and not of all that they do not.",
}

Thresholds = tuple[tuple[str | None, float], ...]


class GroupThreshold(Part):
    """From which score on people are selected: those of a group, or everybody."""

    group: Text | None = None
    threshold: float


class BoundAt(Part):
    """A bound of the DPIA at a candidate: the largest of the noised gaps, an interval of the one in
    the population, and what follows from it.
    """

    attribute: Text
    metric: Name
    largest_gap: float
    gap: float | None
    low: float
    high: float
    verdict: Verdict


class Worth(Part):
    """How good a candidate is by one measure, with an interval."""

    name: Name
    value: float | None
    low: float
    high: float


class CurvePoint(Part):
    """A candidate: who is selected, how unequally, and how well."""

    thresholds: Annotated[tuple[GroupThreshold, ...], Field(min_length=1)]
    verdict: Verdict
    bounds: tuple[BoundAt, ...]
    worth: tuple[Worth, ...]

    def measured(self, name: str) -> Worth:
        """Return a measure of this name. Raises: KeyError."""
        return {each.name: each for each in self.worth}[name]


class ThresholdCurve(Part):
    """Unfairness against worth, candidate by candidate.

    Attributes:
        attribute: whose groups have thresholds of their own; None when there is one for everybody.
        candidates: how many there are, shown or not.
        alpha: the rate at which any PASS may be wrong, of all looks together.
        looks: how many curves of this table could be looked at; each has the same part of alpha.
        points: the candidates that are shown, from the lowest threshold.
        chosen: of those that pass, the place of the one with the largest balanced accuracy.
    """

    attribute: Text | None = None
    candidates: int
    alpha: float
    looks: int = 1
    points: Annotated[tuple[CurvePoint, ...], Field(min_length=1)]
    chosen: int | None
    verdict: Verdict
    meaning: Text

    @property
    def rate(self) -> float:
        """The rate at which each candidate is tested."""
        return self.alpha / (self.candidates * self.looks)


def threshold_curve(table: GroupTable, terms: FairnessTerms, looks: int = 1) -> ThresholdCurve:
    """Return what each edge between bands would do as the threshold of everybody.

    Args: `looks` is how many curves of the table could be looked at, this one among them.
    Guarantees: a function of noised numbers and of what was declared beforehand. With probability
        1 - alpha no candidate of any of the `looks` passes whose gap in the population is at its
        bound or beyond (as far as `noised_rates` keeps its rate).
    Raises: InvalidRecordError `fairness.unknown_group`.
    """
    edges, bands = table.layout.edges, np.arange(table.layout.bands)
    candidates: dict[Thresholds, Mask] = {
        ((None, edge),): bands > place for place, edge in enumerate(edges)
    }
    return _curve(table, terms, candidates, (len(edges), looks), None)


def group_threshold_curve(
    table: GroupTable, terms: FairnessTerms, attribute: str, looks: int = 1
) -> ThresholdCurve:
    """Return what thresholds by group would do: for each edge as the threshold of all, those at
    which each group's rate comes next to that of everybody there, for each bound on the attribute.

    Whether the attribute may be used in a decision is not asked here.
    Guarantees: as `threshold_curve`; since the table itself says which thresholds are shown, every
        choice of an edge for each group counts as a candidate.
    Raises: InvalidRecordError `fairness.unknown_group`, `fairness.too_many_thresholds`,
        `fairness.not_bound` when no bound is on the attribute alone.
    """
    groups = declared_groups(table.layout, terms.merges, attribute)
    metrics = [bound.metric for bound in terms.bounds if bound.attribute == attribute]
    if not metrics:
        raise InvalidRecordError(
            "fairness.not_bound", f"the DPIA bounds no metric between the groups of {attribute!r}"
        )
    count = len(table.layout.edges) ** len(groups)
    if count > MAX_CANDIDATES:
        raise InvalidRecordError(
            "fairness.too_many_thresholds",
            f"{count:,} choices of thresholds for {len(groups)} groups: merge groups, or bind "
            "fewer edges, for no table settles so many",
        )
    candidates: dict[Thresholds, Mask] = {}
    for metric in metrics:
        for places in _equalising(table, groups, metric):
            chosen = dict(zip(groups, places, strict=True))
            named = tuple((group, table.layout.edges[at]) for group, at in chosen.items())
            candidates[named] = _selected(table, groups, chosen)
    return _curve(table, terms, candidates, (count, looks), attribute)


def _equalising(
    table: GroupTable, groups: Mapping[str, Mask], metric: str
) -> Iterator[tuple[int, ...]]:
    """Yield for each edge as the threshold of all, the edges at which the groups' rates come next
    to everybody's there: the first rate that the metric compares.
    """
    layout, bands = table.layout, np.arange(table.layout.bands)
    places = range(len(layout.edges))
    rates = [rates_of(layout, metric, bands > place)[0] for place in places]

    def value(cells: Mask, place: int) -> float:
        rate = rates[place]
        noised = NoisedRate(table.count(cells, rate.hits), table.count(cells, rate.misses))
        return 2.0 if noised.value is None else noised.value  # next to no other

    def nearest(cells: Mask, base: int) -> int:
        aim = value(everybody, base)
        return min(places, key=lambda at: (abs(value(cells, at) - aim), abs(at - base)))

    everybody = np.ones(len(layout.cells), dtype=np.bool_)
    for base in places:
        yield tuple(nearest(cells, base) for cells in groups.values())


def _selected(table: GroupTable, groups: Mapping[str, Mask], chosen: Mapping[str, int]) -> Mask:
    bands = np.arange(table.layout.bands)
    places = sum(np.where(cells, chosen[group], 0) for group, cells in groups.items())
    found: Mask = bands > np.asarray(places)[:, None]
    return found


def _curve(
    table: GroupTable,
    terms: FairnessTerms,
    candidates: Mapping[Thresholds, Mask],
    tested: tuple[int, int],
    attribute: str | None,
) -> ThresholdCurve:
    """Return the curve of candidates, of which there are so many, on so many curves."""
    count, looks = tested
    stricter = terms.model_copy(update={"alpha": terms.alpha / (count * looks)})
    points = tuple(_point(table, stricter, *candidate) for candidate in candidates.items())
    passing = [at for at, point in enumerate(points) if point.verdict == "PASS"]
    chosen = max(
        passing, key=lambda at: points[at].measured("balanced_accuracy").value or 0.0, default=None
    )
    verdict: Verdict = "INSUFFICIENT"
    if passing:
        verdict = "PASS"
    elif len(points) == count and {point.verdict for point in points} == {"FAIL"}:
        verdict = "FAIL"
    return ThresholdCurve(
        attribute=attribute,
        candidates=count,
        alpha=terms.alpha,
        looks=looks,
        points=points,
        chosen=chosen,
        verdict=verdict,
        meaning=MEANINGS[verdict],
    )


def _point(
    table: GroupTable, terms: FairnessTerms, thresholds: Thresholds, selected: Mask
) -> CurvePoint:
    result = decide_fairness(table, terms, selected)
    return CurvePoint(
        thresholds=tuple(GroupThreshold(group=group, threshold=at) for group, at in thresholds),
        verdict=result.verdict,
        bounds=tuple(_bound_at(bound, result) for bound in terms.bounds),
        worth=_worth(table, selected, terms.alpha),
    )


def _bound_at(bound: FairnessBound, result: FairnessResult) -> BoundAt:
    about = (bound.attribute, bound.metric)
    findings: Sequence[Finding] = [
        each for each in result.findings if (each.attribute, each.metric) == about
    ]
    widest = next(each for each in result.largest if (each.attribute, each.metric) == about)
    gaps = [abs(each.gap) for each in findings if each.gap is not None]
    return BoundAt(
        attribute=bound.attribute,
        metric=bound.metric,
        largest_gap=bound.largest_gap,
        gap=max(gaps, default=None),
        low=widest.interval.low,
        high=widest.interval.high,
        verdict=verdict_of({each.outcome for each in findings}),
    )


def _worth(table: GroupTable, selected: Mask, tail: float) -> tuple[Worth, ...]:
    """Return how good a choice of whom to select is; each bound is wrong at a rate of `tail`."""
    layout, epsilon = table.layout, table.epsilon
    (true, false) = rates_of(layout, "equalised_odds_difference", selected)
    (selection,) = rates_of(layout, "demographic_parity_difference", selected)
    right, wrong = true.hits | false.misses, true.misses | false.hits
    everybody = np.ones(len(layout.cells), dtype=np.bool_)

    def rate(hits: Mask, misses: Mask) -> NoisedRate:
        return NoisedRate(table.count(everybody, hits), table.count(everybody, misses))

    recall, fall_out = rate(true.hits, true.misses), rate(false.hits, false.misses)
    apart = difference_bounds(recall, fall_out, epsilon, tail)
    known = recall.value is not None and fall_out.value is not None
    balanced = (1 + (recall.value or 0) - (fall_out.value or 0)) / 2 if known else None
    plain = {
        "accuracy": rate(right, wrong),
        "recall": recall,
        "selection_rate": rate(selection.hits, selection.misses),
    }
    return (
        Worth(
            name="balanced_accuracy",
            value=balanced,
            low=(1 + apart.low) / 2,
            high=(1 + apart.high) / 2,
        ),
        *(
            Worth(name=name, value=of.value, low=found.low, high=found.high)
            for name, of in plain.items()
            for found in (rate_bounds(of, epsilon, tail),)
        ),
    )
