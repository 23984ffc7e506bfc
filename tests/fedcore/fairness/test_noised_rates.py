import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import gammainc

from fedcore.errors import InvalidRecordError
from fedcore.fairness_tables import NoisedCount
from fedcore.noised_rates import (
    NoisedRate,
    count_bounds,
    difference_bounds,
    gammas_below,
    noise_masses,
    rate_bounds,
    ratio_bounds,
)


def rate(hits, misses, terms=0):
    return NoisedRate(NoisedCount(hits, terms), NoisedCount(misses, terms))


def mass_at(epsilon, terms, places):
    first, masses = noise_masses(epsilon, terms)
    return masses[np.asarray(places) - first]


# Noise


@pytest.mark.parametrize("epsilon", [0.01, 0.3, 1.0, 5.0, 40.0])
def test_one_noise_is_the_discrete_laplace_distribution(epsilon):
    places = np.arange(-20, 21)
    if epsilon >= 1:
        places = places[abs(places) <= 30 / epsilon]
    q = math.exp(-epsilon)
    expected = (1 - q) / (1 + q) * q ** abs(places)
    assert mass_at(epsilon, 1, places) == pytest.approx(expected, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize(("epsilon", "terms"), [(1.0, 2), (1.0, 5), (0.2, 3), (3.0, 7)])
def test_a_sum_of_noises_is_their_convolution(epsilon, terms):
    first, masses = noise_masses(epsilon, 1)
    whole = masses
    for _ in range(terms - 1):
        whole = np.convolve(whole, masses)
    places = np.arange(-15, 16)
    expected = whole[places - terms * first]
    assert mass_at(epsilon, terms, places) == pytest.approx(expected, abs=1e-14)


@given(st.floats(0.02, 20), st.integers(1, 200))
def test_noise_is_symmetric_and_has_its_variance(epsilon, terms):
    first, masses = noise_masses(epsilon, terms)
    places = first + np.arange(len(masses))
    assert masses == pytest.approx(masses[::-1], abs=1e-15)
    assert masses.sum() == pytest.approx(1)
    q = math.exp(-epsilon)
    assert masses @ places**2.0 == pytest.approx(terms * 2 * q / (1 - q) ** 2, rel=1e-6)


def test_noise_beyond_any_table_is_refused():
    assert len(noise_masses(0.01, 1000).masses) < 2**22
    with pytest.raises(InvalidRecordError) as refused:
        noise_masses(1e-6, 1000)
    assert refused.value.code == "fairness.noise_too_wide"


@given(st.floats(0.05, 5), st.integers(1, 50), st.sampled_from([0.2, 0.05, 0.001]))
def test_bounds_of_a_count_are_wrong_at_most_at_their_rate_and_not_wider(epsilon, terms, tail):
    first, masses = noise_masses(epsilon, terms)
    reach = 1000.0 - count_bounds(NoisedCount(1000, terms), epsilon, tail).low
    places = first + np.arange(len(masses))
    assert masses[places > reach].sum() <= tail + 1e-12
    assert masses[places > reach - 1].sum() > tail - 1e-12
    assert count_bounds(NoisedCount(-5, terms), epsilon, tail).low == 0


@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e7)), min_size=1, max_size=5),
    st.floats(0, 1e7),
    st.lists(st.floats(-40, 40), min_size=1, max_size=9),
)
def test_what_gammas_have_far_away_is_told_as_if_it_were_worked_out(shapes, other, steps):
    """At points that lie so many standard deviations from a shape, and at one anywhere."""
    near = [max(0.0, shapes[0] + step * math.sqrt(shapes[0])) for step in steps]
    of, points = np.array(shapes), np.array([*near, other])
    exact = gammainc(np.maximum(of, 1e-300)[:, None], points)
    found = gammas_below(of, points)
    assert found[of > 0] == pytest.approx(exact[of > 0], rel=0, abs=1e-17)
    assert (found[of == 0] == 1).all()


# Rates without noise


