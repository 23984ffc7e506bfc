"""What other thresholds would do is the audit's own arithmetic, at the price of many candidates."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtri

from fedcore.dpias import FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.fairness import decide_fairness, gap_in
from fedcore.fairness_bindings import GroupMerge, SensitiveAttribute
from fedcore.fairness_curves import group_threshold_curve, threshold_curve
from fedcore.fairness_tables import GroupTable, TableLayout, count_outcomes
from fedcore.fairness_terms import FairnessTerms, comparisons_of

SEX = SensitiveAttribute(name="sex", groups=("f", "m"))
AREA = SensitiveAttribute(name="area", groups=("n", "s", "w"))
LAYOUT = TableLayout(attributes=(SEX, AREA), threshold=0.5, further_edges=(0.3, 0.7))
EDGES = (0.3, 0.5, 0.7)


def bound(attribute="sex", metric="demographic_parity_difference", largest_gap=0.1):
    return FairnessBound(attribute=attribute, metric=metric, largest_gap=largest_gap)


def terms(*bounds, **more):
    return FairnessTerms(bounds=bounds or (bound(),), **more)


class People:
    """Customers of whom one sex has the higher scores."""

    def __init__(self, count=4000, lift=0.15, seed=0):
        rng = np.random.default_rng(seed)
        self.sex, self.area = rng.integers(0, 2, count), rng.integers(0, 3, count)
        self.labels = rng.random(count) < 0.4
        noisy = 0.25 + 0.4 * self.labels + lift * (self.sex - 0.5) + rng.normal(0, 0.2, count)
        self.scores = np.clip(noisy, 0, 1)

    def table(self, layout=LAYOUT, epsilon=None, units=1):
        columns = {"sex": [SEX.groups[one] for one in self.sex]}
        columns["area"] = [AREA.groups[one] for one in self.area]
        groups = [columns[attribute.name] for attribute in layout.attributes]
        names = [str(place) for place in range(len(self.sex))]
        counts = count_outcomes(layout, names, groups, self.labels, self.scores)
        return GroupTable(layout, counts, units, epsilon)


def told(curve):
    return [tuple((each.group, each.threshold) for each in p.thresholds) for p in curve.points]


def test_a_candidate_is_decided_as_an_audit_at_that_threshold_with_its_part_of_alpha():
    people = People()
    bounds = (bound(), bound("area"), bound(metric="equalised_odds_difference", largest_gap=0.3))
    curve = threshold_curve(people.table(epsilon=2.0), terms(*bounds))
    assert told(curve) == [((None, edge),) for edge in EDGES]
    for point, edge in zip(curve.points, EDGES, strict=True):
        others = tuple(other for other in EDGES if other != edge)
        layout = TableLayout(attributes=(SEX, AREA), threshold=edge, further_edges=others)
        audit = decide_fairness(people.table(layout, epsilon=2.0), terms(*bounds, alpha=0.05 / 3))
        assert point.verdict == audit.verdict
        found = [(one.low, one.high) for one in point.bounds]
        assert found == [tuple(one.interval) for one in audit.largest]


def brute(people, thresholds):
    """Rates at a threshold of each sex, from the rows."""
    selected = people.scores >= np.array(thresholds)[people.sex]
    recall = selected[people.labels].mean()
    return {
        "selection_rate": selected.mean(),
        "recall": recall,
        "accuracy": (selected == people.labels).mean(),
        "balanced_accuracy": (recall + (~selected)[~people.labels].mean()) / 2,
    }, abs(selected[people.sex == 1].mean() - selected[people.sex == 0].mean())


def test_worth_and_gap_are_those_of_the_rows_when_there_is_no_noise():
    people = People()
    whole = threshold_curve(people.table(), terms())
    each = group_threshold_curve(people.table(), terms(), "sex")
    for point in (*whole.points, *each.points):
        named = [one.threshold for one in point.thresholds]
        worth, gap = brute(people, named * 2 if len(named) == 1 else named)
        assert {one.name: one.value for one in point.worth} == pytest.approx(worth)
        assert point.bounds[0].gap == pytest.approx(gap)
        assert all(one.low < (one.value or 0) < one.high for one in point.worth)


def test_thresholds_by_group_are_those_whose_rates_come_next_to_everybodys():
    people = People()
    curve = group_threshold_curve(people.table(), terms(), "sex")
    assert curve.candidates == 9

    def nearest_to(aim, group):
        return min(EDGES, key=lambda edge: abs((people.scores[group] >= edge).mean() - aim))

    aims = [(people.scores >= edge).mean() for edge in EDGES]
    sexes = (people.sex == 0, people.sex == 1)
    nearest = {tuple(nearest_to(aim, group) for group in sexes) for aim in aims}
    assert {tuple(at for _, at in point) for point in told(curve)} == nearest


def test_each_choice_by_group_counts_as_a_candidate_whether_it_is_shown_or_not():
    table = People(lift=0.0).table(epsilon=2.0)
    curve = group_threshold_curve(table, terms(), "sex")
    assert len(curve.points) < curve.candidates == 9
    (point,) = (p for p in curve.points if [t.threshold for t in p.thresholds] == [0.5, 0.5])
    audit = decide_fairness(table, terms(alpha=0.05 / 9))
    assert (point.bounds[0].low, point.bounds[0].high) == tuple(audit.largest[0].interval)


@pytest.mark.parametrize("attribute", [None, "sex"])
def test_of_several_curves_of_one_table_each_has_its_part_of_alpha(attribute):
    table = People(lift=0.0).table(epsilon=2.0)

    def make(looks, **more):
        if attribute is None:
            return threshold_curve(table, terms(**more), looks)
        return group_threshold_curve(table, terms(**more), attribute, looks)

    alone, one_of_three = make(1), make(3)
    assert alone.rate == pytest.approx(0.05 / alone.candidates)
    assert one_of_three.rate == pytest.approx(alone.rate / 3)
    found, stricter = (
        [(point.bounds[0].low, point.bounds[0].high) for point in curve.points]
        for curve in (one_of_three, make(1, alpha=0.05 / 3))
    )
    assert np.allclose(found, stricter)
    assert not np.allclose(found, [(p.bounds[0].low, p.bounds[0].high) for p in alone.points])


def test_thresholds_by_group_keep_a_bound_that_no_common_one_keeps():
    people = People(40_000, lift=0.2)
    table = people.table(epsilon=1.0)
    whole = threshold_curve(table, terms())
    assert (whole.verdict, whole.chosen) == ("FAIL", None)
    each = group_threshold_curve(table, terms(), "sex")
    assert (each.verdict, each.chosen is None) == ("PASS", False)
    worths = [
        point.measured("balanced_accuracy").value if point.verdict == "PASS" else None
        for point in each.points
    ]
    assert worths[each.chosen or 0] == max(worth for worth in worths if worth is not None)
    assert "It is no audit" in each.meaning


def test_noise_that_hides_the_gaps_is_told_as_insufficient():
    people = People(lift=0.02)
    assert threshold_curve(people.table(epsilon=4.0), terms()).verdict == "PASS"
    drowned = threshold_curve(people.table(epsilon=0.01), terms())
    assert (drowned.verdict, drowned.chosen) == ("INSUFFICIENT", None)
    # Not all candidates were looked at, so that nothing is said of all.
    hopeless = FairnessTerms(bounds=(bound(metric="calibration_difference", largest_gap=1e-6),))
    with_groups = terms(bound(), *hopeless.bounds)
    apart = People(40_000, lift=0.2).table(epsilon=1.0)
    assert group_threshold_curve(apart, with_groups, "sex").verdict == "INSUFFICIENT"


def test_a_table_of_one_threshold_has_one_candidate_and_the_verdict_of_the_audit():
    people = People()
    layout = TableLayout(attributes=(SEX,), threshold=0.5)
    table = people.table(layout, epsilon=2.0)
    curve = threshold_curve(table, terms())
    audit = decide_fairness(table, terms())
    assert (curve.candidates, curve.verdict) == (1, audit.verdict)
    assert (curve.points[0].bounds[0].low, curve.points[0].bounds[0].high) == tuple(
        audit.largest[0].interval
    )


def test_a_merge_has_one_threshold():
    merge = GroupMerge(attribute="area", groups=("s", "w"), merged="rest")
    curve = group_threshold_curve(People().table(), terms(bound("area"), merges=(merge,)), "area")
    assert {group for point in told(curve) for group, _ in point} == {"n", "rest"}
    assert curve.candidates == 9


def test_more_choices_than_a_table_can_settle_are_refused_until_groups_are_merged():
    many = SensitiveAttribute(name="sex", groups=tuple("abcdefg"))
    layout = TableLayout(attributes=(many,), threshold=0.5, further_edges=(0.3, 0.7))
    table = GroupTable(layout, (100,) * layout.length, 1, 1.0)
    with pytest.raises(InvalidRecordError, match=r"fairness\.too_many_thresholds"):
        group_threshold_curve(table, terms(), "sex")
    merge = GroupMerge(attribute="sex", groups=tuple("cdefg"), merged="rest")
    assert group_threshold_curve(table, terms(merges=(merge,)), "sex").candidates == 27


def test_an_attribute_without_a_bound_of_its_own_has_no_thresholds_by_group():
    crossed = terms(bound("sex & area"))
    with pytest.raises(InvalidRecordError, match=r"fairness\.not_bound"):
        group_threshold_curve(People().table(), crossed, "sex")
    assert group_threshold_curve(People().table(), terms(bound("area")), "area").points


def test_every_way_to_select_by_band_counts_each_customer_once():
    people = People(300)
    table = people.table()
    everybody = np.ones(len(LAYOUT.cells), dtype=bool)
    for places in itertools.product(range(3), repeat=2):
        cells = [places[SEX.groups.index(cell[0])] for cell in LAYOUT.cells]
        chosen = np.arange(LAYOUT.bands) > np.array(cells)[:, None]
        mask = np.repeat(chosen[..., None], 2, axis=-1)
        selected = people.scores >= np.array(EDGES)[np.array(places)[people.sex]]
        assert table.count(everybody, mask).value == selected.sum()
        assert table.count(everybody, mask).value + table.count(everybody, ~mask).value == 300


class Boundary:
    """People of two groups for whom no choice of thresholds keeps the bound, and most just miss it:
    any PASS is wrong, and comes as often as it can. Everything is drawn at once.

    Args: `shares` of each group that score above each edge.
    """

    LARGEST, ROWS, EPSILON, UNITS = 0.15, 900, 0.5, 3

    def __init__(self, shares, by_group):
        edges = (0.3, 0.5, 0.7)[: len(shares["f"])]
        self.layout = TableLayout(attributes=(SEX,), threshold=edges[0], further_edges=edges[1:])
        self.terms = terms(bound(largest_gap=self.LARGEST), minimum_size=1)
        bands = [-np.diff([1.0, *shares[group], 0.0]) for group in SEX.groups]
        # Half of them women, and four in ten with the label, whatever the score.
        self.cells = np.stack(bands)[:, :, None] * np.array([0.6, 0.4]) / 2
        count = len(edges)
        every = itertools.product(range(count), repeat=2)
        self.choices = list(every) if by_group else [(at, at) for at in range(count)]

    def draw(self, draws, seed):
        """Return noised tables, shape (draws, groups, bands, labels)."""
        rng, keep = np.random.default_rng(seed), 1 - np.exp(-self.EPSILON)
        drawn = rng.multinomial(self.ROWS, self.cells.ravel(), size=draws)
        sides = rng.geometric(keep, size=(2, self.UNITS, *drawn.shape)).sum(axis=1)
        return (drawn + sides[0] - sides[1]).reshape(draws, *self.cells.shape)

    def table(self, counts):
        return GroupTable(self.layout, tuple(counts.ravel().tolist()), self.UNITS, self.EPSILON)

    def distances(self, tables):
        """Return how many standard errors each choice's noised gap is within the bound."""
        people, bands = tables.sum(axis=3), tables.shape[2]
        above = people[:, :, ::-1].cumsum(axis=2)[:, :, ::-1][:, :, 1:]
        total = people.sum(axis=2)[:, :, None]
        rates = above / total
        keep = np.exp(-self.EPSILON)
        noise = self.UNITS * 2 * keep / (1 - keep) ** 2 * 2 * bands / 4
        spread = rates * (1 - rates) / total + noise / total**2
        first, second = np.array(self.choices).T
        gaps = np.abs(rates[:, 0, first] - rates[:, 1, second])
        return (self.LARGEST - gaps) / np.sqrt(spread[:, 0, first] + spread[:, 1, second])

    def passes(self, counts, choice, rate):
        """Return whether the audit's arithmetic finds a choice within the bound, at this rate."""
        chosen = np.arange(self.layout.bands) > np.array(choice)[:, None]
        table = self.table(counts)
        compared = comparisons_of(self.layout, self.terms, chosen)
        return all(gap_in(table, each).is_within(rate) for each in compared)

    def found(self, tables, rate):
        """Return in which draws some choice passes at this rate. Only where the noised gap is well
        within the bound it can, which is tried out on the nearest of the others.
        """
        distances, needed = self.distances(tables), 0.85 * ndtri(1 - rate)
        near = distances > needed
        found = np.zeros(len(tables), dtype=bool)
        for draw, at in np.argwhere(near):
            found[draw] = found[draw] or self.passes(tables[draw], self.choices[at], rate)
        nearest = np.where(near, -np.inf, distances)
        for place in np.argsort(nearest, axis=None)[-10:]:
            draw, at = np.unravel_index(place, nearest.shape)
            assert not self.passes(tables[draw], self.choices[at], rate)
        return found


