"""One aggregate of the units' updates, as the plan says: their mean, or a rule that a unit which
lies moves little.

Guarantees: for updates of at most 1e300, as `open_answer` lets them through, the aggregate is
    finite, and the same to the last bit in whichever order they came. Of what one unit sends,
    whatever it is: by `norm_bound` it moves the aggregate by at most its share of the cohort's
    public sizes times the bound, in L2 norm; by `median` each coordinate stays among the values of
    the others when fewer than half lie, by `trimmed_mean` when at most `trim` do. The plain mean
    it moves anywhere.
"""

import math
from collections.abc import Mapping

import numpy as np

from fedcore.learning_rules import Median, NormBound, TrimmedMean
from fedcore.plans import TrainingPlan
from fedcore.weights import Shapes, Weights


def aggregate(plan: TrainingPlan, updates: Mapping[str, Weights]) -> Weights:
    """Return the aggregate of at least as many updates as the plan's minimum of units.

    Each unit's update counts by its public size over the sum of those of the accepted units; by
    `median` and `trimmed_mean` every unit counts the same.
    """
    robust = plan.averaging.robust
    in_order = {unit: updates[unit] for unit in sorted(updates)}
    if isinstance(robust, Median):
        return _middle(in_order, trim=(len(updates) - 1) // 2)
    if isinstance(robust, TrimmedMean):
        return _middle(in_order, robust.trim)
    if isinstance(robust, NormBound):
        in_order = {u: _bounded(update, robust.l2_bound) for u, update in in_order.items()}
    return _mean(plan, in_order)


def _mean(plan: TrainingPlan, updates: Mapping[str, Weights]) -> Weights:
    total = sum(plan.public_n(unit) for unit in updates)
    shares = {unit: plan.public_n(unit) / total for unit in updates}
    return {
        name: sum((share * updates[unit][name] for unit, share in shares.items()), np.zeros(shape))
        for name, shape in _shapes(updates).items()
    }


def _middle(updates: Mapping[str, Weights], trim: int) -> Weights:
    """Return each entry's mean over the units, without the `trim` largest and smallest ones.

    The median is what is left after all but one or two were trimmed.
    """
    kept = slice(trim, len(updates) - trim)
    return {
        name: np.sort([update[name] for update in updates.values()], axis=0)[kept].mean(axis=0)
        for name in _shapes(updates)
    }


def _shapes(updates: Mapping[str, Weights]) -> Shapes:
    return {name: array.shape for name, array in next(iter(updates.values())).items()}


def _bounded(update: Weights, l2_bound: float) -> Weights:
    """Return the update, scaled down to the bound if it is longer than that.

    The length is found relative to the largest entry, whose square may be infinite.
    """
    largest = max(float(np.abs(array).max(initial=0.0)) for array in update.values())
    if largest == 0.0:
        return update
    relative = math.sqrt(sum(float(np.square(array / largest).sum()) for array in update.values()))
    factor = min(1.0, l2_bound / largest / relative)
    return {name: array * factor for name, array in update.items()}
