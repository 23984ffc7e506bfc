import math
from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from fedcore.dpias import FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.fairness import GapBounds, between_groups, decide, decide_fairness, group_rates
from fedcore.fairness_bindings import GroupMerge, SensitiveAttribute
from fedcore.fairness_planning import ExpectedRates
from fedcore.fairness_tables import GroupTable, NoisedCount, TableLayout
from fedcore.fairness_terms import METRICS, FairnessTerms, comparisons_of
from fedcore.noised_rates import NoisedRate

GROUP = SensitiveAttribute(name="group", groups=("a", "b"))
THREE = SensitiveAttribute(name="group", groups=("a", "b", "c"))
LAYOUT = TableLayout(attributes=(GROUP,), threshold=0.5)
OTHER = SensitiveAttribute(name="other", groups=("x", "y"))


def table(*cells, epsilon=None, attributes=(GROUP,), edges=()):
    """A table from the entries of each cell: (TN, FN, FP, TP) without edges."""
    layout = TableLayout(attributes=attributes, threshold=0.5, further_edges=edges)
    return GroupTable(layout, tuple(entry for cell in cells for entry in cell), 1, epsilon)


def cell(people, selected, positive=0.3):
    """A cell of so many people, selected at one rate whatever their label."""
    found = [people * (1 - positive) * (1 - selected), people * positive * (1 - selected)]
    return tuple(
        round(x) for x in (*found, people * (1 - positive) * selected, people * positive * selected)
    )


def bound(metric="demographic_parity_difference", largest_gap=0.1, attribute="group"):
    return FairnessBound(attribute=attribute, metric=metric, largest_gap=largest_gap)


def only(result):
    (finding,) = result.findings
    return finding


# Verdicts


def test_well_inside_is_pass_well_outside_is_fail_and_few_people_are_neither(worlds):
    terms = worlds.terms()
    same = decide_fairness(table(cell(3000, 0.5), cell(5000, 0.5)), terms)
    apart = decide_fairness(table(cell(3000, 0.5), cell(5000, 0.3)), terms)
    few = decide_fairness(table(cell(60, 0.5), cell(5000, 0.5)), terms)
    assert [r.verdict for r in (same, apart, few)] == ["PASS", "FAIL", "INSUFFICIENT"]
    assert [only(r).outcome for r in (same, apart, few)] == ["within", "outside", "open"]


def test_pass_means_within_the_thresholds_of_this_dpia_and_says_so(worlds):
    passed = decide_fairness(table(cell(3000, 0.5), cell(5000, 0.5)), worlds.terms())
    assert passed.verdict == "PASS"
    assert "within the thresholds that this DPIA sets" in passed.meaning
    assert "means that and no more" in passed.meaning


def test_the_verdict_uses_the_interval_of_the_stated_level(worlds):
    """One-sided errors of alpha on each side: the (1 - 2 alpha) interval."""
    finding = only(decide_fairness(table(cell(3000, 0.5), cell(5000, 0.45)), worlds.terms()))
    deviation = math.sqrt(0.25 / 3000 + 0.45 * 0.55 / 5000)
    expected = 0.05 - 1.645 * deviation, 0.05 + 1.645 * deviation
    assert finding.interval == pytest.approx(expected, abs=0.0005)
    assert finding.gap == pytest.approx(0.05)
    wide = only(decide_fairness(table(cell(3000, 0.5), cell(5000, 0.45)), worlds.terms(alpha=0.01)))
    assert wide.interval.high - wide.interval.low == pytest.approx(2 * 2.326 * deviation, rel=0.02)


def test_one_comparison_that_is_open_leaves_the_audit_insufficient(worlds):
    terms = worlds.terms()
    big = [cell(4000, 0.5), cell(4000, 0.5)]
    assert (
        decide_fairness(table(*big, cell(4000, 0.5), attributes=(THREE,)), terms).verdict == "PASS"
    )
    result = decide_fairness(table(*big, cell(40, 0.5), attributes=(THREE,)), terms)
    assert [f.outcome for f in result.findings] == ["within", "within", "open"]
    assert result.verdict == "INSUFFICIENT"