@pytest.mark.parametrize(
    ("shares", "by_group"),
    [
        # Each edge as everybody's threshold is at the bound.
        ({"f": (0.75, 0.5, 0.25), "m": (0.9, 0.65, 0.4)}, False),
        # Three of four choices by group are at the bound, the last one is beyond it.
        ({"f": (0.5, 0.2), "m": (0.35, 0.05)}, True),
    ],
)
def test_where_no_choice_keeps_the_bound_any_passes_at_most_at_alpha_however_it_is_picked(
    shares, by_group
):
    world, draws = Boundary(shares, by_group), 2000

    def curve(counts):
        make = group_threshold_curve if by_group else threshold_curve
        return make(world.table(counts), world.terms, *(("sex",) if by_group else ()))

    tables = world.draw(draws, seed=7)
    rate = curve(tables[0]).rate
    assert rate == world.terms.alpha / len(world.choices)
    passed = world.found(tables, rate)
    # At a rate of alpha there are more than this once in ten thousand times.
    assert passed.mean() <= stats.binom.ppf(1 - 1e-4, draws, world.terms.alpha) / draws
    # The curve says PASS only there; each of its points by the same arithmetic.
    for draw in [*np.flatnonzero(passed)[:3], *np.flatnonzero(~passed)[:3]]:
        assert passed[draw] or curve(tables[draw]).verdict != "PASS"
    assert any(curve(tables[draw]).verdict == "PASS" for draw in np.flatnonzero(passed)[:3])
    # Without the correction it would be wrong far more often.
    uncorrected = world.found(tables[:800], world.terms.alpha)
    assert uncorrected.mean() > stats.binom.ppf(1 - 1e-4, 800, world.terms.alpha) / 800
