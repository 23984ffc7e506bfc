"""One number for each row of the unit's: a score or a loss, the same whoever else is read.

Guarantees: a row's number is the same to the last bit whichever rows stand beside it: numbers near
    the edge of what is counted would else move others' (ADR 0046). Hence all batches have one
    shape, as in training, and each use tries out that a row's place in them does not matter.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clients.data import Examples
from clients.training import filled_up
from fedcore.errors import InvalidRecordError
from fedcore.tasks.task import load_into
from fedcore.weights import Weights

_BATCH = 1024
Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]
# Of a model and rows (n, width), one number for each row, shape (n,).
Measure = Callable[[nn.Module, Tensor], Tensor]


def measured(
    measure: Measure, build: Callable[[], nn.Module], weights: Weights, rows: Numbers
) -> Numbers:
    """Return a model's number of each row, shape (rows,).

    Raises: InvalidRecordError `privacy.examples_mixed`.
    """
    require_separate_rows(measure, build, rows.shape[1])
    module = build()
    load_into(module, weights)
    found = np.empty(len(rows))
    for start in range(0, len(rows), _BATCH):
        batch = torch.from_numpy(rows[start : start + _BATCH])
        numbers = _measured(measure, module, filled_up(batch, _BATCH))
        found[start : start + len(batch)] = numbers[: len(batch)].numpy()
    return found


def require_separate_rows(measure: Measure, build: Callable[[], nn.Module], width: int) -> None:
    """Refuse a model whose number of a row depends on its place in a batch, or on who else is
    there.

    Guarantees: a function of the model's kind, of public weights and rows whose sums have to be
        rounded, and of this machine's arithmetic.
    Raises: InvalidRecordError `privacy.examples_mixed`.
    """
    module = build()
    with torch.no_grad():
        for parameter in module.parameters():
            waves = torch.sin(torch.arange(1, parameter.numel() + 1, dtype=parameter.dtype))
            parameter.copy_(waves.view_as(parameter))
    row = torch.sin(torch.arange(1, width + 1, dtype=torch.float64))
    same = row.expand(_BATCH, width).clone()
    alone = torch.zeros_like(same)
    alone[0] = row
    beside = same.clone()
    beside[-1] = row.flip(0)
    everywhere = _measured(measure, module, same)
    first = everywhere[:1].expand(_BATCH)
    if not (
        torch.equal(everywhere, first)
        and torch.equal(_measured(measure, module, beside)[:-1], first[:-1])
        and torch.equal(_measured(measure, module, alone)[:1], first[:1])
    ):
        raise InvalidRecordError(
            "privacy.examples_mixed",
            "a row's score depends on the others in its batch, or on its place there",
        )


def of_customers(
    examples: Examples, values: Numbers, one_of: Callable[[Numbers, Counts], Numbers]
) -> Numbers:
    """Return one value for each customer, from those of rows."""
    if examples.counts is None:
        return values
    padded = np.zeros((len(examples.counts), examples.most))
    padded[np.arange(examples.most) < examples.counts[:, None]] = values
    return one_of(padded, examples.counts)


def first_of(padded: Numbers, _counts: Counts) -> Numbers:
    """Return the value of each customer's first row by the contract's rule."""
    return padded[:, 0]


def mean_of(padded: Numbers, counts: Counts) -> Numbers:
    """Return the mean over each customer's rows."""
    # Added up row by row, and not by numpy's sum, whose order is its own affair.
    total = np.zeros(len(padded))
    with np.errstate(over="ignore", invalid="ignore"):  # of losses under whatever weights
        for column in padded.T:
            total = total + column
    return total / counts


def _measured(measure: Measure, module: nn.Module, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return measure(module, rows)