def test_one_comparison_outside_fails_beside_others_that_are_open(worlds):
    cells = [cell(4000, 0.5), cell(4000, 0.2), cell(40, 0.5)]
    result = decide_fairness(table(*cells, attributes=(THREE,)), worlds.terms())
    assert [f.outcome for f in result.findings] == ["outside", "outside", "open"]
    assert result.verdict == "FAIL"


def test_outside_is_judged_after_holm(worlds):
    """A gap that one comparison alone would show is not shown by one of a hundred, and is again
    once ninety-nine others are shown.
    """
    alone = table(cell(2000, 0.5), cell(20_000, 0.37))
    assert decide_fairness(alone, worlds.terms()).verdict == "FAIL"
    names = tuple(f"g{at}" for at in range(100))
    many = (SensitiveAttribute(name="group", groups=names),)
    quiet = [cell(2000, 0.5), *[cell(2000, 0.37)] * 99]
    found = decide_fairness(table(*quiet, attributes=many), worlds.terms())
    assert found.verdict == "INSUFFICIENT"
    loud = [cell(2000, 0.494), *[cell(2000, 0.9), cell(2000, 0.1)] * 49, cell(2000, 0.1)]
    outcomes = [
        f.outcome for f in decide_fairness(table(*loud, attributes=many), worlds.terms()).findings
    ]
    assert outcomes.count("outside") == 99


def stepwise(tested, alpha):
    """Holm's steps as they are told: of those that are left the clearest, one after another."""
    left = list(range(len(tested)))
    while clear := [at for at in left if tested[at].is_outside(alpha / (2 * len(left)))]:
        left.remove(clear[0])
    return set(range(len(tested))) - set(left)


class Counted(GapBounds):
    """Bounds of a gap that count how often they are asked for."""

    asked = 0

    def bounds(self, tail):
        Counted.asked += 1
        return super().bounds(tail)


def gaps_of(*selected, people=1000):
    """Gaps of groups of so many people, of whom so many are selected, to half of a great many."""
    half = NoisedRate(NoisedCount(10**9, 0), NoisedCount(10**9, 0))
    return [
        Counted(
            bound=bound(),
            group=str(at),
            name="selection_rate",
            rates=(NoisedRate(NoisedCount(hits, 0), NoisedCount(people - hits, 0)), half),
            sizes=(NoisedCount(people, 0),),
            epsilon=None,
        )
        for at, hits in enumerate(selected)
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(330, 375), min_size=1, max_size=8))
def test_holms_steps_find_what_they_find_one_after_another(selected):
    tested, terms = gaps_of(*selected), FairnessTerms(bounds=(bound(),))
    outcomes = [each.outcome for each in decide(tested, terms).findings]
    found = {at for at, outcome in enumerate(outcomes) if outcome == "outside"}
    assert found == stepwise(tested, terms.alpha)


def test_a_verdict_asks_no_comparison_once_for_each_of_holms_steps():
    """Each group is shown only when the one before it is: as many steps as there are groups."""
    terms, people = FairnessTerms(bounds=(bound(),)), 10**6

    def most_selected(tail):
        """How many may be selected for their group to be just shown."""

        def is_shown(hits):
            return gaps_of(hits, people=people)[0].is_outside(tail)

        return bisect_left(range(4 * 10**5), x=True, key=lambda hits: not is_shown(hits)) - 1

    def asked(count):
        tails = [terms.alpha / (2 * left) for left in range(count, 0, -1)]
        selected = [most_selected(tail) for tail in tails]
        assert selected == sorted(set(selected))
        tested = gaps_of(*selected, people=people)
        assert not any(map(GapBounds.is_outside, tested[1:], tails))
        Counted.asked = 0
        assert {each.outcome for each in decide(tested, terms).findings} == {"outside"}
        return Counted.asked / count

    assert asked(24) < asked(12) + 3


