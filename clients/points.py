"""What a customer is where a model has no label: one point among the inputs.

Guarantees: a customer's point is a function of that customer's rows, to the last bit, whoever the
    others are.
"""

import numpy as np
from numpy.typing import NDArray

from clients.data import Examples


def points_of(examples: Examples) -> NDArray[np.float64]:
    """Return one point for each customer, shape (customers, inputs): the mean of the rows.

    Where all inputs lie in [-1, 1] so do the points.
    """
    if examples.counts is None:
        return examples.features
    counts = examples.counts
    first = counts.cumsum() - counts
    total = np.zeros((len(counts), examples.features.shape[1]))
    # Row by row of a customer: a sum whose order the others decide would round by them.
    for place in range(examples.most):
        has = counts > place
        total[has] += examples.features[first[has] + place]
    return np.clip(total / counts[:, None], -1.0, 1.0)
