"""A unit's answer in a check of early stopping: is the model better than the best one before?

Guarantees: what is returned depends on customers only through sums, one for each local step of the
    plan, over a Poisson sample of those set aside, of each one's loss under the compared model less
    that under the ordered one. A customer's part is a whole number of millionths between -1 and 1,
    whatever the weights, zero where the losses are no numbers, and is the same whoever else is
    read. Each sum gets Gaussian noise of the plan's noise multiplier. So one check is the mechanism
    that a round of training is, with one number in the gradient's place, and costs as much.

The loss is the one that the plan trains by, of several rows of a customer their mean.
"""

import numpy as np
from torch import Tensor, nn

from clients.data import Examples
from clients.measuring import Numbers, mean_of, measured, of_customers
from clients.training import losses_of_rows, targets_of
from fedcore.plans import TrainingPlan
from fedcore.privacy.noise import KeyStream
from fedcore.rounds import GAIN_SCALE, LARGEST_GAIN
from fedcore.tasks.task import Task
from fedcore.weights import Weights


def check_locally(
    task: Task,
    plan: TrainingPlan,
    models: tuple[Weights, Weights],
    examples: Examples,
    streams: tuple[KeyStream, KeyStream],
) -> int:
    """Return by how many millionths the losses are smaller, in all, estimated with the noise.

    Args:
        models: the one that is compared with, and the ordered one.
        streams: those of the noise and of the sampling.
    Raises: InvalidRecordError `privacy.examples_mixed` on a machine that rounds a row by its place
        in a batch.
    """
    (noise, sampling), terms = streams, plan.privacy
    before, after = (_losses(task, plan, weights, examples) for weights in models)
    gains, total = bounded_gains(before, after), 0.0
    for _ in range(terms.local_steps):
        picked = sampling.below(len(gains), terms.sampling_rate)
        draw = float(noise.normals(1)[0])
        total += int(gains[picked].sum()) + terms.noise_multiplier * GAIN_SCALE * draw
    mean = round(total / (terms.local_steps * terms.sampling_rate))
    return min(max(mean, -LARGEST_GAIN), LARGEST_GAIN)


def bounded_gains(before: Numbers, after: Numbers) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return what each customer's losses count, in millionths: integers, so that their sum is
    exact.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        gains = np.nan_to_num(before - after, nan=0.0)
    return np.rint(np.clip(gains, -1.0, 1.0) * GAIN_SCALE).astype(np.int64)


def _losses(task: Task, plan: TrainingPlan, weights: Weights, examples: Examples) -> Numbers:
    """Return the loss of each customer, shape (customers,)."""
    targets = targets_of(plan, examples)
    wide = targets if targets.ndim > 1 else targets[:, None]
    inputs, losses = examples.features.shape[1], losses_of_rows(task, plan)

    def measure(module: nn.Module, rows: Tensor) -> Tensor:
        return losses(module(rows[:, :inputs]), rows[:, inputs:].squeeze(1))

    rows = np.concatenate([examples.features, wide], axis=1)
    found = measured(measure, lambda: task.build(plan.model, inputs), weights, rows)
    return of_customers(examples, found, mean_of)
