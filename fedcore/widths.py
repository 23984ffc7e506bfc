"""How wide an evaluation's intervals will be, told before anything is spent: from public numbers.

A supposed population has calibrated scores: the log-odds of a score are normal for either label,
with one variance, and their distance is what the expected area under the ROC curve asks for. Its
expected table is evaluated as a real one would be.
"""

import bisect
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import NormalDist

import numpy as np

from fedcore.errors import InvalidRecordError
from fedcore.intervals import CONFIDENCE, ScoreSum
from fedcore.metrics import Measures, measures
from fedcore.privacy.discrete import discrete_laplace_variance
from fedcore.score_tables import DEFAULT_BINS, Floats, ScoreBins

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Expected:
    """What is supposed of an evaluation before it is made.

    Args: rows, customers in all units' test parts together, at least 1; prevalence, the share of
        label 1, in (0, 1); roc_auc in (0.5, 1); units, at least 1; epsilon of each unit's noise, or
        None without noise.
    Raises: InvalidRecordError `evaluation.expectation_invalid`.
    """

    rows: int
    prevalence: float
    roc_auc: float
    units: int
    epsilon: float | Fraction | None

    def __post_init__(self) -> None:
        if not (self.rows >= 1 and self.units >= 1 and 0 < self.prevalence < 1):
            raise _invalid("at least one row and one unit, and a prevalence between 0 and 1")
        if not 0.5 < self.roc_auc < 1:
            raise _invalid("an area under the ROC curve between 0.5 and 1")

    @property
    def log_odds_sd(self) -> float:
        """The standard deviation of the scores' log-odds, for either label."""
        return math.sqrt(2) * _NORMAL.inv_cdf(self.roc_auc)


def expected_table(expected: Expected, bins: ScoreBins = DEFAULT_BINS) -> Floats:
    """Return how many customers of each label are expected in each bin, shape (2, bins.count)."""
    sd, edges = expected.log_odds_sd, np.array(bins.edges[1:-1])
    centre = math.log(expected.prevalence / (1 - expected.prevalence))
    log_odds = np.log(edges / (1 - edges)) - centre
    table = []
    for sign, share in ((-1, 1 - expected.prevalence), (1, expected.prevalence)):
        # A calibrated score's log-odds have means half a variance on either side.
        places = (log_odds - sign * sd**2 / 2) / sd
        below = [0.0, *(_NORMAL.cdf(float(place)) for place in places), 1.0]
        table.append(expected.rows * share * np.diff(below))
    return np.array(table)


def forecast(
    expected: Expected, confidence: float = CONFIDENCE, bins: ScoreBins = DEFAULT_BINS
) -> Measures:
    """Return the numbers and intervals to expect, by the names that `measures` gives them.

    Guarantees: from public numbers only; None where the noise will probably hide a number.
    Raises: InvalidRecordError `privacy.epsilon_invalid`.
    """
    each = 0.0 if expected.epsilon is None else discrete_laplace_variance(expected.epsilon)
    table = ScoreSum(expected_table(expected, bins), expected.units * each, bins)
    return measures(table, confidence=confidence)


def rows_needed(
    expected: Expected, half_width: float, name: str = "roc_auc", confidence: float = CONFIDENCE
) -> int | None:
    """Return the least rows, to two digits, with which a number's interval is that narrow.

    Args: `half_width`, the wished half of the interval's width; `name`, as `measures` has it; the
        rows in `expected` play no part.
    Returns: None if 10^9 rows are not enough, or the bins alone make the interval wider.
    Raises: InvalidRecordError `evaluation.expectation_invalid` for a name that there is not.
    """
    if name not in forecast(expected):
        raise _invalid(f"a number that evaluation has; {name} is none")

    def is_enough(rows: int) -> bool:
        found = forecast(replace(expected, rows=rows), confidence)[name]
        return found is not None and (found.high - found.low) / 2 <= half_width

    tried = [digits * 10**power for power in range(1, 8) for digits in range(10, 100)]
    place = bisect.bisect_left(tried, True, key=is_enough)
    return tried[place] if place < len(tried) else None


def _invalid(what: str) -> InvalidRecordError:
    return InvalidRecordError("evaluation.expectation_invalid", f"a forecast needs {what}")
