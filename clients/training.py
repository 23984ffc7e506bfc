"""Local differentially private training: Poisson sampling, clipped sums, noise, a public divisor.

Guarantees: what is returned depends on customers only through clipped sums with Gaussian noise,
    one for each local step, an empty batch included; rate, number of steps and divisor are
    constants of the plan. With one noise stream and full batches, removing one customer moves a
    single step's update by at most learning rate * clip / (rate * public_n). A customer's gradient
    is the same to the last bit whoever else is in the sample: a matrix product rounds a row
    differently in a batch of another length, and crafted weights amplify that until one customer's
    absence moves the gradients of others. Hence all batches have one shape, and products are
    computed in the mode of MKL that rounds a row the same wherever it stands in them: which kernels
    it takes otherwise, and whether they do so, depends on the processor.
"""

import math
import os
from functools import partial

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.data import Examples
from fedcore.plans import TrainingPlan
from fedcore.privacy.engines import PerExample, Terms, engine_for
from fedcore.privacy.noise import KeyStream
from fedcore.tasks.task import Task, load_into
from fedcore.weights import Weights

log = structlog.get_logger("fedpact.node")

MAX_BATCH_ROWS = 256
# Read by MKL before a process's first product, whatever the operator's environment says.
os.environ["MKL_CBWR"] = "COMPATIBLE"


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
    """
    noise, sampling = streams
    module = task.build(plan.model, examples.features.shape[1])
    load_into(module, weights)
    engine = engine_for(module, _terms(plan, public_n, noise))
    if isinstance(engine, PerExample):
        log.warning("training.slow", reason="a layer of the model is of no kind with a fast engine")
    optimizer = engine.optimizer
    features, labels = torch.from_numpy(examples.features), torch.from_numpy(examples.labels)
    rows = batch_rows(plan.privacy.sampling_rate * public_n)
    for _ in range(plan.privacy.local_steps):
        picked = _poisson_sample(len(labels), plan.privacy.sampling_rate, sampling)
        batches = torch.split(picked, rows)
        for batch in batches:
            optimizer.zero_grad()
            inputs, targets = _padded(features[batch], rows), _padded(labels[batch], rows)
            engine.backward(inputs, partial(_losses, task, targets), len(batch))
            optimizer.signal_skip_step(do_skip=batch is not batches[-1])
            optimizer.step()
    after = {name: value.detach().numpy() for name, value in module.named_parameters()}
    return {name: after[name] - weights[name] for name in weights}


def batch_rows(expected: float) -> int:
    """Return the rows of every batch, of samples that have so many examples on average.

    A public number, so that a batch's shape says nothing: a multiple of 16 that most samples fit
    into, and at most MAX_BATCH_ROWS; a larger sample is taken in several batches.
    """
    likely = expected + 2 * math.sqrt(expected)
    return min(MAX_BATCH_ROWS, 16 * math.ceil(likely / 16))


def _terms(plan: TrainingPlan, public_n: int, noise: KeyStream) -> Terms:
    return Terms(
        learning_rate=plan.algorithm.local_learning_rate,
        noise_multiplier=plan.privacy.noise_multiplier,
        l2_clip_norm=plan.privacy.l2_clip_norm,
        divisor=plan.privacy.sampling_rate * public_n,
        noise=noise,
    )


def _poisson_sample(count: int, rate: float, stream: KeyStream) -> Tensor:
    """Return the indices of a Poisson sample: each of `count` examples on its own, at `rate`."""
    return torch.from_numpy(np.flatnonzero(stream.uniforms(count) <= rate))


def _losses(task: Task, targets: Tensor, outputs: Tensor) -> Tensor:
    return task.losses(outputs, targets)


def _padded(values: Tensor, rows: int) -> Tensor:
    """Return the values with zeros below them, so that there are so many rows."""
    padded = values.new_zeros((rows, *values.shape[1:]))
    padded[: len(values)] = values
    return padded
