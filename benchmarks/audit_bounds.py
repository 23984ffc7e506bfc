"""What an audit proves: lower bounds of epsilon, with a confidence, from guesses or error rates.

None of them looks at what was claimed. What each supposes of the mechanism is said where it stands.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from dp_accounting.pld.privacy_loss_distribution import (
    PrivacyLossDistribution,
    from_gaussian_mechanism,
)
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
MOST_EPSILON = 50.0
# Where the trade-off curve of a mechanism is held against error rates; fewer points only weaken it.
_EPSILONS = np.arange(0.0, 12.0, 0.02)
_CURVE_INTERVAL, _EPSILON_INTERVAL = 1e-3, 1e-4
_LEAST_NOISE, _MOST_NOISE = 0.2, 1e4


@dataclass(frozen=True)
class Guesses:
    """Of so many canaries, each in the data by a fair coin of its own, so many were guessed, and so
    many of these rightly.
    """

    canaries: int
    guessed: int
    right: int


def p_value(found: Guesses, epsilon: float, delta: float) -> float:
    """Return a bound of the probability of as many right guesses under (epsilon, delta)-DP.

    Guarantees: holds whatever the guesser does, however canaries depend on each other by way of the
        mechanism, if coins are fair and independent and a mechanism is (epsilon, delta)-DP for
        adding or removing one canary.
    Reference: Steinke, Nasr and Jagielski (2023), arXiv 2305.08846, Theorem 5.2.
    """
    right = 1 / (1 + math.exp(-epsilon))
    tail = float(stats.binom.sf(found.right - 1, found.guessed, right))
    # P[v - i <= Binomial < v] / i for each i, of which delta may use the greatest.
    missed = stats.binom.pmf(np.arange(found.right - 1, -1, -1), found.guessed, right)
    shares = np.cumsum(missed) / np.arange(1, found.right + 1)
    worst = float(shares.max()) if found.right else 0.0
    return min(1.0, tail + 2 * found.canaries * delta * worst)


def one_run_epsilon(found: Guesses, delta: float, confidence: float) -> float:
    """Return the greatest epsilon that the guesses refute: under it they would be rarer than
    1 - confidence. 0.0 when they refute none.
    """
    refuted = lambda epsilon: p_value(found, epsilon, delta) < 1 - confidence  # noqa: E731
    return _greatest(refuted, 0.0, MOST_EPSILON)


@dataclass(frozen=True)
class Errors:
    """How often a test, fixed beforehand, said "in" of `without` outputs on data without the canary
    (false alarms), and "out" of `with_` outputs on data with it (misses).
    """

    without: int
    false_alarms: int
    with_: int
    misses: int

    def most(self, confidence: float) -> tuple[float, float]:
        """Return upper bounds of both rates that hold together.

        Reference: Clopper and Pearson (1934).
        """
        level = 1 - (1 - confidence) / 2
        return (
            _upper(self.false_alarms, self.without, level),
            _upper(self.misses, self.with_, level),
        )

    def plain_epsilon(self, delta: float, confidence: float) -> float:
        """Return a lower bound of epsilon that holds whatever the mechanism is."""
        false_alarms, misses = self.most(confidence)
        caught, passed = 1 - delta - misses, 1 - delta - false_alarms
        shares = [caught / false_alarms, passed / misses]
        return math.log(max(1.0, *shares))


@dataclass(frozen=True)
class Family:
    """Poisson-sampled Gaussian steps of a public rate and number, with any amount of noise."""

    sampling_rate: float
    steps: int

    def trade_off(self, noise: float, false_alarms: float) -> float:
        """Return the least rate of misses that any test with so many false alarms has, or less."""
        deltas = _deltas(self, noise)
        one = 1 - deltas - np.exp(_EPSILONS) * false_alarms
        other = np.exp(-_EPSILONS) * (1 - deltas - false_alarms)
        return max(0.0, float(one.max()), float(other.max()))

    def epsilon(self, noise: float, delta: float) -> float:
        """Return epsilon at delta, or less by no more than rounding to the interval."""
        losses = self._losses(noise, _EPSILON_INTERVAL, pessimistic=False)
        return float(losses.get_epsilon_for_delta(delta))

    def _losses(
        self, noise: float, interval: float, *, pessimistic: bool
    ) -> PrivacyLossDistribution:
        full = self.sampling_rate == 1
        found = from_gaussian_mechanism(
            noise / math.sqrt(self.steps) if full else noise,
            pessimistic_estimate=pessimistic,
            value_discretization_interval=interval,
            use_connect_dots=pessimistic,  # it has no optimistic form
            sampling_prob=self.sampling_rate,
        )
        return found if full else found.self_compose(self.steps)


def white_box_epsilon(family: Family, found: Errors, delta: float, confidence: float) -> float:
    """Return the epsilon of the most noise with which the family's steps could not have so few
    errors. 0.0 when no noise is refuted.

    Guarantees: at most the true epsilon with `confidence`, if outputs are independent and the
        mechanism is one of the family.
    Reference: Nasr et al. (2023), arXiv 2302.07956; Dong, Roth and Su (2022), arXiv 1905.02383.
    """
    false_alarms, misses = found.most(confidence)

    def refuted(log_precision: float) -> bool:
        return misses < family.trade_off(math.exp(-log_precision), false_alarms)

    least, most = -math.log(_MOST_NOISE), -math.log(_LEAST_NOISE)
    if not refuted(least):
        return 0.0
    return family.epsilon(math.exp(-_greatest(refuted, least, most)), delta)


@lru_cache(maxsize=256)
def _deltas(family: Family, noise: float) -> Floats:
    losses = family._losses(noise, _CURVE_INTERVAL, pessimistic=True)  # noqa: SLF001
    return np.array(losses.get_delta_for_epsilon(list(_EPSILONS)))


def _upper(count: int, of: int, level: float) -> float:
    return 1.0 if count == of else float(stats.beta.ppf(level, count + 1, of - count))


def _greatest(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the greatest number, less 0.001 at most, for which `holds` does; it does below it."""
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
