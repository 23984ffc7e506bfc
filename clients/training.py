"""Local differentially private training: Poisson sampling, clipped sums, noise, a public divisor.

Guarantees: what is returned depends on customers only through clipped sums with Gaussian noise,
    one for each local step, an empty batch included; rate, number of steps and divisor are
    constants of the plan; an optimiser of the plan sees noised sums only, and keeps nothing from
    one round to the next; a proximal term sees weights only. A customer's loss is the mean over
    the customer's rows, weighed and penalised as the plan says, and is clipped as one; without a
    label it is that of the rows' mean. With one noise stream and full batches, removing one
    customer moves a single step's update by at most
    learning rate * clip / (rate * public_n). A customer's gradient is the same to the last bit
    whoever else is in the sample: a matrix product rounds a row differently in a batch of another
    length, and crafted weights amplify that until one customer's absence moves the gradients of
    others. Hence all batches have one shape, and products are computed in a mode of MKL that
    rounds a row the same wherever it stands in them. Which kernels that takes depends on the
    processor, so that each training tries it out before it reads a weight (ADR 0033).
"""

import math
import os
from dataclasses import replace
from functools import partial

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clients.clustering import customers_of
from clients.data import Examples
from clients.mitigating import Mitigated, mitigated_labels
from clients.padding import ByCustomer, Losses, PaddedRows, PaddedTargets, mean_of_rows
from fedcore.learning_rules import Adam, Momentum
from fedcore.plans import TrainingPlan
from fedcore.privacy.engines import (
    Engine,
    PerExample,
    Terms,
    engine_for,
    require_separate_examples,
)
from fedcore.privacy.noise import KeyStream
from fedcore.tasks.task import Task, load_into
from fedcore.weights import Weights

log = structlog.get_logger("fedpact.node")

# Read by MKL before a process's first product, whatever the operator's environment says. Of the
# modes that keep rows equal the other one, which every processor has, takes three times as long.
_HAS_AVX2 = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
os.environ["MKL_CBWR"] = "AVX2" if _HAS_AVX2 else "COMPATIBLE"
_MULTIPLE = 16


