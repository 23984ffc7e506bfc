"""Of which group of a sensitive attribute each customer is: one answer for audits and for training.

Guarantees: a customer's group depends on its own rows only. What is returned stays at the unit.
"""

import numpy as np

from clients.data import Examples
from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import SensitiveAttribute


def groups_of(examples: Examples, attribute: SensitiveAttribute) -> list[str]:
    """Return the group of each customer; of several rows of a customer the first one tells.

    A group may be none of the attribute's: of whoever has an empty cell, or one that is not named.
    Raises: InvalidRecordError `fairness.table_invalid` when the field was not read.
    """
    if examples.groups is None or attribute.name not in examples.groups.columns:
        raise InvalidRecordError("fairness.table_invalid", "the fields of groups were not read")
    cells = examples.groups[attribute.name]
    if examples.counts is not None:
        # The first row of each customer, by how many rows are before it.
        cells = cells[(np.cumsum(examples.counts) - examples.counts).tolist()]
    return [attribute.group_of(cell) for cell in cells]
