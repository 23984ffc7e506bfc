"""A table of scores: how many customers of each label have a score in each public bin.

The table is all of the test rows that leaves a node, as noised integers. One customer counts in one
cell, once, so that with or without anybody one count differs by one (L1 sensitivity 1), whatever
the scores are.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcore.errors import InvalidRecordError

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

LABELS = 2


@dataclass(frozen=True)
class ScoreBins:
    """Public bins of scores. Bin k holds edges[k] <= score < edges[k + 1], the last one 1 as well.

    Args: `name` is what documents call them; edges rise from 0 to 1.
    """

    name: str
    edges: tuple[float, ...]

    @property
    def count(self) -> int:
        """How many bins there are."""
        return len(self.edges) - 1

    @property
    def size(self) -> int:
        """How many counts a table has: one for each label and bin."""
        return LABELS * self.count

    @property
    def middles(self) -> Floats:
        """The score that stands for a bin in losses and calibration, shape (count,)."""
        return np.asarray((np.array(self.edges[1:]) + np.array(self.edges[:-1])) / 2)

    def bin_of(self, scores: ArrayLike) -> NDArray[np.intp]:
        """Return the bin of each score, shape (n,).

        Guarantees: a score's bin depends on that score only. What is not finite goes to bin 0, what
            is outside [0, 1] to the nearest bin, so that no score stops a table.
        """
        found = np.asarray(scores, dtype=np.float64)
        bounded = np.clip(np.where(np.isfinite(found), found, 0.0), 0.0, 1.0)
        return np.searchsorted(np.array(self.edges[1:-1]), bounded, side="right")


def _rising(*pieces: tuple[int, int, int]) -> tuple[float, ...]:
    return (*(edge / 1000 for piece in pieces for edge in range(*piece)), 1.0)


# Chosen by measurement (ADR 0042): fine where most scores of rare events lie, and few in all, since
# each bin brings its own noise.
DEFAULT_BINS = ScoreBins(
    "probability/1",
    _rising((0, 20, 5), (20, 60, 10), (60, 200, 20), (200, 300, 25), (300, 1000, 50)),
)


# By the name that evaluation plans call them.
BINS = {bins.name: bins for bins in (DEFAULT_BINS,)}


def score_table(
    labels: ArrayLike, scores: ArrayLike, bins: ScoreBins = DEFAULT_BINS
) -> NDArray[np.int64]:
    """Return the counts of a table, shape (bins.size,), label by label: entry label * bins.count +
    bin. The first half are customers with label 0, the second half those with label 1.

    Guarantees: each customer counts once; without one customer one entry is less by one.
    Args: one label and one score for each customer, shape (n,); a label is 1 above 0.5, else 0.
    Raises: InvalidRecordError `evaluation.table_unfit` if there are not as many of both.
    """
    positive = np.asarray(labels, dtype=np.float64) > 0.5
    places = bins.bin_of(scores)
    if positive.shape != places.shape or positive.ndim != 1:
        raise _unfit("each customer has one label and one score")
    return np.bincount(positive * bins.count + places, minlength=bins.size).astype(np.int64)


def add_tables(tables: Iterable[ArrayLike], bins: ScoreBins = DEFAULT_BINS) -> NDArray[np.int64]:
    """Return the sum of flat tables, noised or not; of none it is all zeros.

    Raises: InvalidRecordError `evaluation.table_unfit` for a table of another length, or one that
        is not of integers.
    """
    total = np.zeros(bins.size, dtype=np.int64)
    for table in tables:
        total += _checked(table, bins)
    return total


def by_label(table: ArrayLike, bins: ScoreBins = DEFAULT_BINS) -> NDArray[np.int64]:
    """Return a flat table as an array of shape (2, bins.count): row 0 label 0, row 1 label 1.

    Raises: InvalidRecordError `evaluation.table_unfit`, as `add_tables`.
    """
    return _checked(table, bins).reshape(LABELS, bins.count)


def _checked(table: ArrayLike, bins: ScoreBins) -> Integers:
    found = np.asarray(table)
    if found.shape != (bins.size,) or not np.issubdtype(found.dtype, np.integer):
        raise _unfit(f"a table of {bins.name} has {bins.size} integers")
    return found.astype(np.int64)


def _unfit(public: str) -> InvalidRecordError:
    return InvalidRecordError("evaluation.table_unfit", public)