@settings(max_examples=30)
@given(
    st.lists(st.integers(-30, 400), min_size=12, max_size=12),
    st.sampled_from(METRICS),
    st.floats(0.02, 0.9),
    st.floats(1.01, 1.5),
)
def test_a_wider_threshold_never_turns_pass_away_nor_brings_fail(counts, metric, gap, factor):
    layout = TableLayout(attributes=(THREE,), threshold=0.5)
    noised = GroupTable(layout, tuple(counts), 2, 1.0)
    order = ["FAIL", "INSUFFICIENT", "PASS"]
    ranks = [
        order.index(
            decide_fairness(
                noised, FairnessTerms(bounds=(bound(metric, most),), minimum_size=1)
            ).verdict
        )
        for most in (gap, min(1.0, gap * factor))
    ]
    assert ranks[0] <= ranks[1]


# Tiny groups


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("selected", [(10, 0.5), (10, 1.0), (10, 0.0)])
def test_ten_people_are_insufficient_whatever_their_rate(worlds, metric, selected):
    """Without noise and with, also where all ten are treated otherwise than everybody else."""
    for epsilon in (None, 1.0):
        cells = [cell(4000, 0.5), cell(4000, 0.5), cell(*selected)]
        noised = table(*cells, attributes=(THREE,), epsilon=epsilon)
        result = decide_fairness(noised, worlds.terms(metric))
        assert result.verdict == "INSUFFICIENT"
        assert {f.outcome for f in result.findings if f.group == "c"} == {"too_few"}


def test_ten_people_are_decided_where_the_dpia_declared_a_merge(worlds):
    cells = [cell(4000, 0.5), cell(4000, 0.5), cell(10, 1.0)]
    noised = table(*cells, attributes=(THREE,), epsilon=1.0)
    merge = GroupMerge(attribute="group", groups=("b", "c"), merged="b or c")
    result = decide_fairness(noised, worlds.terms(merges=(merge,)))
    assert result.verdict == "PASS"
    assert only(result).group == "a"


def test_a_tiny_group_does_not_set_the_reference(worlds):
    """With ten people of whom all are selected, the others are still compared with their rest."""
    cells = [cell(4000, 0.5), cell(4000, 0.52), cell(10, 1.0)]
    result = decide_fairness(table(*cells, attributes=(THREE,)), worlds.terms())
    gaps = {f.group: f.gap for f in result.findings}
    assert gaps["a"] == pytest.approx(0.5 - (2080 + 10) / 4010, abs=1e-3)
    assert [f.outcome for f in result.findings] == ["within", "within", "too_few"]


def test_a_rest_of_ten_people_is_no_reference(worlds):
    result = decide_fairness(table(cell(4000, 0.5), cell(10, 0.0)), worlds.terms())
    assert only(result).outcome == "too_few"


def test_the_least_size_is_held_against_noised_numbers_with_room_for_the_noise(worlds):
    """102 people by the noised numbers of 4 entries are not surely 100; 140 are."""
    terms = worlds.terms(minimum_size=100)
    for people, outcome in ((102, "too_few"), (140, "within")):
        noised = table(cell(people, 0.5), cell(4000, 0.5), epsilon=1.0)
        assert only(decide_fairness(noised, terms)).outcome == outcome
    exact = table(cell(102, 0.5), cell(4000, 0.5))
    assert only(decide_fairness(exact, terms)).outcome == "within"


# Metrics


def test_each_metric_compares_its_rates_group_against_rest():
    # a: TN 40, FN 10, FP 20, TP 30; b: TN 30, FN 5, FP 45, TP 20
    exact = table((40, 10, 20, 30), (30, 5, 45, 20))
    gaps: dict[tuple[str, str], float | None] = {}
    for metric in METRICS:
        result = decide_fairness(exact, FairnessTerms(bounds=(bound(metric),)))
        gaps |= {(metric, f.rate): f.gap for f in result.findings}
    expected = {
        ("demographic_parity_difference", "selection_rate"): 0.5 - 0.65,
        ("demographic_parity_ratio", "selection_rate"): 0.5 / 0.65 - 1,
        ("equal_opportunity_difference", "true_positive_rate"): 0.75 - 0.8,
        ("equalised_odds_difference", "true_positive_rate"): 0.75 - 0.8,
        ("equalised_odds_difference", "false_positive_rate"): 20 / 60 - 45 / 75,
        ("predictive_parity_difference", "positive_predictive_value"): 0.6 - 20 / 65,
        ("calibration_difference", "positives_in_band_1"): 0.2 - 5 / 35,
        ("calibration_difference", "positives_in_band_2"): 0.6 - 20 / 65,
    }
    assert gaps == pytest.approx(expected, abs=1e-12)


