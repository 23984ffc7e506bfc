import hashlib
import itertools
import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fedcore.intervals import (
    Estimate,
    ScoreSum,
    difference,
    estimate_curve,
    halving_error,
    on_log_odds,
    quantile,
    slopes_of,
    value_of,
)
from fedcore.metrics import measures, noised_sum, roc_auc
from fedcore.privacy.discrete import discrete_laplace
from fedcore.privacy.noise import KeyStream
from fedcore.score_tables import DEFAULT_BINS, ScoreBins, score_table
from fedcore.widths import Expected, expected_table

UNITS, ROWS, DRAWS = 5, 6000, 300
WORLD = Expected(ROWS, 0.15, 0.8, UNITS, 0.6)
THRESHOLDS = (0.2,)


def population(chance, world=WORLD, stretch=1.0):
    labels = (chance.random(world.rows) < world.prevalence).astype(int)
    sd = world.log_odds_sd
    odds = world.prevalence / (1 - world.prevalence)
    odds = odds * np.exp(stretch * chance.normal((labels - 0.5) * sd**2, sd))
    return labels, odds / (1 + odds)


def delong_sd(labels, scores):
    """DeLong's standard deviation, from all pairs of rows."""
    gaps = scores[labels == 1][:, None] - scores[labels == 0][None]
    wins = (gaps > 0) + 0.5 * (gaps == 0)
    parts = (
        wins.mean(axis=1).var(ddof=1) / len(wins),
        wins.mean(axis=0).var(ddof=1) / wins.shape[1],
    )
    return math.sqrt(sum(parts))


def drawn(number, world=WORLD, stretch=1.0):
    chance = np.random.default_rng([11, number])
    labels, scores = population(chance, world, stretch)
    stream = KeyStream(hashlib.sha256(f"intervals {number}".encode()).digest())
    tables = [
        score_table(labels[k::UNITS], scores[k::UNITS])
        + discrete_laplace(DEFAULT_BINS.size, world.epsilon, stream)
        for k in range(UNITS)
    ]
    return noised_sum(tables, world.epsilon)


@pytest.fixture(scope="module")
def sums():
    return [drawn(number) for number in range(DRAWS)]


@pytest.fixture(scope="module")
def truth():
    """The population's own numbers, from bins cut into 16 parts each."""
    pairs = itertools.pairwise(DEFAULT_BINS.edges)
    cuts = [np.linspace(low, high, 17)[:-1] for low, high in pairs]
    fine = ScoreBins("fine", (*np.concatenate(cuts).tolist(), 1.0))
    counts = expected_table(replace(WORLD, rows=10**9), fine)
    found = measures(ScoreSum(counts, 0.0, fine), THRESHOLDS)
    return {name: number.value for name, number in found.items() if number}


@pytest.fixture(scope="module")
def said(sums):
    return [measures(table, THRESHOLDS) for table in sums[:200]]


def coverage(found, true):
    return np.mean([one.low <= true <= one.high for one in found if one])


def areas(sums):
    return [estimate_curve(roc_auc, table) for table in sums]


# DeLong


@pytest.mark.parametrize("number", range(3))
def test_the_sampling_part_of_the_area_is_delong_s(number):
    labels, scores = population(np.random.default_rng(number))
    middles = DEFAULT_BINS.middles[DEFAULT_BINS.bin_of(scores)]
    table = noised_sum([score_table(labels, middles)], None)
    found = estimate_curve(roc_auc, table)
    assert found.sampling_sd == pytest.approx(delong_sd(labels, middles), rel=0.005)
    assert found.noise_sd == 0


def test_slopes_are_the_change_for_one_customer_more():
    table = noised_sum([score_table(*population(np.random.default_rng(1)))], None)
    slopes = slopes_of(roc_auc, table)
    for place in ((0, 5), (1, 3), (1, 20)):
        more = table.counts.copy()
        more[place] += 1
        change = value_of(roc_auc, more) - value_of(roc_auc, table.counts)
        assert slopes[place] == pytest.approx(change, rel=0.02)


# Noise


def test_the_noise_part_is_the_spread_over_noise():
    labels, scores = population(np.random.default_rng(5))
    flat = score_table(labels, scores)
    stream = KeyStream(bytes(32))
    tables = [flat + discrete_laplace(len(flat), 1.0, stream) for _ in range(1000)]
    found = [estimate_curve(roc_auc, noised_sum([table], 1.0)) for table in tables]
    spread = np.std([one.value for one in found])
    # 1000 draws know a standard deviation to 2.2 %.
    assert np.mean([one.noise_sd for one in found]) == pytest.approx(spread, rel=0.1)


# Coverage


def test_intervals_of_the_area_hold_the_population_s_at_the_stated_rate(sums, truth):
    assert truth["roc_auc"] == pytest.approx(0.8, abs=1e-4)
    # 300 draws of 95 %: 0.912 and less, or 0.99 and more, come once in 300 times.
    assert 0.915 <= coverage(areas(sums), truth["roc_auc"]) <= 0.99