@pytest.mark.parametrize("tail", [0.1, 0.05, 0.005, 0.0005])
@pytest.mark.parametrize(
    ("hits", "misses"), [(0, 10), (10, 0), (1, 9), (5, 5), (2, 98), (300, 700), (40_000, 9_000)]
)
def test_without_noise_the_bounds_are_those_of_clopper_and_pearson(hits, misses, tail):
    exact = stats.binomtest(hits, hits + misses).proportion_ci(1 - 2 * tail, "exact")
    found = rate_bounds(rate(hits, misses), None, tail)
    width = exact.high - exact.low
    assert found.low == pytest.approx(exact.low, abs=0.005 * width)
    assert found.high == pytest.approx(exact.high, abs=0.005 * width)


@pytest.mark.parametrize(
    "counts", [(9, 1, 2, 8), (30, 20, 20, 40), (3, 0, 1, 9), (400, 600, 300, 700)]
)
def test_without_noise_a_difference_is_above_zero_when_fishers_exact_test_says_so(counts):
    a, b, c, d = counts
    exact = stats.fisher_exact([[a, b], [c, d]], "greater").pvalue
    one, other = rate(a, b), rate(c, d)
    assert difference_bounds(one, other, None, exact * 1.05).low > 0
    assert difference_bounds(one, other, None, exact * 0.95).low < 0
    assert ratio_bounds(one, other, None, exact * 1.05).low > 1
    assert ratio_bounds(one, other, None, exact * 0.95).low < 1


def test_nobody_counted_says_nothing():
    assert rate(0, 0).value is None
    assert rate(-3, 2).value is None
    assert rate(-1, 4).value == 0
    low, high = rate_bounds(rate(0, 0), None, 0.05)
    assert (low, high) == (0, 1)
    low, high = difference_bounds(rate(0, 0), rate(500, 500), None, 0.05)
    assert (low, high) == pytest.approx((-0.5, 0.5), abs=0.03)
    assert ratio_bounds(rate(5, 5), rate(0, 0), None, 0.05).high == math.inf


# Rates with noise

counts = st.integers(-50, 3000)
noisy_rates = st.builds(rate, counts, counts, st.integers(1, 30))


@given(noisy_rates, noisy_rates, st.sampled_from([0.3, 1.0, 3.0]), st.sampled_from([0.05, 0.004]))
def test_bounds_are_ordered_nested_and_swap_with_the_rates(one, other, epsilon, tail):
    low, high = rate_bounds(one, epsilon, tail)
    assert 0 <= low <= high <= 1
    found = difference_bounds(one, other, epsilon, tail)
    assert -1 <= found.low <= found.high <= 1
    swapped = difference_bounds(other, one, epsilon, tail)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=1e-9)
    wider = difference_bounds(one, other, epsilon, tail / 2)
    assert wider.low <= found.low + 1e-9
    assert wider.high >= found.high - 1e-9
    ratio = ratio_bounds(one, other, epsilon, tail)
    assert 0 <= ratio.low <= ratio.high


@given(st.integers(0, 400), st.integers(0, 400), st.integers(1, 20))
def test_more_noise_never_makes_bounds_much_tighter(hits, misses, terms):
    """Not at all, but that a table with noise may have lost people below zero."""
    quiet, loud = (rate_bounds(rate(hits, misses, terms), e, 0.05) for e in (2.0, 0.5))
    assert loud.low <= quiet.low + 0.02
    assert loud.high >= quiet.high - 0.02


def wrong_rate(bounds, window, size, true):
    """How often a lower bound is above the true rate: exact, over sampling and both noises."""
    places, masses = window
    hits = np.arange(size + 1)
    drawn = stats.binom.pmf(hits, size, true)
    # Of each noised pair, the probability; outside the window it counts as wrong.
    total, wrong = 0.0, 0.0
    for a, mass in zip(hits, drawn, strict=True):
        one = masses[places - a - places[0] + len(places)]
        other = masses[places - (size - a) - places[0] + len(places)]
        joint = mass * np.outer(one, other)
        total += joint.sum()
        wrong += joint[bounds > true + 1e-12].sum()
    return wrong + 1 - total


