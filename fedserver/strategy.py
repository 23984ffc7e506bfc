"""Federated averaging as two pure steps on a frozen state.

Guarantees: what comes out is a function of plan, state and updates, which are noised already; it
    is the same to the last bit in whichever order they came; no update that `open_answer` lets
    through, of at most 1e300, makes it infinite.
Reference: McMahan et al. (2017), arXiv 1602.05629; server momentum: Hsu et al. (2019), arXiv
    1909.06335; FedAdam: Reddi et al. (2021), arXiv 2003.00295.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedcore.early_stopping import is_better
from fedcore.learning_rules import Algorithm, ServerAdam
from fedcore.plans import TrainingPlan
from fedcore.weights import Weights
from fedserver.aggregation import aggregate


@dataclass(frozen=True)
class Aggregate:
    """The model, the server's momentum, the weighted sum of the models that the release averages,
    and, when the plan says `server_optimizer`, the root of the mean square of the rounds.

    Under early stopping `best` is the best model that a check has shown, empty before there is
    one, and `missed` how many checks since have shown no better one.
    """

    model: Weights
    momentum: Weights
    late_sum: Weights
    root: Weights = field(default_factory=dict)
    best: Weights = field(default_factory=dict)
    missed: int = 0


def start(model: Weights) -> Aggregate:
    """Return the state before the first round."""
    zeros = {name: np.zeros_like(array) for name, array in model.items()}
    return Aggregate(model=model, momentum=zeros, late_sum=zeros)


def apply_round(
    state: Aggregate, plan: TrainingPlan, round_: int, updates: Mapping[str, Weights]
) -> Aggregate:
    """Return the state after a round.

    Weights are kept within the plan's `max_abs_weight`, which nodes insist on.
    """
    moved = _moved(state, plan.averaging, plan.trained_by(round_), aggregate(plan, updates))
    kept, added = _averaging(plan, round_)
    model, late_sum = {}, {}
    for name, before in state.model.items():
        after = before + moved.step[name]
        model[name] = np.clip(after, -plan.max_abs_weight, plan.max_abs_weight)
        late_sum[name] = kept * state.late_sum[name] + added * model[name]
    return replace(state, model=model, momentum=moved.momentum, late_sum=late_sum, root=moved.root)


def apply_check(state: Aggregate, plan: TrainingPlan, gains: Sequence[int]) -> Aggregate:
    """Return the state after a check, in which no model changes."""
    if is_better(plan, gains):
        return replace(state, best=state.model, missed=0)
    return replace(state, missed=state.missed + 1)


def is_over(state: Aggregate, plan: TrainingPlan, round_: int) -> bool:
    """Return whether a run ends with this round, after which it is in this state."""
    stopping = plan.early_stopping
    missed_enough = stopping is not None and state.missed >= stopping.patience
    return round_ == plan.rounds or (plan.is_check(round_) and missed_enough)


def release(state: Aggregate, plan: TrainingPlan, round_: int) -> Weights:
    """Return the model that a run hands over after its last round: the mean of the last rounds'
    models, or with `average_decay` that of all rounds' models, whose weights are brought to a sum
    of one.

    Reference: Kingma & Ba (2015), arXiv 1412.6980, section 3, for the sum of the weights.
    """
    decay = plan.averaging.average_decay
    last = plan.averaging.average_last
    total = last if decay is None else 1.0 - decay ** plan.trained_by(round_)
    return {name: array / total for name, array in state.late_sum.items()}


def _averaging(plan: TrainingPlan, round_: int) -> tuple[float, float]:
    """Return what a round's sum of models keeps of the one before, and adds of its own model."""
    decay = plan.averaging.average_decay
    if decay is not None:
        return decay, 1.0 - decay
    if plan.averaging.average_last == 1:  # of a run that may end early, any round may be the last
        return 0.0, 1.0
    return 1.0, float(round_ > plan.rounds - plan.averaging.average_last)


@dataclass(frozen=True)
class _Moved:
    """A step of the model, and what the next one looks back on."""

    step: Weights
    momentum: Weights
    root: Weights


def _moved(state: Aggregate, algorithm: Algorithm, round_: int, change: Weights) -> _Moved:
    """Return what the server makes of a round's aggregate."""
    if algorithm.server_optimizer is not None:
        return _moved_by_adam(state, algorithm.server_optimizer, round_, change)
    momentum = {
        name: algorithm.server_momentum * state.momentum[name] + array
        for name, array in change.items()
    }
    return _Moved(step=momentum, momentum=momentum, root={})


def _moved_by_adam(state: Aggregate, adam: ServerAdam, round_: int, change: Weights) -> _Moved:
    """Return Adam's step. Roots are kept, not squares: the square of a huge update is infinite."""
    step, momentum, root = {}, {}, {}
    for name, array in change.items():
        before = state.root.get(name, np.zeros_like(array))
        momentum[name] = adam.beta1 * state.momentum[name] + (1 - adam.beta1) * array
        root[name] = np.hypot(math.sqrt(adam.beta2) * before, math.sqrt(1 - adam.beta2) * array)
        mean = momentum[name] / (1 - adam.beta1**round_)
        scale = root[name] / math.sqrt(1 - adam.beta2**round_) + adam.stabiliser
        step[name] = adam.learning_rate * (mean / scale)
    return _Moved(step=step, momentum=momentum, root=root)
