import hashlib
import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedcore.errors import InvalidRecordError
from fedcore.privacy.discrete import (
    _below,
    discrete_laplace,
    discrete_laplace_variance,
    exact_epsilon,
)
from fedcore.privacy.noise import KeyStream, SystemNoise

COUNT = 200_000
EPSILONS = [Fraction(1), Fraction(1, 10), Fraction(3, 7), Fraction(5, 2), Fraction(8)]


def stream(name):
    return KeyStream(hashlib.sha256(name.encode()).digest())


def drawn(epsilon, count=COUNT):
    return discrete_laplace(count, epsilon, stream(f"laplace {epsilon}"))


def follows(numbers, epsilon):
    """Accept the right scale and refuse others; a sound sampler fails once in a million."""
    ratio = math.exp(-epsilon)
    whole = (1 - ratio) / (1 + ratio)
    # The tails are one cell on each side, in which at least 5 are expected.
    end = max(0, math.floor(math.log(len(numbers) / 10) / epsilon) - 1)
    inner = np.arange(-end, end + 1)
    tail = ratio ** (end + 1) / (1 + ratio)
    shares = np.concatenate([[tail], whole * ratio ** np.abs(inner), [tail]])
    clipped = np.clip(numbers, -end - 1, end + 1) + end + 1
    counts = np.bincount(clipped, minlength=len(shares))
    return stats.chisquare(counts, shares * len(numbers)).pvalue > 1e-6


# The distribution


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_numbers_are_discrete_laplace_and_another_scale_would_be_noticed(epsilon):
    numbers = drawn(epsilon)
    assert follows(numbers, float(epsilon))
    assert not follows(numbers, float(epsilon) * 2 / 3)
    assert not follows(numbers, float(epsilon) * 3 / 2)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_moments_are_those_of_the_formula_and_of_no_other_scale(epsilon):
    numbers = drawn(epsilon).astype(np.float64)
    squares = numbers**2
    error = squares.std() / math.sqrt(COUNT)
    variance = discrete_laplace_variance(epsilon)
    assert abs(numbers.mean()) < 5 * numbers.std() / math.sqrt(COUNT)
    assert abs(squares.mean() - variance) < 5 * error
    for factor in (2 / 3, 3 / 2):
        wrong = discrete_laplace_variance(float(epsilon) * factor)
        assert abs(squares.mean() - wrong) > 5 * error


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_the_variance_is_that_of_the_series(epsilon):
    ratio = math.exp(-epsilon)
    terms = [2 * z * z * ratio**z for z in range(1, 5000)]
    expected = (1 - ratio) / (1 + ratio) * math.fsum(terms)
    assert discrete_laplace_variance(epsilon) == pytest.approx(expected, rel=1e-12)


def test_both_signs_and_zero_come_as_often_as_they_should():
    numbers = drawn(Fraction(1))
    zero = (1 - math.exp(-1)) / (1 + math.exp(-1))
    for share, expected in (
        ((numbers == 0).mean(), zero),
        ((numbers > 0).mean(), (1 - zero) / 2),
        ((numbers < 0).mean(), (1 - zero) / 2),
    ):
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / COUNT)


def test_neighbouring_numbers_are_independent():
    numbers = drawn(Fraction(1)).astype(np.float64)
    for one, other in ((numbers[:-1], numbers[1:]), (numbers[:-1] ** 2, numbers[1:] ** 2)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(COUNT)


def test_the_likelihood_of_a_count_moves_by_at_most_exp_epsilon_with_one_customer():
    """The claim itself, on what was drawn: neighbouring counts, in both directions."""
    numbers = drawn(Fraction(1))
    values = np.arange(-3, 4)
    shares = np.array([(numbers == value).mean() for value in values])
    for left, right in itertools.pairwise(shares):
        assert abs(math.log(left / right)) == pytest.approx(1, abs=0.1)


# Exactness


class Words:
    """A stream that gives the words it is told, and notes how many were asked for."""

    def __init__(self, *words):
        self.left = list(words)

    def words(self, count):
        given, self.left = self.left[:count], self.left[count:]
        return np.array(given, dtype=np.uint64)


def below(count, bound, *words):
    stream: Any = Words(*words)
    return _below(count, bound, stream).tolist()


def test_a_word_beyond_the_greatest_multiple_of_a_bound_is_drawn_again():
    assert below(2, 3, 2**64 - 1, 2**64 - 2, 7) == [1, 2]
    assert below(1, 2**32, 2**64 - 1) == [2**32 - 1]
    assert below(3, 10, 2**64 - 6, 19, 2**64 - 7, 4) == [4, 9, 9]


@given(st.integers(0, 40), st.sampled_from(EPSILONS))
def test_as_many_integers_come_as_were_asked_for(count, epsilon):
    found = discrete_laplace(count, epsilon, stream("count"))
    assert found.shape == (count,)
    assert found.dtype == np.int64


def test_the_system_s_noise_never_repeats():
    source = SystemNoise()
    first, second = (
        discrete_laplace(1000, 1.0, source.stream("north", "run-1/1/1", "noise")) for _ in range(2)
    )
    assert not np.array_equal(first, second)


# Epsilon


@pytest.mark.parametrize(
    ("given_epsilon", "used"),
    [
        (1.0, Fraction(1)),
        (0.3, Fraction(3, 10)),
        (1 / 3, Fraction(333_333, 10**6)),
        (Fraction(1, 3), Fraction(1, 3)),
        (Fraction(1, 10**6 + 1) + 1, Fraction(1)),
        (1e-6, Fraction(1, 10**6)),
        (100, Fraction(100)),
    ],
)
def test_epsilon_is_in_millionths_rounded_down(given_epsilon, used):
    assert exact_epsilon(given_epsilon) == used


@given(st.floats(1e-6, 100))
def test_more_epsilon_than_asked_for_is_never_spent(epsilon):
    found = exact_epsilon(epsilon)
    assert epsilon - 1e-6 < found <= Fraction(repr(epsilon))


@pytest.mark.parametrize(
    ("bad", "repaired"), [(0.0, 1e-6), (-1.0, 1.0), (9e-7, 1e-6), (101.0, 100.0)]
)
def test_an_epsilon_outside_its_range_is_refused_and_its_twin_is_not(bad, repaired):
    with pytest.raises(InvalidRecordError) as refused:
        discrete_laplace(1, bad, stream("bad"))
    assert refused.value.code == "privacy.epsilon_invalid"
    assert len(discrete_laplace(1, repaired, stream("bad"))) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_epsilon_that_is_no_number_is_refused(bad):
    with pytest.raises(InvalidRecordError):
        exact_epsilon(bad)
