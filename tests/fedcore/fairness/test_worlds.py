"""How often verdicts are wrong, in populations whose true gaps are known."""

import numpy as np
import pytest
from scipy import stats

from fedcore.fairness import decide_fairness
from fedcore.fairness_bindings import GroupMerge
from fedcore.fairness_planning import ExpectedRates
from fedcore.fairness_terms import METRICS

pytestmark = pytest.mark.slow

ALPHA, MANY = 0.05, 2000


def verdicts(world, terms, draws, seed=1):
    rng = np.random.default_rng(seed)
    found = [decide_fairness(world.draw(rng), terms).verdict for _ in range(draws)]
    return {verdict: found.count(verdict) / draws for verdict in ("PASS", "FAIL", "INSUFFICIENT")}


def most(draws):
    """What a rate of exactly alpha gives at most, but for once in ten thousand."""
    return stats.binom.ppf(1 - 1e-4, draws, ALPHA) / draws


def two_off(metric, gap):
    """Two groups between whom every rate of a metric differs by a gap."""
    off = ExpectedRates(0.3, 0.4, 0.5 + gap, 0.5 + gap)
    if metric in {"predictive_parity_difference", "calibration_difference"}:
        # Rates by label at which 0.4 and 0.4 + gap of both bands are positive.
        off = ExpectedRates(0.3, 0.4 + gap, 0.5, 0.5)
    return {"a": off, "b": ExpectedRates(0.7, 0.4, 0.5, 0.5)}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("side", [1, -1])
def test_at_the_boundary_pass_and_fail_are_each_wrong_at_most_at_alpha(worlds, metric, side):
    """The true gap is the threshold: there PASS is wrong, and so is FAIL."""
    largest = 0.1
    if metric == "demographic_parity_ratio":
        largest = 1 - 0.5 / 0.6 if side > 0 else 1 - 0.4 / 0.5
    world = worlds.World(two_off(metric, 0.1 * side), rows=3000)
    draws = MANY if (metric, side) == ("predictive_parity_difference", 1) else 400
    found = verdicts(world, worlds.terms(metric, largest), draws)
    assert found["PASS"] <= most(draws)
    assert found["FAIL"] <= most(draws)


def test_so_many_draws_notice_verdicts_that_are_wrong_eight_times_in_a_hundred():
    """Of one metric, the quickest; `benchmarks/fairness_worlds.py` draws as many of each."""
    assert stats.binom.sf(round(most(MANY) * MANY), MANY, 0.08) >= 0.95


@pytest.mark.parametrize(
    ("rows", "epsilon", "units"), [(300, 1.0, 1), (1500, 0.2, 3), (900, 1.0, 20)]
)
def test_at_the_boundary_with_small_groups_and_much_noise(worlds, rows, epsilon, units):
    world = worlds.two_groups(0.3, 0.1, rows=rows, epsilon=epsilon, units=units)
    found = verdicts(world, worlds.terms("equal_opportunity_difference", 0.3, minimum_size=1), 400)
    assert found["PASS"] <= most(400)
    assert found["FAIL"] <= most(400)


def test_with_many_groups_at_the_boundary_fail_is_wrong_at_most_at_alpha(worlds):
    """Holm: six groups, the rests of two are at the threshold, all can be found outside."""
    shares = dict.fromkeys("abcdef", 1 / 6)
    rates = {g: ExpectedRates(s, 0.4, 0.5, 0.5) for g, s in shares.items()}
    rates["a"] = ExpectedRates(1 / 6, 0.4, 0.6, 0.6)
    rates["b"] = ExpectedRates(1 / 6, 0.4, 0.4, 0.4)
    # a against its rest: 0.6 - (4 * 0.5 + 0.4) / 5.
    found = verdicts(worlds.World(rates, rows=6000), worlds.terms(largest_gap=0.12), 300)
    assert found["FAIL"] <= most(300)
    assert found["PASS"] <= most(300)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("gap", "right"), [(0.02, "PASS"), (-0.25, "FAIL")])
def test_well_inside_and_well_outside_the_verdict_is_right_in_nine_of_ten_draws(
    worlds, metric, gap, right
):
    # Of a ratio four fifths, which are 0.1 of the larger rate.
    terms = worlds.terms(metric, 0.2 if metric == "demographic_parity_ratio" else 0.1)
    found = verdicts(worlds.World(two_off(metric, gap), rows=9000), terms, 200)
    assert found[right] >= 0.9


@pytest.mark.parametrize("metric", ["demographic_parity_difference", "equalised_odds_difference"])
@pytest.mark.parametrize(("gap", "right"), [(-0.02, "PASS"), (0.25, "FAIL")])
def test_so_it_is_on_the_other_side_of_zero(worlds, metric, gap, right):
    found = verdicts(worlds.two_groups(gap, rows=9000), worlds.terms(metric), 200)
    assert found[right] >= 0.9


def test_ten_people_are_insufficient_unless_a_merge_was_declared(worlds):
    """Of 6,000 customers about ten, treated like all others."""
    shares = {"a": 0.4, "b": 0.6 - 10 / 6000, "c": 10 / 6000}
    world = worlds.World({g: ExpectedRates(s, 0.4, 0.5, 0.5) for g, s in shares.items()}, rows=6000)
    merge = GroupMerge(attribute="group", groups=("b", "c"), merged="b or c")
    for least in (1, 30):
        apart = verdicts(world, worlds.terms(minimum_size=least), 100)
        assert apart["INSUFFICIENT"] == 1
    assert verdicts(world, worlds.terms(merges=(merge,)), 100)["PASS"] >= 0.9
