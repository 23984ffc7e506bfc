"""Privacy loss distributions of single steps: pessimistic, on a grid of fixed width.

A distribution puts masses on the multiples of `INTERVAL`, and the rest on an infinite loss, so that
it dominates the true one: whatever is composed of such is an upper bound.
Reference: Doroshenko, Ghazi, Kamath, Kumar and Manurangsi (2022), arXiv 2207.04380, Algorithm 1.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss
from numpy.typing import NDArray

from fedcore.privacy.steps import Step

INTERVAL = 1e-4
# Beyond this the normal distribution's tails go to the infinite loss.
_LOG_TAIL = -50.0

Floats = NDArray[np.float64]


class Losses(NamedTuple):
    """Logarithms of the masses on the losses (first, first + 1, ...) * interval, -inf for none, and
    the mass on an infinite loss.
    """

    first: int
    logs: Floats
    infinite: float

    @property
    def places(self) -> Floats:
        """The finite losses, in intervals."""
        return self.first + np.arange(len(self.logs), dtype=np.float64)


Directions = tuple[Losses, Losses]
"""For removing a customer, and for adding one."""


@lru_cache(maxsize=256)
def losses_of(step: Step, interval: float = INTERVAL) -> Directions:
    """Return the losses of one step.

    Guarantees: each dominates the true distribution of its direction.
    """
    if step.mechanism == "discrete_laplace":
        same = _pure_losses(step.pure_epsilon, interval)
        return same, same
    removing = _gaussian_losses(step, AdjacencyType.REMOVE, interval)
    if step.is_full_batch:
        return removing, removing
    return removing, _gaussian_losses(step, AdjacencyType.ADD, interval)


def _pure_losses(epsilon: float, interval: float) -> Losses:
    """Return the losses of randomised response, each rounded up; they dominate all epsilon-DP."""
    high, low = math.ceil(epsilon / interval), math.ceil(-epsilon / interval)
    masses = np.zeros(high - low + 1)
    masses[-1] = 1 / (1 + math.exp(-epsilon))
    masses[0] += 1 - masses[-1]
    return Losses(low, _logs(masses), 0.0)


def _gaussian_losses(step: Step, direction: AdjacencyType, interval: float) -> Losses:
    mechanism = GaussianPrivacyLoss(
        step.noise_multiplier,
        log_mass_truncation_bound=_LOG_TAIL,
        sampling_prob=step.sampling_rate,
        adjacency_type=direction,
    )
    bounds = mechanism.connect_dots_bounds()
    first = math.floor(bounds.epsilon_lower / interval)
    last = math.ceil(bounds.epsilon_upper / interval)
    deltas = _deltas(mechanism, step, direction, np.arange(first, last + 1) * interval)
    return _connected(first, np.minimum.accumulate(deltas), interval)


def _deltas(
    mechanism: GaussianPrivacyLoss, step: Step, direction: AdjacencyType, epsilons: Floats
) -> Floats:
    """Return the hockey-stick divergence at each epsilon, as the library's method does one by one.

    The losses of a sampled step are bounded on one side by log(1 - rate), up to the sign: beyond
    it, all outputs or none have a greater loss.
    """
    sign, rate, variance = 1.0, step.sampling_rate, step.noise_multiplier**2
    if direction is AdjacencyType.ADD:
        sign = -1.0
    signed = sign * epsilons
    inner = signed > math.log1p(-rate) if rate < 1 else np.ones(len(epsilons), dtype=bool)
    deltas = -np.expm1(epsilons) if sign > 0 else np.zeros(len(epsilons))
    lifted = signed[inner] + math.log(1 / rate)
    if rate < 1:
        lifted += np.log1p(-np.exp(math.log(1 / rate - 1) - lifted))
    cutoffs = -sign * (lifted * variance + 0.5)
    deltas[inner] = mechanism.mu_upper_cdf(cutoffs) - np.exp(
        epsilons[inner] + mechanism.mu_lower_log_cdf(cutoffs)
    )
    return np.clip(deltas, 0.0, 1.0)


def _connected(first: int, deltas: Floats, interval: float) -> Losses:
    """Return the distribution with these divergences at the grid's points, and straight lines in
    exp(epsilon) between them: never below the true, convex curve.
    """
    growth = math.expm1(interval)
    rises = np.diff(deltas)
    masses = np.empty_like(deltas)
    masses[0] = 1 - deltas[0] + rises[0] / growth
    masses[1:-1] = (rises[1:] - rises[:-1] * math.exp(interval)) / growth
    masses[-1] = rises[-1] / math.expm1(-interval)
    return Losses(first, _logs(masses), float(deltas[-1]))


def _logs(masses: Floats) -> Floats:
    """Return logarithms; what rounding left below zero is none."""
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(masses, 0.0))
