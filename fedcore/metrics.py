"""What a model is worth, from the noised sum of the units' tables of scores, each with an interval.

Without noise, and with scores at the middles of the bins, every number is what scikit-learn gives
on the pooled rows. With noise some counts are below zero, and no true count is known, so that
rules look at noised counts only. Sums of counts are taken as they are: there the noise has mean
zero. For gains, which need counts that are not negative, `settled` says what becomes of them; for
average precision `AveragePrecision`. Whatever would be divided by a total that does not stand out
of its noise is not said at all: None.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from fedcore.errors import InvalidRecordError
from fedcore.intervals import (
    CONFIDENCE,
    Estimate,
    Metric,
    ScoreSum,
    estimate,
    estimate_curve,
    on_log_odds,
    quantile,
)
from fedcore.privacy.discrete import discrete_laplace_variance
from fedcore.score_tables import DEFAULT_BINS, Floats, ScoreBins, add_tables, by_label

Measures = dict[str, Estimate | None]

# Of the scores of a group the mean is held against the share of label 1.
CALIBRATION_EDGES = (0.0, 0.02, 0.06, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# Where scores are spread over a bin by a straight line, their mean is at most a sixth of the width
# from the middle.
_MEAN_OFF_MIDDLE = 1 / 6
# From how many standard deviations of their noise on customers make up a precision.
_CLEAR_IN_SDS = 4.0


def noised_sum(
    tables: Iterable[ArrayLike],
    epsilon: float | Fraction | None,
    bins: ScoreBins = DEFAULT_BINS,
) -> ScoreSum:
    """Return the sum of flat tables, to each of whose counts a unit has added its own noise.

    Args: `epsilon` that each unit's noise was drawn for; None for tables without any.
    Raises: InvalidRecordError `evaluation.table_unfit`, `privacy.epsilon_invalid`.
    """
    all_tables = list(tables)
    variance = 0.0 if epsilon is None else discrete_laplace_variance(epsilon)
    counts = by_label(add_tables(all_tables, bins), bins).astype(np.float64)
    return ScoreSum(counts, len(all_tables) * variance, bins)


def measures(
    table: ScoreSum, thresholds: Iterable[float] = (0.5,), confidence: float = CONFIDENCE
) -> Measures:
    """Return all numbers by name; None is one that the noise hides.

    `roc_auc` (`roc_auc_least` and `roc_auc_most`: ties within bins all lost, all won),
    `average_precision`, `log_loss`, `brier`, `prevalence`, `ece`; `gain_10` to `gain_90`: the share
    of label 1 among the highest 10 % to 90 %, and `lift_10` to `lift_90`; for each group of scores
    `observed_0.1_0.2` and `predicted_0.1_0.2`; for each threshold `true_positives_at_0.5` and so
    on (how many customers there are, whose interval is of noise only), and rates.
    Raises: InvalidRecordError `evaluation.threshold_unfit` for a threshold that is no bin's edge.
    """
    found: Measures = {}
    found |= _curves(table, confidence)
    found |= _losses(table, confidence)
    found |= _calibration(table, confidence)
    for threshold in thresholds:
        found |= _confusion(table, threshold, confidence)
    return found


# Curves


def roc_auc(counts: Floats) -> Floats:
    """Return the area under the ROC curve, ties within a bin counted half. Shapes: as `Metric`."""
    return _concordance(counts, 0.5)


def _concordance(counts: Floats, tie: float) -> Floats:
    negatives, positives = counts[..., 0, :], counts[..., 1, :]
    below = np.cumsum(negatives, axis=-1) - (1 - tie) * negatives
    pairs = positives.sum(axis=-1) * negatives.sum(axis=-1)
    return _over((positives * below).sum(axis=-1), pairs)


def settled(counts: Floats) -> Floats:
    """Return counts from the highest bin down that are not negative, by a rule on noised counts.

    Counts are added up from the highest bin. Without noise such sums never fall; each is replaced
    by the mean of the greatest one before it and the smallest one after it, which never falls
    either, and kept between 0 and the total. Sums that do not fall stay as they are.
    """
    sums = np.cumsum(counts[..., ::-1], axis=-1)
    total = np.maximum(sums[..., -1:], 0.0)
    before = np.maximum.accumulate(sums, axis=-1)
    after = np.minimum.accumulate(sums[..., ::-1], axis=-1)[..., ::-1]
    return np.diff(np.clip((before + after) / 2, 0.0, total), axis=-1, prepend=0.0)


@dataclass(frozen=True)
class AveragePrecision:
    """The metric: the mean precision over all positives, each at its own bin.

    Where the customers from a bin upwards do not stand out of their noise, the precision there is
    taken to be that of the next bins down to where they do.
    Args: the noise variance of a count, 0 for the pooled rows' average precision.
    """

    noise_variance: float

    def __call__(self, counts: Floats) -> Floats:
        """Return the average precision of each table. Shapes: as `Metric`."""
        downwards = counts[..., ::-1]
        positives = downwards[..., 1, :]
        hits, taken = (np.cumsum(c, axis=-1) for c in (positives, downwards.sum(axis=-2)))
        cells = 2 * np.arange(1, counts.shape[-1] + 1)
        is_clear = taken >= _CLEAR_IN_SDS * np.sqrt(self.noise_variance * cells)
        is_clear &= taken > 0
        last = counts.shape[-1] - 1
        places = np.where(is_clear, np.arange(last + 1), last)
        nearest = np.minimum.accumulate(places[..., ::-1], axis=-1)[..., ::-1]
        precision = np.clip(np.take_along_axis(_over(hits, taken), nearest, axis=-1), 0.0, 1.0)
        return _over((positives * precision).sum(axis=-1), hits[..., -1])


@dataclass(frozen=True)
class Gain:
    """The metric: which share of label 1 is among the highest `share` of all scores.

    Of the bin in which that share ends, the fitting part is taken, of both labels alike.
    """

    share: float

    def __call__(self, counts: Floats) -> Floats:
        """Return the gain of each table. Shapes: as `Metric`."""
        steps = settled(counts)
        customers, positives = steps.sum(axis=-2), steps[..., 1, :]
        ends = np.cumsum(customers, axis=-1)
        room = self.share * ends[..., -1:] - (ends - customers)
        part = np.clip(_over(room, customers), 0.0, 1.0)
        return _over((positives * part).sum(axis=-1), positives.sum(axis=-1))


def _over(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def _curves(table: ScoreSum, confidence: float) -> Measures:
    gains = {percent: Gain(percent / 100) for percent in range(10, 100, 10)}
    # Each with the order of the bins' error.
    metrics: dict[str, tuple[Metric, int | None]] = {
        "roc_auc": (roc_auc, 2),
        "roc_auc_least": (partial(_concordance, tie=0.0), None),
        "roc_auc_most": (partial(_concordance, tie=1.0), None),
        "average_precision": (AveragePrecision(table.noise_variance), 1),
        **{f"gain_{percent}": (gain, 2) for percent, gain in gains.items()},
    }
    lifts = [f"lift_{percent}" for percent in gains]
    if not all(table.is_enough(_rows(table, label)) for label in (0, 1)):
        return dict.fromkeys((*metrics, *lifts))
    found = {
        name: estimate_curve(metric, table, confidence, order)
        for name, (metric, order) in metrics.items()
    }
    found["average_precision"] = on_log_odds(found["average_precision"], confidence)
    for percent in gains:
        found[f"lift_{percent}"] = found[f"gain_{percent}"].scaled(100 / percent)
    return dict(found)


# Ratios of weighted totals


@dataclass(frozen=True)
class _Ratio:
    """A total of the counts by one set of weights over a total by another, shapes (2, bins)."""

    top: Floats
    bottom: Floats

    def of(
        self, table: ScoreSum, confidence: float, *, most: float = 1.0, slopes: Floats | float = 0.0
    ) -> Estimate | None:
        """Return the estimate, or None where the lower total does not stand out of its noise.

        Args: `slopes`, by how much `top` changes with the score, at the middle of each bin.
        """
        if not table.is_enough(self.bottom):
            return None
        value = self.value(table)
        off = slopes * _MEAN_OFF_MIDDLE * np.diff(table.bins.edges)
        error = max(_Ratio(off, self.bottom).value(table), 0.0)
        return estimate(
            value,
            self.slopes(table),
            table,
            most=most,
            bins_error=error,
            confidence=confidence,
        )

    def value(self, table: ScoreSum) -> float:
        """Return the ratio itself."""
        return float((table.counts * self.top).sum() / (table.counts * self.bottom).sum())

    def slopes(self, table: ScoreSum) -> Floats:
        """Return how much the ratio moves for one more customer in each cell."""
        divisor = float((table.counts * self.bottom).sum())
        return (self.top - self.value(table) * self.bottom) / divisor


def _rows(table: ScoreSum, label: int) -> Floats:
    """Return weights of 1 for the customers of one label."""
    weights = np.zeros_like(table.counts)
    weights[label] = 1.0
    return weights


def _losses(table: ScoreSum, confidence: float) -> Measures:
    middles = table.bins.middles
    everyone = np.ones_like(table.counts)
    logs = _Ratio(-np.log(np.array([1 - middles, middles])), everyone)
    squares = _Ratio(np.array([middles, 1 - middles]) ** 2, everyone)
    steep = 1 / np.array([1 - middles, middles])
    return {
        "log_loss": logs.of(table, confidence, most=math.inf, slopes=steep),
        "brier": squares.of(table, confidence, slopes=2 * np.array([middles, 1 - middles])),
        "prevalence": _Ratio(_rows(table, 1), everyone).of(table, confidence),
    }


def _confusion(table: ScoreSum, threshold: float, confidence: float) -> Measures:
    if threshold not in table.bins.edges[1:-1]:
        raise InvalidRecordError(
            "evaluation.threshold_unfit",
            f"a threshold is an edge of the bins {table.bins.name} between 0 and 1",
        )
    above = np.asarray(np.array(table.bins.edges[:-1]) >= threshold, dtype=np.float64)
    negatives, positives = _rows(table, 0), _rows(table, 1)
    counts = {
        "true_positives": positives * above,
        "false_positives": negatives * above,
        "true_negatives": negatives * (1 - above),
        "false_negatives": positives * (1 - above),
    }
    right = counts["true_positives"] + counts["true_negatives"]
    chosen = counts["true_positives"] + counts["false_positives"]
    everyone = negatives + positives
    rates = {
        "true_positive_rate": _Ratio(counts["true_positives"], positives),
        "false_positive_rate": _Ratio(counts["false_positives"], negatives),
        "precision": _Ratio(counts["true_positives"], chosen),
        "chosen": _Ratio(chosen, everyone),
        "accuracy": _Ratio(right, everyone),
    }
    found: Measures = {name: _total(table, cells, confidence) for name, cells in counts.items()}
    found |= {name: ratio.of(table, confidence) for name, ratio in rates.items()}
    return {f"{name}_at_{threshold:g}": number for name, number in found.items()}


def _total(table: ScoreSum, cells: Floats, confidence: float) -> Estimate:
    """Return how many of the units' customers are in the cells; only noise makes that unsure."""
    value = float((cells * table.counts).sum())
    noise_sd = math.sqrt(table.noise_variance * float((cells**2).sum()))
    reach = quantile(confidence) * noise_sd
    low, value, high = (max(x, 0.0) for x in (value - reach, value, value + reach))
    return Estimate(value, low, high, 0.0, noise_sd)


