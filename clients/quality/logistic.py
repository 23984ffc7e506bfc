"""A small logistic model of the unit's own, to see what its inputs give away; it never leaves."""

import numpy as np
from numpy.typing import NDArray

STEPS = 100
RIDGE = 1.0

Numbers = NDArray[np.float64]


class Classifier:
    """Logistic regression with a ridge, of any number of yes-or-no questions on the same rows.

    Guarantees: each step lowers the penalised loss, since X'X/4 is above its second derivative
        everywhere; that bound depends on no answer, so that it is factorised once.
    Reference: Böhning and Lindsay, Annals of the Institute of Statistical Mathematics 40 (1988).
    """

    def __init__(self, rows: Numbers) -> None:
        """Take the training rows, shape (rows, columns), each number in [-1, 1]."""
        self._rows = _with_intercept(rows)
        self._penalty = np.full(self._rows.shape[1], RIDGE)
        self._penalty[-1] = 1e-6  # of the intercept: only so that the bound can be inverted
        bound = self._rows.T @ self._rows / 4 + np.diag(self._penalty)
        self._inverse = np.linalg.inv(bound)

    def fit(self, answers: Numbers, counts: NDArray[np.bool_]) -> Numbers:
        """Return the coefficients, the intercept last, of the rows that count."""
        found = np.zeros(self._rows.shape[1])
        for _ in range(STEPS):
            residuals = np.where(counts, answers - _sigmoid(self._rows @ found), 0.0)
            found += self._inverse @ (self._rows.T @ residuals - self._penalty * found)
        return found


def scores(coefficients: Numbers, rows: Numbers) -> Numbers:
    """Return the log odds of the rows."""
    return _with_intercept(rows) @ coefficients


def _with_intercept(rows: Numbers) -> Numbers:
    return np.column_stack([rows, np.ones(len(rows))])


def _sigmoid(values: Numbers) -> Numbers:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -500, 500)))
