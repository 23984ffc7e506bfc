"""Federated averaging as two pure steps on a frozen state.

Reference: McMahan et al. (2017), arXiv 1602.05629; server momentum: Hsu et al. (2019), arXiv
    1909.06335.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedcore.plans import TrainingPlan
from fedcore.weights import Weights


@dataclass(frozen=True)
class Aggregate:
    """The model, the server's momentum, and the sum of the late models that the release
    averages.
    """

    model: Weights
    momentum: Weights
    late_sum: Weights


def start(model: Weights) -> Aggregate:
    """Return the state before the first round."""
    zeros = {name: np.zeros_like(array) for name, array in model.items()}
    return Aggregate(model=model, momentum=zeros, late_sum=zeros)


def apply_round(
    state: Aggregate, plan: TrainingPlan, round_: int, updates: Mapping[str, Weights]
) -> Aggregate:
    """Return the state after a round.

    Each unit's update counts by its public size over the sum of those of the accepted units.
    Weights are kept within the plan's `max_abs_weight`, which nodes insist on.
    """
    total = sum(plan.public_n(unit) for unit in updates)
    momentum, model, late_sum = {}, {}, {}
    is_late = round_ > plan.rounds - plan.algorithm.average_last
    for name, before in state.model.items():
        mean = sum(
            (
                plan.public_n(unit) / total * update[name]
                for unit, update in sorted(updates.items())
            ),
            start=np.zeros_like(before),
        )
        momentum[name] = plan.algorithm.server_momentum * state.momentum[name] + mean
        model[name] = np.clip(before + momentum[name], -plan.max_abs_weight, plan.max_abs_weight)
        late_sum[name] = state.late_sum[name] + model[name] if is_late else state.late_sum[name]
    return Aggregate(model=model, momentum=momentum, late_sum=late_sum)


def release(state: Aggregate, plan: TrainingPlan) -> Weights:
    """Return the model that the run hands over: the mean of the last rounds' models."""
    count = plan.algorithm.average_last
    return {name: array / count for name, array in state.late_sum.items()}
