"""Bounds from below hold as often as they say, by computations that are not those of the audit."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import optimize, stats

DELTA = 1e-5


# One run


def by_fractions(canaries, guessed, right, odds, delta):
    """Theorem 5.2 of Steinke, Nasr and Jagielski, term by term; odds are exp(epsilon) : 1."""
    share = Fraction(odds, odds + 1)

    def mass(low, high):
        return sum(
            math.comb(guessed, k) * share**k * (1 - share) ** (guessed - k)
            for k in range(max(low, 0), high)
        )

    worst = max((mass(right - i, right) / i for i in range(1, canaries + 1)), default=0)
    return min(1, mass(right, guessed + 1) + 2 * canaries * Fraction(delta) * worst)


@pytest.mark.parametrize("odds", [1, 3, 20])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-2])
def test_the_p_value_is_the_theorems_in_exact_arithmetic(bounds, odds, delta):
    for canaries, guessed, right in [(1, 1, 1), (20, 12, 9), (20, 20, 0), (60, 40, 40)]:
        exact = by_fractions(canaries, guessed, right, odds, delta)
        found = bounds.p_value(bounds.Guesses(canaries, guessed, right), math.log(odds), delta)
        assert found == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("guessed", [100, 300])
def test_randomised_response_itself_is_refuted_at_most_as_often_as_said(bounds, epsilon, guessed):
    """Guesses are right with odds exp(epsilon) to 1, each on its own: the worst that there is."""
    share = 1 / (1 + math.exp(-epsilon))
    every = [bounds.Guesses(guessed, guessed, right) for right in range(guessed + 1)]
    above = [found.right for found in every if bounds.p_value(found, epsilon, 0.0) < 0.05]
    wrong = stats.binom.pmf(above, guessed, share).sum()
    assert 0 < wrong <= 0.05


@pytest.mark.parametrize("guessed", [5, 50])
def test_a_mechanism_that_tells_everything_with_probability_delta_is_not_refuted(bounds, guessed):
    """All coins at once are no more likely to be told than the p-value of all guesses allows."""
    for epsilon, delta in itertools.product([0.0, 1.0], [1e-5, 1e-2]):
        share = 1 / (1 + math.exp(-epsilon))
        everything = delta + (1 - delta) * share**guessed
        all_right = bounds.Guesses(guessed, guessed, guessed)
        assert bounds.p_value(all_right, epsilon, delta) >= min(1, everything)


def test_more_right_guesses_prove_more_and_none_prove_nothing(bounds):
    proved = [
        bounds.one_run_epsilon(bounds.Guesses(1000, 100, right), DELTA, 0.95)
        for right in range(0, 101, 5)
    ]
    assert proved[:11] == [0.0] * 11
    assert all(low < high for low, high in itertools.pairwise(proved[12:]))
    # All of 100 right: 0.05 = share ** 100, but for delta.
    share = 0.05 ** (1 / 100)
    assert proved[-1] == pytest.approx(math.log(share / (1 - share)), abs=0.05)


# White box


def test_upper_bounds_of_rates_are_clopper_and_pearsons(bounds):
    false_alarms, misses = bounds.Errors(80, 0, 50, 50).most(0.95)
    assert false_alarms == pytest.approx(1 - 0.025 ** (1 / 80))
    assert misses == 1
    some, _ = bounds.Errors(80, 9, 50, 0).most(0.95)
    assert stats.binom.cdf(9, 80, some) == pytest.approx(0.025)


def gaussian_delta(mu, epsilon):
    """Balle and Wang (2018), equation 6."""
    high, low = stats.norm.cdf([mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu])
    return high - math.exp(epsilon) * low


@pytest.mark.parametrize(("noise", "steps"), [(0.7, 1), (1.5, 1), (8.0, 30)])
def test_without_sampling_the_family_is_a_gaussian(bounds, noise, steps):
    family, mu = bounds.Family(1.0, steps), math.sqrt(steps) / noise
    for rate in (0.02, 0.3, 0.5, 0.9):
        exact = stats.norm.cdf(stats.norm.isf(rate) - mu)
        found = family.trade_off(noise, rate)
        assert exact - 2e-3 <= found <= exact
    exact = optimize.brentq(lambda epsilon: gaussian_delta(mu, epsilon) - DELTA, 0, 40)
    assert exact - 2e-3 <= family.epsilon(noise, DELTA) <= exact + 1e-9


@pytest.mark.parametrize(("rate", "steps", "noise"), [(0.3, 1, 0.8), (0.2, 8, 1.5)])
def test_no_threshold_beats_the_trade_off_of_sampled_steps(bounds, rate, steps, noise):
    """Exact errors of thresholds on the sum: the canary binomially often, and all the noise."""
    family, spread = bounds.Family(rate, steps), noise * math.sqrt(steps)
    times = np.arange(steps + 1)
    chances = stats.binom.pmf(times, steps, rate)
    least = []
    for threshold in np.linspace(-2, 4, 13):
        alarms = stats.norm.sf(threshold / spread)
        misses = float(chances @ stats.norm.cdf((threshold - times) / spread))
        assert family.trade_off(noise, alarms) <= misses
        assert family.trade_off(noise, misses) <= alarms
        least.append(misses - family.trade_off(noise, alarms))
    assert min(least) < 0.02


@pytest.mark.parametrize("claim", [1.0, 3.0, 8.0])
def test_noise_as_claimed_is_refuted_at_most_as_often_as_said(bounds, claim, runs):
    """All pairs of counts at which the bound is above the true epsilon, with their chances."""
    count, terms = 60, runs.Terms(claim)
    noise, family = terms.privacy(1.0).noise_multiplier, bounds.Family(1.0, 1)
    chances = stats.binom.pmf(np.arange(count + 1), count, stats.norm.sf(0.5 / noise))
    uppers = [bounds.Errors(count, k, count, k).most(0.95)[0] for k in range(count + 1)]
    least = [family.trade_off(noise, upper) for upper in uppers]
    refuted = np.array([[upper < most for upper in uppers] for most in least])
    assert 0 < chances @ refuted @ chances <= 0.05


def test_fewer_errors_prove_more_and_as_many_as_by_chance_prove_nothing(bounds):
    family = bounds.Family(1.0, 1)
    proved = [
        bounds.white_box_epsilon(family, bounds.Errors(500, k, 500, k), DELTA, 0.95)
        for k in (250, 100)
    ]
    assert proved[0] == 0
    assert proved[1] > 1


def test_the_plain_bound_is_the_definition_of_differential_privacy(bounds):
    errors = bounds.Errors(2000, 40, 2000, 300)
    false_alarms, misses = errors.most(0.95)
    expected = math.log((1 - DELTA - misses) / false_alarms)
    assert errors.plain_epsilon(DELTA, 0.95) == pytest.approx(expected)
    assert bounds.Errors(2000, 300, 2000, 40).plain_epsilon(DELTA, 0.95) == pytest.approx(expected)
    assert bounds.Errors(100, 50, 100, 50).plain_epsilon(DELTA, 0.95) == 0


@pytest.mark.parametrize("name", ["halved noise", "noise on the mean", "clipped per batch"])
def test_a_fault_is_noticed_with_probability_0_999_at_a_false_alarm_of_one_in_a_million(
    audit, bounds, faults, name
):
    """By exact chances: even with more errors of both kinds than 0.9995 of all series have."""
    fault, terms = faults[name], audit.WHITE_BOX["full_batch"]
    noise = fault.noise * terms.privacy(1.0).noise_multiplier
    most = [
        int(stats.binom.ppf(0.9995, fault.count, stats.norm.sf(away / noise)))
        for away in (0.5, fault.added - 0.5)
    ]
    errors = bounds.Errors(fault.count, most[0], fault.count, most[1])
    assert audit.white_box_bound(terms, errors, 1 - audit.FALSE_ALARM) > terms.epsilon
