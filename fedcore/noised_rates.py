"""Intervals of rates, differences and ratios from counts that carry discrete Laplace noise.

A rate is hits / (hits + misses); each is a sum of noised entries. Nothing here is normal: the noise
has its exact distribution, and sampling that of counts, so that ten people have the wide interval
that ten people deserve.

- Of a true count a, the mean that it was drawn around is above a gamma variable of shape a, and
  below one of shape a + 1, with the exact confidence of Garwood (1936). Two such counts give the
  interval of Clopper and Pearson (1934), as gamma/(gamma + gamma) is a beta variable.
- Of a noised count A, the true one is A minus the noise. So the variable is a mixture over the
  exact distribution of the noise; below zero counts zero.
- Bounds of several quantities are joined by melding (Fay, Proschan, Brittain 2015, Biometrics 71):
  independent variables, one for each count, each on its unfavourable side, put into the rate, the
  difference or the ratio; the bound is a quantile of what comes out. For two rates without noise
  these are the bounds of Fisher's exact test.

That melding keeps the stated rate has a proof for special cases only. The tests work the rate out
exactly, by enumeration, in small worlds and with much noise, and it holds in all of them.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, ndtr

from fedcore.errors import InvalidRecordError
from fedcore.fairness_tables import NoisedCount

Floats = NDArray[np.float64]

# The mass of noise that may lie outside the window that is worked out, on each side.
_TAIL = 1e-17
_MAX_WINDOW = 2**22
# Shares of a tail's exponent at which Chernoff's bound is tried.
_TILTS: Floats = np.linspace(0.02, 0.98, 49)
# A distribution is kept as its quantiles in the middle of cells of equal width on the normal scale:
# their squares are off by a twelfth of the width's square.
_CELLS: Floats = np.linspace(-5.2, 5.2, 81)
_LEVELS: Floats = ndtr((_CELLS[1:] + _CELLS[:-1]) / 2)
_STARTS: Floats = ndtr(np.concatenate([[-np.inf], _CELLS[1:-1]]))
_WEIGHTS: Floats = np.diff(np.append(_STARTS, 1.0))
_POINTS = 192
_FEW_NOISES = 61
# How many standard deviations a gamma variable is followed to each side.
_REACH = 7.0
# Further than so many from its shape it has less than `_TAIL` of its mass: exp(-9 * 9 / 2).
_FAR = 9.0
_HALVINGS = 60


class Interval(NamedTuple):
    """What lies between two bounds, both included."""

    low: float
    high: float


class NoisedRate(NamedTuple):
    """A rate hits / (hits + misses) as two noised counts that share no entry."""

    hits: NoisedCount
    misses: NoisedCount

    @property
    def value(self) -> float | None:
        """The rate of the noised counts within 0 and 1; None when nobody seems to be counted."""
        total = self.hits.value + self.misses.value
        return min(1.0, max(0.0, self.hits.value / total)) if total > 0 else None


class NoiseMasses(NamedTuple):
    """The probabilities of noise first, first + 1, and so on."""

    first: int
    masses: Floats


class _Below(NamedTuple):
    """The variable that bounds a rate from below.

    Attributes:
        values: rising.
        reached: the probability of at most each value, after a first 0.
        nodes: its quantiles at `_LEVELS`.
    """

    values: Floats
    reached: Floats
    nodes: Floats


@lru_cache(maxsize=512)
def noise_masses(epsilon: float | None, terms: int) -> NoiseMasses:
    """Return the distribution of a sum of `terms` discrete Laplace variables of this epsilon.

    Guarantees: each mass is right to about 1e-16; what lies outside the window has less than that.
    Raises: InvalidRecordError `fairness.noise_too_wide` when the window would be beyond 2^22.
    Reference: Ghosh, Roughgarden and Sundararajan (2012): P(x) = (1 - q)/(1 + q) q^|x|, with
        q = exp(-epsilon); its characteristic function is (1 - q)^2 / (1 - 2 q cos t + q^2).
    """
    if epsilon is None or terms == 0:
        return NoiseMasses(0, np.ones(1))
    if not is_noise_followed(epsilon, terms):
        raise InvalidRecordError(
            "fairness.noise_too_wide",
            f"{terms} noises of epsilon {epsilon:g} reach beyond any table: take a larger epsilon",
        )
    reach = _noise_reach(epsilon, terms)
    size = 1 << (2 * reach).bit_length()
    q = math.exp(-epsilon)
    angles = 2 * np.pi * np.arange(size // 2 + 1) / size
    # 1 - 2 q cos t + q^2, without the cancellation near t = 0.
    below = math.expm1(-epsilon) ** 2 + 4 * q * np.sin(angles / 2) ** 2
    found = np.fft.irfft(np.exp(terms * np.log(math.expm1(-epsilon) ** 2 / below)), size)
    masses = np.maximum(np.concatenate([found[-reach:], found[: reach + 1]]), 0.0)
    return NoiseMasses(-reach, masses / masses.sum())


def is_noise_followed(epsilon: float, terms: int) -> bool:
    """Return whether the sum of `terms` variables of this epsilon can be worked out, as up to some
    millions; beyond that any table would drown.
    """
    return _noise_reach(epsilon, terms) <= _MAX_WINDOW // 2


def count_bounds(count: NoisedCount, epsilon: float | None, tail: float) -> Interval:
    """Return bounds of the true count behind a noised one.

    Guarantees: each of the two is wrong with probability at most `tail`, over the noise; the bounds
        are at least 0.
    """
    first, masses = noise_masses(epsilon, count.terms)
    # The largest reach w with P(noise > w) <= tail; the distribution is symmetric.
    reach = first + int(np.searchsorted(np.cumsum(masses), 1 - tail))
    return Interval(max(0.0, float(count.value - reach)), max(0.0, float(count.value + reach)))


def gammas_below(shapes: Floats, points: Floats) -> Floats:
    """Return the probability that a gamma variable of each shape is at most each point.

    What is far away is 0 or 1 by Chernoff's bound: working it out would take nearly all the time
    where noise spreads the shapes wide.
    Guarantees: off by less than 1e-17 from what `scipy.special.gammainc` says; one for shape 0.
    Args: shapes and points, at least 0. Returns shape (shapes, points).
    """
    of, above = shapes[:, None], points - shapes[:, None]
    found = np.where(above > 0, 1.0, 0.0)
    near = np.nonzero(np.abs(above) <= _FAR * np.sqrt(np.maximum(of, points)))
    found[near] = gammainc(np.maximum(shapes[near[0]], 1e-300), points[near[1]])
    return np.where(of == 0, 1.0, found)


def rate_bounds(rate: NoisedRate, epsilon: float | None, tail: float) -> Interval:
    """Return bounds of the rate in the population that the customers were drawn from.

    Guarantees: each is wrong with probability at most `tail`, over sampling and noise together (see
        the module's text for what is proved); without noise, those of Clopper and Pearson (1934).
    Args: tail in (0, 1/2).
    """
    return Interval(
        _quantile(_below(rate, epsilon), tail), 1 - _quantile(_below(_swapped(rate), epsilon), tail)
    )


def difference_bounds(
    rate: NoisedRate, other: NoisedRate, epsilon: float | None, tail: float
) -> Interval:
    """Return bounds of rate minus other, of two rates that share no customer.

    Guarantees: as `rate_bounds`; swapping the rates swaps the bounds and their signs.
    """
    return Interval(
        _least_difference(rate, other, epsilon, tail),
        -_least_difference(other, rate, epsilon, tail),
    )


def ratio_bounds(
    rate: NoisedRate, other: NoisedRate, epsilon: float | None, tail: float
) -> Interval:
    """Return bounds of rate / other, from 0 to inf, of two rates that share no customer.

    Guarantees: as `rate_bounds`; swapping the rates gives the inverses.
    """
    inverse = _least_ratio(other, rate, epsilon, tail)
    return Interval(
        _least_ratio(rate, other, epsilon, tail), 1 / inverse if inverse > 0 else math.inf
    )


def _least_difference(
    rate: NoisedRate, other: NoisedRate, epsilon: float | None, tail: float
) -> float:
    below, above = _below(rate, epsilon), 1 - _below(_swapped(other), epsilon).nodes
    low, high = -1.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _WEIGHTS @ _up_to(below, middle + above) > tail:
            high = middle
        else:
            low = middle
    return low


def _least_ratio(rate: NoisedRate, other: NoisedRate, epsilon: float | None, tail: float) -> float:
    below, above = _below(rate, epsilon), 1 - _below(_swapped(other), epsilon).nodes
    # The ratio is c/(1 - c).
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _WEIGHTS @ _up_to(below, middle / (1 - middle) * above) > tail:
            high = middle
        else:
            low = middle
    return low / (1 - low)


def _swapped(rate: NoisedRate) -> NoisedRate:
    return NoisedRate(rate.misses, rate.hits)


def _quantile(below: _Below, tail: float) -> float:
    """Return a value below which there is at most `tail`: of two neighbours the lower one."""
    place = int(np.searchsorted(below.reached[1:], tail, "right"))
    return float(below.values[max(0, place - 1)])


def _up_to(below: _Below, values: Floats) -> Floats:
    found: Floats = below.reached[np.searchsorted(below.values, values, "right")]
    return found


@lru_cache(maxsize=4096)
def _below(rate: NoisedRate, epsilon: float | None) -> _Below:
    hits, misses = _mean_nodes(rate.hits, epsilon, 0), _mean_nodes(rate.misses, epsilon, 1)
    values = (hits[:, None] / (hits[:, None] + misses[None, :])).reshape(-1)
    order = np.argsort(values, kind="stable")
    values, weights = values[order], np.outer(_WEIGHTS, _WEIGHTS).reshape(-1)[order]
    reached = np.cumsum(weights)
    nodes = np.interp(_LEVELS, reached - weights / 2, values)
    return _Below(
        values, np.append(0.0, reached), _with_zeros(nodes, float(weights[values == 0].sum()))
    )


@lru_cache(maxsize=16384)
def _mean_nodes(count: NoisedCount, epsilon: float | None, more: int) -> Floats:
    """Return the quantiles at `_LEVELS` of gamma variables of shape count - noise + more."""
    noises, masses = _noise_nodes(epsilon, count.terms)
    shapes = np.maximum(count.value - noises, 0.0) + more
    low, high = shapes.min(), shapes.max()
    start = max(0.0, low - _REACH * math.sqrt(low + 1))
    stop = high + _REACH * math.sqrt(high + 9)
    points = np.linspace(math.sqrt(start), math.sqrt(stop), _POINTS) ** 2
    nodes = np.asarray(
        np.interp(_LEVELS, masses @ gammas_below(shapes, points), points), dtype=np.float64
    )
    return nodes if more else _with_zeros(nodes, _reaching(count, epsilon))


def _reaching(count: NoisedCount, epsilon: float | None) -> float:
    """Return the probability that the noise is all that was counted, or more."""
    first, masses = noise_masses(epsilon, count.terms)
    return float(masses[max(0, count.value - first) :].sum())


def _with_zeros(nodes: Floats, mass: float) -> Floats:
    """Return nodes that are zero in every cell that the mass on zero reaches into."""
    return np.where(mass > _STARTS, 0.0, nodes)


@lru_cache(maxsize=512)
def _noise_nodes(epsilon: float | None, terms: int) -> tuple[Floats, Floats]:
    """Return noises and their masses: each whole number, or means of neighbours where there are
    many.
    """
    first, masses = noise_masses(epsilon, terms)
    noises = first + np.arange(len(masses), dtype=np.float64)
    kept = np.flatnonzero(masses > _TAIL)
    noises, masses = noises[kept[0] : kept[-1] + 1], masses[kept[0] : kept[-1] + 1]
    if len(noises) <= _FEW_NOISES:
        return noises, masses / masses.sum()
    cumulative = np.cumsum(masses) - masses / 2
    cells = np.searchsorted(ndtr(np.linspace(-6, 6, _FEW_NOISES)), cumulative)
    sums: Any = np.bincount(cells, masses)
    means: Any = np.bincount(cells, masses * noises)
    used = sums > 0
    return means[used] / sums[used], sums[used] / sums.sum()


def _noise_reach(epsilon: float, terms: int) -> int:
    """Return a number that the noise's absolute value exceeds with probability below `_TAIL`."""
    tilts = _TILTS * epsilon
    q = math.exp(-epsilon)
    # log of the moment generating function of one variable.
    moments = (
        2 * math.log(-math.expm1(-epsilon))
        - np.log(-np.expm1(tilts - epsilon))
        - np.log1p(-q * np.exp(-tilts))
    )
    return math.ceil(float(np.min((terms * moments - math.log(_TAIL)) / tilts)))
