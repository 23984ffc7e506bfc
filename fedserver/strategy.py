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
    """The model, the server's momentum, and the weighted sum of the models that the release
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
    kept, added = _averaging(plan, round_)
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
        late_sum[name] = kept * state.late_sum[name] + added * model[name]
    return Aggregate(model=model, momentum=momentum, late_sum=late_sum)


def release(state: Aggregate, plan: TrainingPlan) -> Weights:
    """Return the model that the run hands over: the mean of the last rounds' models, or with
    `average_decay` that of all rounds' models, whose weights are brought to a sum of one.

    Reference: Kingma & Ba (2015), arXiv 1412.6980, section 3, for the sum of the weights.
    """
    decay = plan.algorithm.average_decay
    total = plan.algorithm.average_last if decay is None else 1.0 - decay**plan.rounds
    return {name: array / total for name, array in state.late_sum.items()}


def _averaging(plan: TrainingPlan, round_: int) -> tuple[float, float]:
    """Return what a round's sum of models keeps of the one before, and adds of its own model."""
    decay = plan.algorithm.average_decay
    if decay is not None:
        return decay, 1.0 - decay
    return 1.0, float(round_ > plan.rounds - plan.algorithm.average_last)
