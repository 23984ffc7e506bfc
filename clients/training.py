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

import os

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from torch import Tensor

from clients.data import Examples
from fedcore.plans import TrainingPlan
from fedcore.privacy.mechanisms import BoundedSumOptimizer
from fedcore.privacy.noise import KeyStream
from fedcore.tasks.task import Task, load_into
from fedcore.weights import Weights

BATCH_ROWS = 256
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
    model = GradSampleModule(module, loss_reduction="sum")
    optimizer = _optimizer(model, plan, public_n, noise)
    features, labels = torch.from_numpy(examples.features), torch.from_numpy(examples.labels)
    for _ in range(plan.privacy.local_steps):
        picked = _poisson_sample(len(labels), plan.privacy.sampling_rate, sampling)
        batches = torch.split(picked, BATCH_ROWS)
        for batch in batches:
            optimizer.zero_grad()
            _backward(task, model, features[batch], labels[batch])
            optimizer.signal_skip_step(do_skip=batch is not batches[-1])
            optimizer.step()
    after = {name: value.detach().numpy() for name, value in module.named_parameters()}
    return {name: after[name] - weights[name] for name in weights}


def _optimizer(
    model: GradSampleModule, plan: TrainingPlan, public_n: int, noise: KeyStream
) -> BoundedSumOptimizer:
    terms = plan.privacy
    return BoundedSumOptimizer(
        torch.optim.SGD(model.parameters(), lr=plan.algorithm.local_learning_rate),
        noise_multiplier=terms.noise_multiplier,
        max_grad_norm=terms.l2_clip_norm,
        expected_batch_size=terms.sampling_rate * public_n,
        noise=noise,
    )


def _poisson_sample(count: int, rate: float, stream: KeyStream) -> Tensor:
    """Return the indices of a Poisson sample: each of `count` examples on its own, at `rate`."""
    return torch.from_numpy(np.flatnonzero(stream.uniforms(count) <= rate))


def _backward(task: Task, model: GradSampleModule, features: Tensor, labels: Tensor) -> None:
    """Leave the gradient of each of at most BATCH_ROWS examples in its parameter."""
    count = len(labels)
    rows = features.new_zeros((BATCH_ROWS, features.shape[1]))
    targets = labels.new_zeros(BATCH_ROWS)
    rows[:count], targets[:count] = features, labels
    # Opacus' hooks want an input that asks for gradients.
    outputs = model(rows.requires_grad_())
    task.losses(outputs, targets).sum().backward()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        vars(parameter)["grad_sample"] = vars(parameter)["grad_sample"][:count]