# Calibration


def _calibration(table: ScoreSum, confidence: float) -> Measures:
    bins, found = table.bins, Measures()
    everyone, middles = np.ones_like(table.counts), np.tile(bins.middles, (2, 1))
    gaps = []
    edges = [edge for edge in CALIBRATION_EDGES if edge in bins.edges]
    for low, high in itertools.pairwise(edges):
        places = (np.array(bins.edges[:-1]) >= low) & (np.array(bins.edges[:-1]) < high)
        group = everyone * places
        name = f"{low:g}_{high:g}"
        found[f"observed_{name}"] = _Ratio(_rows(table, 1) * places, group).of(table, confidence)
        found[f"predicted_{name}"] = _Ratio(middles * group, group).of(
            table, confidence, slopes=group
        )
        gaps.append(_Ratio((_rows(table, 1) - middles) * places, everyone))
    found["ece"] = _calibration_error(table, gaps, confidence)
    return found


def _calibration_error(table: ScoreSum, gaps: list[_Ratio], confidence: float) -> Estimate | None:
    """Return the sum of the groups' gaps, each without its sign.

    With the gaps' errors e the sum is off by at most the sum of |e|, which for normal errors has
    the mean 0.8 * sds and the variance 0.36 * sds**2: that makes the interval. Noise makes the
    number itself greater rather than smaller, since nothing cancels out.
    """
    if not table.is_enough(np.ones_like(table.counts)):
        return None
    slopes = np.array([gap.slopes(table) for gap in gaps])
    sampling = np.maximum((slopes**2 * table.counts).sum(axis=(1, 2)), 0.0)
    noise = table.noise_variance * (slopes**2).sum(axis=(1, 2))
    sds = np.sqrt(sampling + noise)
    mean = math.sqrt(2 / math.pi) * float(sds.sum())
    sd = math.sqrt((1 - 2 / math.pi) * float((sds**2).sum()))
    everyone = np.ones_like(table.counts)
    off = np.diff(table.bins.edges) * _MEAN_OFF_MIDDLE * everyone
    error = max(_Ratio(off, everyone).value(table), 0.0)
    reach = mean + quantile(2 * confidence - 1) * sd + error
    value = sum(abs(gap.value(table)) for gap in gaps)
    return Estimate(
        min(value, 1.0),
        min(max(value - reach, 0.0), 1.0),
        min(value + reach, 1.0),
        math.sqrt(float(sampling.sum())),
        math.sqrt(float(noise.sum())),
        error,
    )