def train_locally(
    task: Task,
    plan: TrainingPlan,
    public_n: int,
    weights: Weights,
    examples: Examples,
    streams: tuple[KeyStream, KeyStream],
) -> dict[str, NDArray[np.float64]]:
    """Return the update: weights after the plan's local steps minus the weights before.

    Args: `streams` are those of the noise and of the sampling, in this order.
    Raises: InvalidRecordError `privacy.examples_mixed` for a model that mixes examples, or on a
        machine that rounds a row by its place in a batch.
    """
    noise, sampling = streams
    examples = _as_seen(task, examples)
    inputs, most = examples.features.shape[1], examples.most
    module = task.build(plan.model, inputs)
    load_into(module, weights)
    engine = engine_for(module, _terms(plan, public_n, noise))
    expected = plan.privacy.sampling_rate * public_n
    rows = batch_rows(expected, max(_MULTIPLE, engine.max_rows // most))
    row = torch.sin(torch.arange(1, most * inputs + 1, dtype=torch.float64))
    one = row if examples.counts is None else row.view(most, inputs)
    require_separate_examples(partial(task.build, plan.model, inputs), one, rows)
    if isinstance(engine, PerExample):
        log.warning("training.slow", reason="a layer of the model is of no kind with a fast engine")
    losses = losses_of_rows(task, plan)
    if examples.counts is not None:
        losses = mean_of_rows(losses)
    data = _by_customer(replace(examples, labels=targets_of(plan, examples)))
    for _ in range(plan.privacy.local_steps):
        picked = poisson_sample(examples.customers, plan.privacy.sampling_rate, sampling)
        take_step(engine, losses, data, picked, rows)
    after = {name: value.detach().numpy() for name, value in module.named_parameters()}
    return {name: after[name] - weights[name] for name in weights}


def take_step(
    engine: Engine,
    losses: Losses,
    data: tuple[ByCustomer, ByCustomer],
    picked: Tensor,
    rows: int,
) -> None:
    """Take one step with the picked examples, in batches of so many; none is a batch as well.

    Args: `losses` gives one loss for each example of outputs and labels, and may have `slopes`;
        `data` are features and labels.
    """
    features, labels = data
    optimizer = engine.optimizer
    count = len(picked)
    for start in range(0, max(count, 1), rows):
        batch = picked[start : start + rows]
        optimizer.zero_grad(set_to_none=True)
        against = _Against(losses, filled_up(labels.index_select(0, batch), rows))
        engine.backward(filled_up(features.index_select(0, batch), rows), against, len(batch))
        optimizer.signal_skip_step(do_skip=start + rows < count)
        optimizer.step()


def filled_up(values: Tensor, rows: int) -> Tensor:
    """Return the values with rows of zeros below them: so many in all."""
    return nn.functional.pad(values, (0, 0) * (values.ndim - 1) + (0, rows - len(values)))


def _as_seen(task: Task, examples: Examples) -> Examples:
    """Return the examples as they are, or of a task without a label points that stand for it."""
    if task.spec.label != "none":
        return examples
    points = customers_of(examples)
    return Examples(points, points)


def targets_of(plan: TrainingPlan, examples: Examples) -> NDArray[np.float64]:
    """Return what `losses_of_rows` takes of each row: its label, shape (rows,), or with a
    mitigation what that makes of it, shape (rows, 3).
    """
    if plan.mitigation is None:
        return examples.labels
    return mitigated_labels(examples, plan.mitigation)


def _by_customer(examples: Examples) -> tuple[ByCustomer, ByCustomer]:
    features, labels = map(torch.from_numpy, (examples.features, examples.labels))
    if examples.counts is None:
        return features, labels
    counts = torch.from_numpy(examples.counts)
    return (
        PaddedRows(features, counts, examples.most),
        PaddedTargets(labels, counts, examples.most),
    )


def batch_rows(expected: float, most: int) -> int:
    """Return the examples of every batch, of samples that have so many on average.

    A public number, so that a batch's shape says nothing: a multiple of 16, at most `most`, of
    which the fewest that most samples fit into waste little.
    """
    likely = expected + 2 * math.sqrt(expected)
    return _MULTIPLE * math.ceil(likely / math.ceil(likely / most) / _MULTIPLE)


def losses_of_rows(task: Task, plan: TrainingPlan) -> Losses:
    """Return the losses that the plan trains by, of outputs and `targets_of` rows."""
    weighted = _weighted(task, plan.averaging.positive_weight)
    return weighted if plan.mitigation is None else Mitigated(weighted)


def _weighted(task: Task, weight: float | None) -> Losses:
    """Return the task's losses, those of positive labels times the plan's public weight."""
    if weight is None:
        return task.losses
    return _Weighted(task.losses, weight)


def _terms(plan: TrainingPlan, public_n: int, noise: KeyStream) -> Terms:
    local = plan.averaging.local_optimizer
    return Terms(
        learning_rate=plan.averaging.local_learning_rate,
        noise_multiplier=plan.privacy.noise_multiplier,
        l2_clip_norm=plan.privacy.l2_clip_norm,
        divisor=plan.privacy.sampling_rate * public_n,
        noise=noise,
        momentum=local.momentum if isinstance(local, Momentum) else 0.0,
        adam=(local.beta1, local.beta2, local.stabiliser) if isinstance(local, Adam) else None,
        proximal=plan.averaging.proximal or 0.0,
    )


def poisson_sample(count: int, rate: float, stream: KeyStream) -> Tensor:
    """Return the indices of a Poisson sample: each of `count` examples on its own, at `rate`."""
    return torch.from_numpy(stream.below(count, rate))


class _Weighted:
    """Losses, and their slopes if they have any, those of positive labels times a weight."""

    def __init__(self, losses: Losses, weight: float) -> None:
        self._losses, self._weight = losses, weight

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self._losses(outputs, labels) * self._weights(labels)

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        found = _slopes(self._losses, outputs, labels)
        return None if found is None else found * self._weights(labels)[:, None]

    def _weights(self, labels: Tensor) -> Tensor:
        return torch.where(labels > 0, self._weight, 1.0)


class _Against:
    """Losses, and their slopes if they have any, against the labels of one batch."""

    def __init__(self, losses: Losses, labels: Tensor) -> None:
        self._losses, self._labels = losses, labels

    def __call__(self, outputs: Tensor) -> Tensor:
        return self._losses(outputs, self._labels)

    def slopes(self, outputs: Tensor) -> Tensor | None:
        return _slopes(self._losses, outputs, self._labels)


def _slopes(losses: Losses, outputs: Tensor, labels: Tensor) -> Tensor | None:
    known = getattr(losses, "slopes", None)
    return None if known is None else known(outputs, labels)
