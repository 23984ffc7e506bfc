"""Public constants of a mitigation, from the noised table of an audit: no row is read for them.

What comes out is a function of numbers that were released and charged, so that it may stand in a
plan for everybody to see.
"""

from dataclasses import dataclass

import numpy as np

from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_tables import GroupTable, NoisedCount
from fedcore.fairness_terms import FairnessTerms
from fedcore.mitigation import (
    LARGEST_STRENGTH,
    CovariancePenalty,
    GroupPenalty,
    GroupWeight,
    Reweighing,
)
from fedcore.noised_rates import count_bounds

_DIGITS = 4
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-3, 1e3


@dataclass(frozen=True)
class Weighed:
    """Weights, and the groups that have too few people for any by the noised counts."""

    reweighing: Reweighing
    left_out: tuple[str, ...]


def weights_of(table: GroupTable, terms: FairnessTerms, attribute: str) -> Weighed:
    """Return the weights under which label and group would be independent: of a group and a label,
    how many there would be then, over how many there are.

    Guarantees: a function of the noised table. A group that has not surely `minimum_size` people
        with the label, and as many without, is left out of all sums, and has no weight: it would be
        noise for the greater part.
    Raises: InvalidRecordError `fairness.unknown_group`, `fairness.too_few_to_weigh` when less than
        two groups are left.
    Reference: Kamiran and Calders (2012), Knowledge and Information Systems 33, section 4.3.
    """
    groups = table.layout.groups_of(attribute)
    counts = {group: _by_label(table, attribute, group) for group in groups}
    kept = [group for group in groups if all(_is_enough(table, terms, n) for n in counts[group])]
    if len(kept) < 2:
        raise InvalidRecordError(
            "fairness.too_few_to_weigh",
            f"fewer than two groups of {attribute!r} surely have {terms.minimum_size} people with "
            "the label and as many without: count more customers, or take a larger epsilon",
        )
    numbers = np.array([[count.value for count in counts[group]] for group in kept], dtype=float)
    expected = numbers.sum(axis=1, keepdims=True) * numbers.sum(axis=0) / numbers.sum()
    weights = np.clip(expected / numbers, _LEAST_WEIGHT, _MOST_WEIGHT)
    found = tuple(
        GroupWeight(group=group, positive=positive, weight=_rounded(weights[row, int(positive)]))
        for row, group in enumerate(kept)
        for positive in (False, True)
    )
    reweighing = Reweighing(kind="reweighing", attribute=_plain(table, attribute), weights=found)
    return Weighed(reweighing, tuple(group for group in groups if group not in kept))


def penalty_of(table: GroupTable, attribute: str, group: str, strength: float) -> CovariancePenalty:
    """Return the penalty on one group's covariance with the logit, with its share of the table.

    Guarantees: a function of the noised table.
    Raises: InvalidRecordError `fairness.unknown_group`, `fairness.too_few_to_weigh` when the noised
        counts give no share within 0 and 1; `fairness.strength_invalid`.
    """
    if not abs(strength) <= LARGEST_STRENGTH:  # what is no number is not refused by `>`
        raise InvalidRecordError(
            "fairness.strength_invalid",
            f"--strength: a penalty is a number from -{LARGEST_STRENGTH} to {LARGEST_STRENGTH}; "
            "give one between them, as in 0.5",
        )
    cells = table.layout.cells_where({attribute: [group]})
    outcomes = np.ones((table.layout.bands, 2), dtype=np.bool_)
    people = table.count(cells, outcomes).value
    everybody = table.count(np.ones_like(cells), outcomes).value
    share = _rounded(people / everybody) if everybody > 0 else 0.0
    if not 0 < share < 1:
        raise InvalidRecordError(
            "fairness.too_few_to_weigh", f"the noise hides how many people are of {group!r}"
        )
    penalty = GroupPenalty(group=group, share=share, strength=strength)
    return CovariancePenalty(
        kind="covariance", attribute=_plain(table, attribute), penalties=(penalty,)
    )


def _by_label(table: GroupTable, attribute: str, group: str) -> tuple[NoisedCount, NoisedCount]:
    """Return how many of a group have no label, and how many have it."""
    cells = table.layout.cells_where({attribute: [group]})
    positive = np.tile(np.array([False, True]), (table.layout.bands, 1))
    return table.count(cells, ~positive), table.count(cells, positive)


def _is_enough(table: GroupTable, terms: FairnessTerms, count: NoisedCount) -> bool:
    return count_bounds(count, table.epsilon, terms.alpha).low >= terms.minimum_size


def _plain(table: GroupTable, name: str) -> SensitiveAttribute:
    """Return an attribute of the table; why it may be used is said in the DPIA, and only there."""
    (found,) = (each for each in table.layout.attributes if each.name == name)
    return found.model_copy(update={"special_condition": None})


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