def test_calibration_compares_the_positives_of_every_declared_band(worlds):
    """Equally calibrated below 0.75, not above: only that band is outside."""
    edges = (0.25, 0.75)
    cells = [(900, 100, 800, 200, 600, 400, 200, 800), (900, 100, 800, 200, 600, 400, 500, 500)]
    result = decide_fairness(table(*cells, edges=edges), worlds.terms("calibration_difference"))
    assert [f.rate for f in result.findings] == [f"positives_in_band_{n}" for n in (1, 2, 3, 4)]
    assert [f.outcome for f in result.findings] == ["within"] * 3 + ["outside"]


def test_a_ratio_is_judged_by_how_far_the_smaller_rate_falls_short(worlds):
    """Four fifths: a bound of 0.2, whichever group has the smaller rate."""
    terms = worlds.terms("demographic_parity_ratio", 0.2)
    for selected, verdict in [((0.5, 0.45), "PASS"), ((0.45, 0.5), "PASS"), ((0.5, 0.3), "FAIL")]:
        found = decide_fairness(table(*(cell(9000, one) for one in selected)), terms)
        assert found.verdict == verdict
    below, above = (
        only(decide_fairness(table(cell(900, one), cell(900, other)), terms))
        for one, other in [(0.2, 0.5), (0.5, 0.2)]
    )
    assert below.gap == pytest.approx(-0.6)
    assert above.gap == pytest.approx(0.6)
    assert below.interval == pytest.approx((-above.interval.high, -above.interval.low))


def test_crossed_groups_are_compared_where_the_margins_hide_them(worlds):
    cells = [cell(2000, 0.7), cell(2000, 0.3), cell(2000, 0.3), cell(2000, 0.7)]
    crossed = table(*cells, attributes=(GROUP, OTHER))
    margins = FairnessTerms(bounds=(bound(), bound(attribute="other")))
    assert decide_fairness(crossed, margins).verdict == "PASS"
    both = decide_fairness(crossed, FairnessTerms(bounds=(bound(attribute="group & other"),)))
    assert both.verdict == "FAIL"
    assert [f.group for f in both.findings] == ["a & x", "a & y", "b & x", "b & y"]


# What is declared


def test_every_declared_comparison_is_found_once_and_of_two_groups_one():
    layout = TableLayout(attributes=(THREE, OTHER), threshold=0.5, further_edges=(0.8,))
    bounds = [bound("equalised_odds_difference"), bound(attribute="other")]
    found = comparisons_of(layout, FairnessTerms(bounds=(*bounds, bound("calibration_difference"))))
    assert [(c.group, c.rate.name) for c in found[:7]] == [
        ("a", "true_positive_rate"),
        ("a", "false_positive_rate"),
        ("b", "true_positive_rate"),
        ("b", "false_positive_rate"),
        ("c", "true_positive_rate"),
        ("c", "false_positive_rate"),
        ("x", "selection_rate"),
    ]
    assert len(found) == 7 + 9


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"bounds": (bound("accuracy"),)}, "metric"),
        ({"bounds": (bound(), bound(largest_gap=0.2))}, "once"),
        ({"bounds": (bound(attribute="group & group"),)}, "crosses"),
        ({"alpha": 0.5}, "alpha"),
        ({"minimum_size": 0}, "minimum_size"),
        (
            {
                "merges": tuple(
                    GroupMerge(attribute="group", groups=("a", other), merged=other * 2)
                    for other in "bc"
                )
            },
            "merges",
        ),
        ({"merges": (GroupMerge(attribute="g", groups=("a", "b"), merged="a & b"),)}, "merges"),
    ],
)
def test_terms_are_whole(more, rule):
    FairnessTerms(bounds=(bound(),))
    with pytest.raises(ValidationError, match=rule):
        FairnessTerms(**{"bounds": (bound(),), **more})