@pytest.mark.slow
@pytest.mark.parametrize(("epsilon", "units"), [(2.0, 1), (0.3, 1), (1.0, 3)])
@pytest.mark.parametrize("tail", [0.05, 0.005])
def test_a_bound_is_wrong_at_most_at_its_rate_for_every_rate_and_up_to_twelve_people(
    epsilon, units, tail
):
    """By enumeration of every table and every noise: no simulation, no approximation."""
    reach = math.ceil(9 * math.sqrt(2 * units) / epsilon)
    places = np.arange(-reach, reach + 13)
    first, known = noise_masses(epsilon, units)
    masses = np.zeros(4 * len(places))
    offsets = np.arange(len(masses)) + places[0] - len(places)
    inside = (offsets >= first) & (offsets <= -first)
    masses[inside] = known[offsets[inside] - first]
    bounds = np.array(
        [[rate_bounds(rate(a, b, units), epsilon, tail).low for b in places] for a in places]
    )
    worst = max(
        wrong_rate(bounds, (places, masses), size, true)
        for size, true in itertools.product([0, 1, 2, 3, 5, 8, 12], np.linspace(0, 0.99, 34))
    )
    assert worst <= tail


@pytest.mark.parametrize("tail", [0.05, 0.01])
@pytest.mark.parametrize(("first", "second"), [(5, 5), (3, 12), (10, 20)])
def test_without_noise_a_bound_of_a_difference_keeps_its_rate_for_all_rates(first, second, tail):
    """By enumeration: two small groups, all pairs of rates on a grid."""
    bounds = np.array(
        [
            [
                difference_bounds(rate(a, first - a), rate(c, second - c), None, tail).low
                for c in range(second + 1)
            ]
            for a in range(first + 1)
        ]
    )
    grid = np.linspace(0.02, 0.98, 25)
    worst = 0.0
    for one, other in itertools.product(grid, grid):
        drawn = np.outer(
            stats.binom.pmf(range(first + 1), first, one),
            stats.binom.pmf(range(second + 1), second, other),
        )
        worst = max(worst, drawn[bounds > one - other + 1e-9].sum())
    assert worst <= tail


def draw_noise(rng, epsilon, terms, size):
    q = math.exp(-epsilon)
    shape = (size, terms)
    return (rng.geometric(1 - q, shape) - rng.geometric(1 - q, shape)).sum(axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "rates", "epsilon", "terms"),
    [
        ((10, 500), (0.5, 0.3), 1.0, 3),
        ((40, 60), (0.1, 0.1), 0.5, 2),
        ((300, 5000), (0.05, 0.15), 1.0, 10),
    ],
)
def test_with_noise_a_bound_of_a_difference_or_ratio_keeps_its_rate(sizes, rates, epsilon, terms):
    rng = np.random.default_rng(7)
    draws, tail = 600, 0.05
    drawn = []
    for size, true in zip(sizes, rates, strict=True):
        hits = rng.binomial(size, true, draws)
        noise = [draw_noise(rng, epsilon, terms, draws) for _ in range(2)]
        drawn.append((hits + noise[0], size - hits + noise[1]))
    wrong = np.zeros(4)
    for at in range(draws):
        one, other = (rate(int(a[at]), int(b[at]), terms) for a, b in drawn)
        gap = difference_bounds(one, other, epsilon, tail)
        ratio = ratio_bounds(one, other, epsilon, tail)
        true = rates[0] - rates[1], rates[0] / rates[1]
        wrong += [gap.low > true[0], gap.high < true[0], ratio.low > true[1], ratio.high < true[1]]
    # A rate of exactly `tail` gives more than this once in ten thousand.
    assert wrong.max() <= stats.binom.ppf(1 - 1e-4, draws, tail)
