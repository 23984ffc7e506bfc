"""Privacy loss distributions, composed: one spectrum for a whole history, which grows with it.

Losses add up, so their distributions convolve and their spectra multiply. All steps of a history
are multiplied in one transform's grid, and transformed back once. A transform rounds relative to
the greatest mass, and epsilon lies far from it: so masses are weighted with exp(tilt * loss) before
and weighted back afterwards, where the tilt brings the greatest ones to about epsilon.

What was composed last is kept with the counts of its steps: a history that holds all of these takes
only what it has besides. Full-batch Gaussian steps, which together are one step of less noise, are
left out of what is kept.

Guarantees:
    - mass outside the window that is transformed back is bounded by Chernoff, and what lies above
      it counts as an infinite loss: truncation never lowers a result;
    - what is kept decides how long it takes, never the result beyond rounding: it is a product of
      the same factors in another order.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedcore.privacy.losses import INTERVAL, Floats, Losses, losses_of
from fedcore.privacy.steps import Step, Summary

# The share of the weighted mass that may lie outside the window.
_TAIL = 1e-12
_LOG_TAIL = math.log(2 / _TAIL)
# Multiples of what would be best for a normal loss: of tilts to choose from, and of exponents at
# which Chernoff's bound is taken above and below the tilt.
_TILTS: Floats = np.exp2(np.arange(-4.0, 4.0))
_ABOVE = (0.12, 0.25, 0.5, 0.75, 1.0, 1.4)
_BELOW = (0.5, 0.75, 1.0, 1.4)
# Room in the grid, so that not every event that follows takes a wider one.
_ROOM = 1.1

# Sizes of the grid, as multiples of a power of two.
_FACTORS = (8, 9, 10, 12, 15, 16)

_Steps = Iterable[tuple[Step, int]]
_Spectrum = NDArray[np.complex128]


class _Tally(NamedTuple):
    """What bounds the losses of composed steps, all in intervals.

    Attributes:
        exponents: those at which the moments are known: the tilt, some above, and some below it.
        moments: logarithms of the moment generating function there.
        first: the least finite loss.
        last: the greatest finite loss.
        log_finite: logarithm of the probability that no loss is infinite.
    """

    exponents: Floats
    moments: Floats
    first: int = 0
    last: int = 0
    log_finite: float = 0.0

    def window(self) -> tuple[int, int]:
        """Return the losses between which all finite ones lie, but for `_TAIL` of the weight."""
        gaps = self.exponents[1:] - self.exponents[0]
        bounds = (self.moments[1:] - self.moments[0] + _LOG_TAIL) / gaps
        high, low = bounds[gaps > 0].min(), bounds[gaps < 0].max()
        return (
            self.first if low <= self.first else math.floor(low),
            self.last if high >= self.last else math.ceil(high),
        )

    def width(self) -> int:
        """Return the number of losses in the window."""
        low, high = self.window()
        return high - low + 1


class _Kept(NamedTuple):
    """A composition in one direction: its counts, bounds and spectrum; `delta` chose its tilt."""

    way: int
    delta: float
    counts: Mapping[Step, int]
    tally: _Tally
    size: int
    spectrum: _Spectrum


# For each direction the newest ones: a history, and a part of it.
_KEPT: deque[_Kept] = deque(maxlen=4)


def composed_epsilon(summary: Summary, delta: float) -> float:
    """Return the least epsilon of steps that were fixed beforehand.

    Guarantees: an upper bound, at `INTERVAL`; inf when an infinite loss is likelier than delta.
    Args: `summary` not empty; delta in (0, 1).
    """
    counts = {step: count for step, count in summary if not step.is_full_batch}
    late = [(step, count) for step, count in summary if step.is_full_batch]
    return max(_epsilon(_composed(way, delta, counts, late), delta) for way in (0, 1))


def _composed(way: int, delta: float, counts: Mapping[Step, int], late: _Steps) -> Losses:
    kept = _grown(way, delta, counts, late) or _made(way, delta, counts, late)
    _KEPT.append(kept)
    tally = _tallied(kept.tally, late, way)
    tilt, moment = tally.exponents[0], tally.moments[0]
    weighted = np.fft.irfft(_multiplied(kept.spectrum, late, way, kept.size, tilt), kept.size)
    low, high = tally.window()
    # Losses of 0 and less count to no epsilon that is asked for.
    low = min(max(low, 1), high)
    found = np.roll(weighted, -((low - tally.first) % kept.size))[: high - low + 1]
    with np.errstate(divide="ignore"):
        logs = np.log(np.maximum(found, 0.0))
    losses = Losses(low, logs, _mass_above(tally, high) - math.expm1(tally.log_finite))
    return losses._replace(logs=logs + (moment - tilt * losses.places))


def _mass_above(tally: _Tally, high: int) -> float:
    """Return a bound on what lies above the window: it weighs at most `_TAIL`, each loss there at
    least as much as `high`.
    """
    if high == tally.last:
        return 0.0
    return math.exp(min(0.0, tally.moments[0] - tally.exponents[0] * high + math.log(_TAIL)))


def _grown(way: int, delta: float, counts: Mapping[Step, int], late: _Steps) -> _Kept | None:
    """Return the composition from what is kept; None when that is no help."""
    best, least = None, len(counts)
    for kept in [one for one in tuple(_KEPT) if (one.way, one.delta) == (way, delta)]:
        more = [(step, count - kept.counts.get(step, 0)) for step, count in counts.items()]
        more = [(step, count) for step, count in more if count]
        is_part = kept.counts.keys() <= counts.keys() and all(count > 0 for _, count in more)
        if is_part and len(more) < least and _longest([*more, *late], way) <= kept.size:
            best, least = (kept, more), len(more)
    if best is None:
        return None
    kept, more = best
    tally = _tallied(kept.tally, more, way)
    if _tallied(tally, late, way).width() > kept.size:
        return None
    spectrum = _multiplied(kept.spectrum, more, way, kept.size, tally.exponents[0])
    return _Kept(way, delta, counts, tally, kept.size, spectrum)


def _made(way: int, delta: float, counts: Mapping[Step, int], late: _Steps) -> _Kept:
    """Return the composition, made anew in a grid that has room for it and some more."""
    every = [*counts.items(), *late]
    exponents = _exponents(every, way, delta)
    tally = _tallied(_Tally(exponents, np.zeros(len(exponents))), counts.items(), way)
    needed = max(_tallied(tally, late, way).width(), _longest(every, way))
    size = _fast(math.ceil(needed * _ROOM))
    ones = np.ones(size // 2 + 1, dtype=np.complex128)
    spectrum = _multiplied(ones, counts.items(), way, size, exponents[0])
    return _Kept(way, delta, counts, tally, size, spectrum)


def _exponents(steps: _Steps, way: int, delta: float) -> Floats:
    """Return the tilt whose bound on epsilon is least, and the others around it."""
    spread = math.sqrt(sum(count * _variance(losses_of(step)[way]) for step, count in steps))
    spread = max(spread, 1.0)
    tilts: Floats = _TILTS * (math.sqrt(-2 * math.log(delta)) / spread)
    moments = _tallied(_Tally(tilts, np.zeros(len(tilts))), steps, way).moments
    tilt = float(tilts[np.argmin((moments - math.log(delta)) / tilts)])
    best = math.sqrt(2 * _LOG_TAIL) / spread
    return np.array([0.0, *_ABOVE, *(-each for each in _BELOW)]) * best + tilt


def _variance(losses: Losses) -> float:
    masses, places = np.exp(losses.logs), losses.places
    return float(masses @ (places - masses @ places) ** 2)


def _moments(losses: Losses, exponents: Floats) -> Floats:
    """Return the logarithm of the moment generating function at each exponent."""
    found = np.empty(len(exponents))
    for rank, exponent in enumerate(exponents):
        weights = losses.logs + exponent * losses.places
        greatest = weights.max()
        found[rank] = greatest + math.log(np.exp(weights - greatest).sum())
    return found


def _tallied(tally: _Tally, steps: _Steps, way: int) -> _Tally:
    """Return the tally with these steps besides."""
    for step, count in steps:
        losses = losses_of(step)[way]
        tally = _Tally(
            tally.exponents,
            tally.moments + count * _moments(losses, tally.exponents),
            tally.first + count * losses.first,
            tally.last + count * (losses.first + len(losses.logs) - 1),
            tally.log_finite + count * math.log1p(-losses.infinite),
        )
    return tally


def _multiplied(spectrum: _Spectrum, steps: _Steps, way: int, size: int, tilt: float) -> _Spectrum:
    for step, count in steps:
        losses = losses_of(step)[way]
        weights = losses.logs + tilt * losses.places
        masses = np.exp(weights - _moments(losses, np.array([tilt]))[0])
        spectrum = spectrum * _power(np.fft.rfft(masses, size), count)
    return spectrum


def _power(base: _Spectrum, count: int) -> _Spectrum:
    """Return the count-th power by squaring; complex logarithms would be slower."""
    power: _Spectrum | None = None
    while True:
        if count % 2:
            power = base if power is None else power * base
        count //= 2
        if not count:
            return base if power is None else power
        base = base * base


def _longest(steps: _Steps, way: int) -> int:
    return max((len(losses_of(step)[way].logs) for step, _ in steps), default=0)


def _fast(least: int) -> int:
    """Return a size that transforms fast: few small factors besides a power of two."""
    power: int = 1 << max(0, (least - 1).bit_length() - 4)
    return next(size for size in (power * factor for factor in _FACTORS) if size >= least)


def _epsilon(losses: Losses, delta: float) -> float:
    """Return the least epsilon at least 0 whose hockey-stick divergence is at most delta."""
    if losses.infinite > delta:
        return math.inf
    # From the greatest loss down.
    places, logs = losses.places[::-1] * INTERVAL, losses.logs[::-1]
    masses, sinks = np.exp(logs), np.exp(-places)
    upper = losses.infinite + np.concatenate([[0.0], np.cumsum(masses)])
    lower = np.concatenate([[0.0], np.cumsum(masses * sinks)])
    # At a loss the divergence is upper - exp(loss) * lower, of the greater ones.
    passed = np.flatnonzero((upper[:-1] - delta) * sinks > lower[:-1])
    last = int(passed[0]) if len(passed) else len(places)
    above, below = float(upper[last]) - delta, float(lower[last])
    return max(0.0, math.log(above / below)) if above > 0 and below > 0 else 0.0
