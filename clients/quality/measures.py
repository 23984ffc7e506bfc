"""How strongly two things go together: textbook formulas on tables of counts, and nothing else.

Tables are float64 of shape (rows, columns); empty rows and columns count as not there.
"""

import math

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


def table_of(first: NDArray[np.int64], second: NDArray[np.int64]) -> Table:
    """Return how often each pair of codes occurs; a negative code is left out with its pair."""
    known = (first >= 0) & (second >= 0)
    left, right = first[known], second[known]
    shape = (int(left.max(initial=-1)) + 1, int(right.max(initial=-1)) + 1)
    counts = np.bincount(left * shape[1] + right, minlength=shape[0] * shape[1])
    return counts.reshape(shape).astype(np.float64)


def occupied(table: Table) -> Table:
    """Return the table without its empty rows and columns."""
    rows: Table = table[table.sum(axis=1) > 0]
    full: Table = rows[:, table.sum(axis=0) > 0]
    return full


def cramers_v(table: Table) -> float | None:
    """Return the bias-corrected Cramér's V in [0, 1]; None when either side is constant.

    Reference: Bergsma, A bias-correction for Cramér's V and Tschuprow's T, Journal of the Korean
        Statistical Society 42 (2013), equations 4 to 6.
    """
    full = occupied(table)
    n, (r, c) = float(full.sum()), full.shape
    if min(r, c) < 2 or n < 2:
        return None
    # A table with fewer rows than levels can leave nothing of a side.
    sides = (r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1))
    if min(sides) <= 1:
        return None
    return min(1.0, math.sqrt(max(0.0, excess(full)) / (min(sides) - 1)))


def excess(table: Table) -> float:
    """Return chi-squared / n less what independence is expected to give: (r-1)(c-1)/(n-1)."""
    full = occupied(table)
    n, (r, c) = float(full.sum()), full.shape
    expected = np.outer(full.sum(axis=1), full.sum(axis=0)) / n
    phi = float(((full - expected) ** 2 / expected).sum()) / n
    return float(phi - (r - 1) * (c - 1) / (n - 1))


def chance(table: Table) -> float:
    """Return one standard deviation of `excess` under independence: of chi-squared, over n."""
    full = occupied(table)
    r, c = full.shape
    return math.sqrt(2 * (r - 1) * (c - 1)) / float(full.sum())


def shared_information(table: Table) -> float | None:
    """Return the mutual information over the smaller entropy, in [0, 1]; None as `cramers_v`.

    Each of the three entropies carries the correction (occupied cells - 1) / 2n.
    Reference: Miller, Note on the bias of information estimates, in: Information Theory in
        Psychology (1955); Cover and Thomas, Elements of Information Theory, 2nd ed., section 2.4.
    """
    full = occupied(table)
    if min(full.shape) < 2:
        return None
    sides = [_entropy(full.sum(axis=axis)) for axis in (1, 0)]
    shared = sum(sides) - _entropy(full.ravel())
    return min(1.0, max(0.0, shared / min(sides)))


def _entropy(counts: NDArray[np.float64]) -> float:
    found = counts[counts > 0]
    shares = found / found.sum()
    return float(-(shares * np.log(shares)).sum() + (len(found) - 1) / (2 * found.sum()))


def auc_of_counts(positive: Table, negative: Table) -> float | None:
    """Return the chance that a positive has the greater value, ties half; None without both.

    Args: how many of each have a value, in the order of the values.
    Reference: Hanley and McNeil, Radiology 143 (1982): the area is the Wilcoxon statistic.
    """
    pairs = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else None


def auc_with_error(scores: Table, is_positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error.

    Args: at least two scores of each kind.
    Reference: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), by midranks as in Sun and
        Xu, IEEE Signal Processing Letters 21 (2014).
    """
    high, low = scores[is_positive], scores[~is_positive]
    together = _midranks(scores)
    above = (together[is_positive] - _midranks(high)) / len(low)
    below = 1 - (together[~is_positive] - _midranks(low)) / len(high)
    variance = above.var(ddof=1) / len(high) + below.var(ddof=1) / len(low)
    return float(above.mean()), math.sqrt(float(variance))


def _midranks(values: Table) -> Table:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Table = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(ranks[place])
