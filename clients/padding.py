"""Customers with several rows as a step takes them: all with the same number of rows.

Guarantees: how many rows a customer has is in no shape, as all are padded to the contract's most;
    a padding row adds exactly zero to its customer's loss and gradient. It is the customer's last
    row again, with a share of zero, so that whatever the weights are, it is no number only where
    that row is none.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Losses = Callable[[Tensor, Tensor], Tensor]


class ByCustomer(Protocol):
    """What a step picks customers from: a tensor (customers, ...), or what acts like one."""

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Return those at these places, along the first axis."""


class PaddedRows:
    """The rows of customers, as a tensor (customers, most, ...) would hold them."""

    def __init__(self, rows: Tensor, counts: Tensor, most: int) -> None:
        """Take rows (rows, ...), a customer's beside each other, and how many each has."""
        self._rows, self._counts = rows, counts
        self._first = self._counts.cumsum(0) - self._counts
        self._places = torch.arange(most)

    def index_select(self, _dim: int, customers: Tensor) -> Tensor:
        """Return the rows of these customers, shape (len(customers), most, ...)."""
        places = torch.minimum(self._places, self._counts[customers][:, None] - 1)
        return self._rows[self._first[customers][:, None] + places]


class PaddedTargets(PaddedRows):
    """Labels, one or more of each row, and what each row counts in its customer's mean, which is
    the last: (customers, most, 1 + labels).
    """

    def index_select(self, dim: int, customers: Tensor) -> Tensor:
        """Return labels and shares; those of padding are zero."""
        labels, counts = super().index_select(dim, customers), self._counts[customers][:, None]
        shares = (self._places < counts) / counts.to(labels.dtype)
        wide = labels if labels.ndim > 2 else labels[..., None]
        return torch.cat([wide, shares[..., None]], dim=-1)


def mean_of_rows(losses: Losses) -> Losses:
    """Return one loss for each customer, the mean over the rows, from losses of single rows.

    What is returned takes outputs (customers, most, ...) and `PaddedTargets`.
    """

    def means(outputs: Tensor, targets: Tensor) -> Tensor:
        labels, shares = targets[..., :-1].flatten(0, 1), targets[..., -1]
        found = losses(outputs.flatten(0, 1), labels.squeeze(1))
        return (found.view_as(shares) * shares).sum(dim=1)

    return means
