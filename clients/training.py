"""Local differentially private training: Poisson sampling, clipped sums, noise, a public divisor.

Guarantees: what is returned depends on customers only through clipped sums with Gaussian noise,
    one for each local step, an empty batch included; rate, number of steps and divisor are
    constants of the plan. With one noise stream and full batches, removing one customer moves a
    single step's update by at most learning rate * clip / (rate * public_n).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from torch import Tensor, nn

from clients.data import Examples
from fedcore.plans import TrainingPlan
from fedcore.privacy.mechanisms import BoundedSumOptimizer
from fedcore.privacy.noise import KeyStream
from fedcore.tasks.task import Task, load_into
from fedcore.weights import Weights


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
        optimizer.zero_grad()
        _backward(task, model, features[picked], labels[picked])
        optimizer.step()
    after = {name: value.detach().numpy() for name, value in module.named_parameters()}
    return {name: after[name] - weights[name] for name in weights}


def _optimizer(
    model: nn.Module, plan: TrainingPlan, public_n: int, noise: KeyStream
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


def _backward(task: Task, model: nn.Module, features: Tensor, labels: Tensor) -> None:
    if len(labels) == 0:
        for parameter in model.parameters():
            vars(parameter)["grad_sample"] = parameter.new_zeros((0, *parameter.shape))
        return
    # Opacus' hooks want an input that asks for gradients.
    outputs = model(features.requires_grad_())
    task.losses(outputs, labels).sum().backward()  # type: ignore[no-untyped-call]