@pytest.mark.parametrize(
    ("attribute", "merge"),
    [
        ("height", None),
        ("group & height", None),
        ("group", ("group", ("a", "z"), "az")),
        ("group", ("height", ("a", "b"), "ab")),
        ("group", ("group", ("a", "b"), "c")),
        ("group", ("group", ("a", "b", "c"), "all")),
    ],
)
def test_what_the_table_does_not_have_is_refused(attribute, merge):
    layout = TableLayout(attributes=(THREE,), threshold=0.5)
    right = GroupMerge(attribute="group", groups=("a", "b"), merged="ab")
    assert comparisons_of(layout, FairnessTerms(bounds=(bound(),), merges=(right,)))
    merges = (
        () if merge is None else (GroupMerge(attribute=merge[0], groups=merge[1], merged=merge[2]),)
    )
    with pytest.raises(InvalidRecordError) as refused:
        comparisons_of(layout, FairnessTerms(bounds=(bound(attribute=attribute),), merges=merges))
    assert refused.value.code == "fairness.unknown_group"


# The largest gap, and the usual figures


@pytest.mark.slow
def test_the_largest_gap_lies_within_its_simultaneous_interval_at_the_stated_rate(worlds):
    """Five groups, the largest gap known; intervals of all comparisons hold together."""
    rates = {
        n: ExpectedRates(0.2, 0.3, s, s)
        for n, s in zip("abcde", (0.5, 0.5, 0.5, 0.5, 0.6), strict=True)
    }
    world = worlds.World(rates, rows=3000)
    rng, missed, draws = np.random.default_rng(3), 0, 60
    for _ in range(draws):
        result = decide_fairness(world.draw(rng), worlds.terms())
        (largest,) = result.largest
        missed += not largest.interval.low <= 0.1 <= largest.interval.high
        assert all(
            f.simultaneous.low <= f.interval.low and f.interval.high <= f.simultaneous.high
            for f in result.findings
        )
    assert missed <= stats.binom.ppf(1 - 1e-4, draws, 0.05)


def test_the_largest_gap_names_its_group_and_rate(worlds):
    cells = [cell(4000, 0.5), cell(4000, 0.5), cell(4000, 0.2)]
    result = decide_fairness(table(*cells, attributes=(THREE,)), worlds.terms())
    (largest,) = result.largest
    assert (largest.group, largest.rate) == ("c", "selection_rate")
    assert largest.interval.low < 0.3 < largest.interval.high
    assert largest.interval.high - largest.interval.low < 0.08


def test_between_groups_is_the_usual_difference_or_ratio(worlds):
    cells = [cell(4000, 0.5), cell(4000, 0.4), cell(4000, 0.2)]
    exact, terms = table(*cells, attributes=(THREE,)), worlds.terms()
    assert between_groups(exact, terms, bound()) == pytest.approx(0.3)
    assert between_groups(exact, terms, bound("demographic_parity_ratio")) == pytest.approx(0.4)
    rates = group_rates(exact, terms, bound())["selection_rate"]
    assert rates == pytest.approx({"a": 0.5, "b": 0.4, "c": 0.2})


def test_where_nobody_seems_to_be_there_is_no_figure_and_no_verdict(worlds):
    empty = table(cell(4000, 0.5), (0, 0, 0, 0))
    assert between_groups(empty, worlds.terms(), bound()) is None
    finding = only(decide_fairness(empty, worlds.terms()))
    assert (finding.gap, finding.outcome) == (None, "too_few")
    none = table(cell(4000, 0.0), cell(4000, 0.0))
    assert between_groups(none, worlds.terms(), bound("demographic_parity_ratio")) is None
    found = decide_fairness(none, worlds.terms("demographic_parity_ratio"))
    assert only(found).outcome == "open"
