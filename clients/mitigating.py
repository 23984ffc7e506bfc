"""What a plan's mitigation does to the losses of a unit's examples, before they are clipped.

Each row's label comes with two numbers: what its loss is multiplied by, and what its logit is
multiplied by and added. Both are constants of the plan, picked by the customer's own group and
label.

Guarantees: a customer's part in a step depends on its own rows and on the plan only, and is clipped
    as any other. No group is an input of the model, none is in what is returned but by these two
    numbers.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clients.attributes import groups_of
from clients.data import Examples
from clients.padding import Losses
from fedcore.mitigation import AnyMitigation


def mitigated_labels(examples: Examples, mitigation: AnyMitigation) -> NDArray[np.float64]:
    """Return label, weight and pull of each row, shape (rows, 3), for `Mitigated`.

    Raises: InvalidRecordError `fairness.table_invalid` when the groups' field was not read.
    """
    groups = groups_of(examples, mitigation.attribute)
    terms = {
        group: (
            mitigation.weight(group, positive=True),
            mitigation.weight(group, positive=False),
            mitigation.pull(group),
        )
        for group in set(groups)
    }
    of_customers = np.array([terms[group] for group in groups]).reshape(-1, 3)
    of_rows = of_customers
    if examples.counts is not None:
        of_rows = np.repeat(of_customers, examples.counts, axis=0)
    weights = np.where(examples.labels > 0, of_rows[:, 0], of_rows[:, 1])
    return np.stack([examples.labels, weights, of_rows[:, 2]], axis=1)


class Mitigated:
    """Losses of logits (n, 1) and `mitigated_labels`, and their slopes if they have any."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each example's loss, shape (n,): weight * loss + pull * logit."""
        labels, weights, pulls = targets.unbind(dim=-1)
        return self._losses(outputs, labels) * weights + pulls * outputs.squeeze(1)

    def slopes(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Return each loss's derivative at its logit, (n, 1), or None where it is not known."""
        known = getattr(self._losses, "slopes", None)
        labels, weights, pulls = targets.unbind(dim=-1)
        found = None if known is None else known(outputs, labels)
        return None if found is None else found * weights[:, None] + pulls[:, None]
