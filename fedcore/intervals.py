"""How sure a number is that comes from noised counts: chance, privacy noise and bins together.

A number f of the counts has two reasons to vary. Other customers might have come: a count c then
varies by about c (Poisson). And every count carries noise of a known variance s. If f moves by g
for one more customer in a cell, its variance is the sum over all cells of g * g * (c + s): the
delta method. For the area under the ROC curve the first part is what DeLong's method gives.
Reference: DeLong, DeLong and Clarke-Pearson (1988); van der Vaart (1998), chapter 3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from fedcore.score_tables import Floats, ScoreBins

Metric = Callable[[Floats], Floats]
"""From counts of shape (n, 2, bins), n tables, row 0 label 0, to n numbers."""

CONFIDENCE = 0.95
# A number with a noised total below it is shown as unknown where the total is less than so many
# standard deviations of its noise.
MIN_TOTAL_IN_SDS = 5.0
_LEAST_MOVE = 1e-3


@dataclass(frozen=True)
class ScoreSum:
    """What all units' noised tables add up to.

    Args: counts of shape (2, bins.count), row 0 label 0, possibly negative; noise_variance of each
        of them, 0 without noise.
    """

    counts: Floats
    noise_variance: float
    bins: ScoreBins

    def is_enough(self, cells: Floats) -> bool:
        """Whether a weighted total stands out of its noise, so that one may divide by it.

        Guarantees: looks at noised counts only, so that it reveals nothing that they do not.
        Args: weights of shape (2, bins.count).
        """
        total = float((cells * self.counts).sum())
        sd = math.sqrt(self.noise_variance * float((cells**2).sum()))
        return total > 0 and total >= MIN_TOTAL_IN_SDS * sd


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, and what makes the interval as wide as it is.

    `low` to `high` reaches, on each side, z standard deviations of chance and noise together, and
    `bins_error` for what happens within the bins; it is cut where no such number can be.
    """

    value: float
    low: float
    high: float
    sampling_sd: float
    noise_sd: float
    bins_error: float = 0.0

    def scaled(self, factor: float) -> "Estimate":
        """Return the estimate of the number times a positive factor."""
        return Estimate(
            self.value * factor,
            self.low * factor,
            self.high * factor,
            self.sampling_sd * factor,
            self.noise_sd * factor,
            self.bins_error * factor,
        )


def quantile(confidence: float) -> float:
    """Return z: a normal number lies within z standard deviations with this probability."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def estimate(
    value: float,
    slopes: Floats,
    table: ScoreSum,
    *,
    most: float = 1.0,
    bins_error: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return a number with its interval.

    Guarantees: about `confidence` of such intervals contain the number of the population that the
        customers are drawn from, where the table `is_enough` for what the number divides by.
    Args: `slopes`, how much the number moves for one more customer in each cell, shape (2, bins);
        `most`, the greatest number that there can be (the least is 0).
    """
    sampling = max(float((slopes**2 * table.counts).sum()), 0.0)
    noise = table.noise_variance * float((slopes**2).sum())
    reach = quantile(confidence) * math.sqrt(sampling + noise) + bins_error
    low, value, high = (min(max(x, 0.0), most) for x in (value - reach, value, value + reach))
    return Estimate(value, low, high, math.sqrt(sampling), math.sqrt(noise), bins_error)


def estimate_curve(
    metric: Metric, table: ScoreSum, confidence: float = CONFIDENCE, order: int | None = 2
) -> Estimate:
    """Return a metric of a curve with its interval.

    Args: `order`, as in `halving_error`; None leaves that error out.
    """
    return estimate(
        value_of(metric, table.counts),
        slopes_of(metric, table),
        table,
        bins_error=0.0 if order is None else halving_error(metric, table, order),
        confidence=confidence,
    )


def on_log_odds(found: Estimate, confidence: float = CONFIDENCE) -> Estimate:
    """Return the estimate of a share with its interval made on the scale of log-odds.

    There it is even to both sides, here wider towards one half: for shares whose spread grows with
    them, of which a low one would otherwise be thought too sure.
    """
    spread = found.value * (1 - found.value)
    if not spread > 0:
        return found
    centre = math.log(found.value / (1 - found.value))
    sd = math.hypot(found.sampling_sd, found.noise_sd) / spread
    low, high = (
        1 / (1 + math.exp(-min(max(centre + side * quantile(confidence) * sd, -50.0), 50.0)))
        for side in (-1, 1)
    )
    low, high = max(low - found.bins_error, 0.0), min(high + found.bins_error, 1.0)
    return replace(found, low=low, high=high)


def difference(
    challenger: Estimate, champion: Estimate, confidence: float = CONFIDENCE
) -> Estimate:
    """Return by how much a number of one model is above that of another, from a table of each.

    Guarantees: the interval holds at least as often as `confidence` says if by chance both models'
        numbers rather rise together, as on the same customers: two tables do not tell how much, and
        what would narrow the interval is left out. The noise of two tables is independent.
    """
    sampling = math.hypot(challenger.sampling_sd, champion.sampling_sd)
    noise = math.hypot(challenger.noise_sd, champion.noise_sd)
    error = challenger.bins_error + champion.bins_error
    value = challenger.value - champion.value
    reach = quantile(confidence) * math.hypot(sampling, noise) + error
    return Estimate(value, value - reach, value + reach, sampling, noise, error)


def value_of(metric: Metric, counts: Floats) -> float:
    """Return the metric of one table of shape (2, bins)."""
    return float(metric(counts[np.newaxis])[0])


def slopes_of(metric: Metric, table: ScoreSum) -> Floats:
    """Return how much a metric moves for one more customer in each cell, shape (2, bins.count).

    Each count is moved by its own standard deviation to both sides, so that a corner of the metric
    within the noise does not decide.
    """
    sds = np.sqrt(np.maximum(table.counts, 0.0) + table.noise_variance)
    sds = np.maximum(sds, _LEAST_MOVE)
    moves = np.diag(sds.reshape(-1)).reshape(-1, *table.counts.shape)
    change = metric(table.counts + moves) - metric(table.counts - moves)
    return np.asarray(change.reshape(sds.shape) / (2 * sds))


def halving_error(metric: Metric, table: ScoreSum, order: int) -> float:
    """Return how far a curve's metric may be off because scores are known by their bins only.

    With bins twice as wide it moves by some D. Where the curve is smooth, an error of the second
    order falls to a quarter with half the width: halving again and again moves it by D/4 + D/16 +
    ... = D/3 in all. One of the first order falls to a half, by D/2 + D/4 + ... = D. D is the
    greater one of the two ways to pair neighbouring bins.
    Args: `order`, 2 where ties within a bin are split evenly, 1 where they all count as the last.
    """
    here = value_of(metric, table.counts)
    last = table.bins.count - 1
    moved = []
    for starts in (range(0, last + 1, 2), (0, *range(1, last + 1, 2))):
        wide = np.add.reduceat(table.counts, list(starts), axis=1)
        moved.append(abs(value_of(metric, wide) - here))
    return max(moved) / float(2**order - 1)
