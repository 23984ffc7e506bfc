"""Fewer centres from many: Ward's agglomeration of noised centres, and where to stop.

Merging two centres costs what it adds to the rows' squared distances from their centre:
w1 * w2 / (w1 + w2) * |c1 - c2|^2. Noise keeps equal centres apart; what it adds to a squared
distance on average is public, and is taken off first.
Reference: Ward (1963), Hierarchical Grouping to Optimize an Objective Function.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedcore.errors import InvalidRecordError
from fedcore.privacy.noise import Floats


@dataclass(frozen=True)
class Weighted:
    """Centres of shape (k, d), their positive weights (k,), and the mean squared errors of the
    centres' places (k,), zero where they are exact.
    """

    centres: Floats
    weights: Floats
    errors: Floats

    def __len__(self) -> int:
        return len(self.weights)


@dataclass(frozen=True)
class Bounds:
    """The least and the most segments there may be; equal ones declare their number.

    Raises: InvalidRecordError `clustering.count_invalid` unless 1 <= least <= most.
    """

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise InvalidRecordError(
                "clustering.count_invalid",
                "the least number of segments is 1 and not above the most",
            )


@dataclass(frozen=True)
class Merge:
    """One step: what is left of the centres, and what the step cost."""

    left: Weighted
    cost: float


def merge_path(whole: Weighted) -> list[Merge]:
    """Return all merges down to one centre, the cheapest first at each step.

    Guarantees: the step to k centres is at place -k; total weight and weighted mean never change;
        costs are not negative; centres keep the order of their first member.
    """
    path: list[Merge] = []
    left = whole
    while len(left) > 1:
        costs = _costs(left)
        first, second = divmod(int(costs.argmin()), len(left))
        left = _joined(left, first, second)
        path.append(Merge(left, float(costs[first, second])))
    return path


def merged(whole: Weighted, count: int) -> Weighted:
    """Return the centres merged down to `count`, or as they are where there are no more.

    Raises: InvalidRecordError `clustering.count_invalid` for a count below 1.
    """
    if count < 1:
        raise InvalidRecordError("clustering.count_invalid", "there must be at least 1 segment")
    return whole if len(whole) <= count else merge_path(whole)[-count].left


def choose_count(costs: Sequence[float], scatter: float, features: int, bounds: Bounds) -> int:
    """Return how many centres to keep: where scatter is least against that of rows spread evenly.

    Evenly spread rows that k centres divide have a scatter of k**(-2 / features) of the whole, so
    that the count with the least scatter * k**(2 / features) is taken. Halving one normal segment
    of several never lowers that; parting two does from about 3 standard deviations on.
    Guarantees: within `bounds`, and not above the number of centres; the fewest on a tie; does not
        change when costs and scatter are multiplied by one factor.
    Args: costs of a `merge_path`, in its order; `scatter` what its first centres leave unexplained.
    Reference: Krzanowski and Lai (1988), A criterion for determining the number of groups in a data
        set using sum-of-squares clustering; Marriott (1971).
    """
    there = len(costs) + 1
    kept = range(min(bounds.least, there), min(bounds.most, there) + 1)
    left = scatter + np.concatenate([[0.0], np.cumsum(costs)])

    def against_even(count: int) -> float:
        return float(left[there - count] * float(count) ** (2 / features))

    return min(kept, key=against_even)


def _costs(left: Weighted) -> Floats:
    """Return the cost of each pair, shape (k, k), infinite but above the diagonal."""
    distances = np.square(left.centres[:, None, :] - left.centres[None, :, :]).sum(axis=2)
    distances = np.maximum(0, distances - left.errors[:, None] - left.errors[None, :])
    pairs = left.weights[:, None] * left.weights[None, :]
    costs = pairs / (left.weights[:, None] + left.weights[None, :]) * distances
    return np.where(np.triu(np.ones_like(costs), k=1) > 0, costs, np.inf)


def _joined(left: Weighted, first: int, second: int) -> Weighted:
    weight = left.weights[first] + left.weights[second]
    shares = left.weights[[first, second]] / weight
    centres, weights, errors = left.centres.copy(), left.weights.copy(), left.errors.copy()
    centres[first] = shares @ left.centres[[first, second]]
    weights[first] = weight
    errors[first] = shares**2 @ left.errors[[first, second]]
    return Weighted(*(np.delete(part, second, axis=0) for part in (centres, weights, errors)))