def test_intervals_of_noise_alone_or_of_chance_alone_would_not(sums, truth):
    found = areas(sums)
    z = quantile(0.95)
    for part in ("noise_sd", "sampling_sd"):
        held = [abs(one.value - truth["roc_auc"]) <= z * getattr(one, part) for one in found]
        assert np.mean(held) < 0.91


@pytest.mark.parametrize(
    "name",
    [
        "average_precision",
        "log_loss",
        "brier",
        "prevalence",
        "gain_20",
        "lift_10",
        "ece",
        "observed_0.1_0.2",
        "predicted_0.1_0.2",
        "precision_at_0.2",
        "true_positive_rate_at_0.2",
    ],
)
def test_the_other_intervals_hold_the_population_s_number_as_often_as_stated(said, truth, name):
    assert coverage([found[name] for found in said], truth[name]) >= 0.90


def test_intervals_hold_also_where_all_scores_share_a_few_bins(truth):
    squeezed = [drawn(number, stretch=0.1) for number in range(150)]
    found = areas(squeezed)
    assert coverage(found, 0.8) >= 0.90
    without = [estimate_curve(roc_auc, table, order=None) for table in squeezed]
    assert coverage(without, 0.8) < 0.80


def test_less_confidence_is_a_narrower_interval(sums):
    wide, narrow = (
        estimate_curve(roc_auc, sums[0], confidence, order=None) for confidence in (0.95, 0.8)
    )
    assert (narrow.high - narrow.low) / (wide.high - wide.low) == pytest.approx(1.2816 / 1.96, 1e-3)


# Two models


def two_models(number):
    """Two models of the same customers: their areas, each from a table of its own."""
    chance = np.random.default_rng([12, number])
    labels, scores = population(chance)
    log_odds = np.log(scores / (1 - scores))
    blurred = 1 / (1 + np.exp(-0.6 * (log_odds + chance.normal(0, 1.2, len(scores)) + 0.5)))
    stream = KeyStream(hashlib.sha256(f"two {number}".encode()).digest())
    found = []
    for own in (scores, blurred):
        noise = discrete_laplace(DEFAULT_BINS.size, 1.0, stream)
        found.append(estimate_curve(roc_auc, noised_sum([score_table(labels, own) + noise], 1.0)))
    return found


def test_the_interval_of_a_difference_on_the_same_customers_holds_at_least_as_often():
    # The better one is normal with distance sd in units of its spread, the other blurred by 1.2.
    sd = WORLD.log_odds_sd
    blurred = NormalDist().cdf(sd**2 / math.sqrt(2 * (sd**2 + 1.2**2)))
    apart = 0.8 - blurred
    found = [difference(*two_models(number)) for number in range(200)]
    assert coverage(found, apart) >= 0.95
    assert np.mean([one.low > 0 for one in found]) >= 0.9


def test_a_difference_has_the_other_sign_the_other_way_round(sums):
    one, other = areas(sums[:2])
    here, there = difference(one, other), difference(other, one)
    assert (here.value, here.low, here.high) == (-there.value, -there.high, -there.low)
    assert here.bins_error == one.bins_error + other.bins_error


# Bins


def test_the_error_of_bins_is_bounded_where_the_curve_is_smooth():
    labels, scores = population(np.random.default_rng(9), replace(WORLD, rows=400_000))
    exact = roc_auc_score(labels, scores)
    for count in (20, 30, 60):
        # Even bins of the log-odds, from far below all scores.
        inner = 1 / (1 + np.exp(-np.linspace(-8, 6, count - 1)))
        bins = ScoreBins("even", (0.0, *inner.tolist(), 1.0))
        table = noised_sum([score_table(labels, scores, bins)], None, bins)
        off = abs(value_of(roc_auc, table.counts) - exact)
        assert off <= halving_error(roc_auc, table, 2) * 1.2
        assert halving_error(roc_auc, table, 2) <= 3 * off


def test_an_interval_is_cut_where_no_number_can_be_and_scales():
    counts = np.zeros((2, DEFAULT_BINS.count))
    counts[0, :3], counts[1, -3:] = 40, 4
    counts[1, 0] = 1
    found = estimate_curve(roc_auc, ScoreSum(counts, 1.0, DEFAULT_BINS))
    assert found.high == 1
    assert found.scaled(2) == Estimate(
        found.value * 2,
        found.low * 2,
        2,
        found.sampling_sd * 2,
        found.noise_sd * 2,
        found.bins_error * 2,
    )


def test_an_interval_on_log_odds_is_wider_towards_one_half():
    found = Estimate(0.2, 0.1, 0.3, 0.03, 0.04, 0.01)
    z = quantile(0.95)
    odds = 0.25 * np.exp(np.array([-1, 1]) * z * 0.05 / 0.16)
    low, high = odds / (1 + odds) + np.array([-0.01, 0.01])
    shown = on_log_odds(found)
    assert (shown.low, shown.high) == pytest.approx((low, high))
    assert replace(shown, low=found.low, high=found.high) == found
    assert high - 0.2 > 0.2 - low
    sure = Estimate(1.0, 1.0, 1.0, 0.0, 0.0)
    assert on_log_odds(sure) == sure
