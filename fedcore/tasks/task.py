"""What a task must offer, and how it is found: by the entry points of group `fedpact.tasks`."""

from functools import cache
from importlib.metadata import entry_points
from typing import Protocol

import torch
from torch import Tensor, nn

from fedcore.errors import NotFoundError
from fedcore.plans import ModelSpec, TaskSpec
from fedcore.weights import Shapes, Weights


class Task(Protocol):
    """A kind of model that units can train together."""

    @property
    def spec(self) -> TaskSpec:
        """What governance may know of the task."""

    def build(self, model: ModelSpec, inputs: int) -> nn.Module:
        """Return the float64 module for so many inputs; its weights mean nothing yet."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return one loss for each example, shape (n,).

        May be an object that has `slopes` as well: of the same arguments, the gradient of each
        loss at its example's outputs, of their shape, which else autograd is asked for.
        """

    def scores(self, outputs: Tensor) -> Tensor:
        """Return one score in [0, 1] for each example, shape (n,)."""


@cache
def load_task(name: str) -> Task:
    """Return the installed task of this name. Raises: NotFoundError `task.unknown`."""
    found = entry_points(group="fedpact.tasks", name=name)
    if not found:
        raise NotFoundError("task.unknown", f"no task named {name} is installed here")
    task: Task = next(iter(found)).load()
    return task


def initial_weights(task: Task, model: ModelSpec, inputs: int) -> Weights:
    """Return the public weights that a run starts from.

    Guarantees: a function of its arguments only. Biases and the output layer are zero; hidden
        layers are uniform in +-1/sqrt(fan in), from a generator with a fixed public seed.
    """
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}
    layers = list(task.build(model, inputs).named_parameters())
    for name, value in layers:
        is_output = value.ndim == 1 or value.shape[0] == 1
        bound = 0.0 if is_output else value.shape[1] ** -0.5
        draw = torch.rand(value.shape, generator=generator, dtype=torch.float64)
        weights[name] = (2 * draw - 1) * bound
    return {name: value.numpy() for name, value in weights.items()}


def shapes_of(module: nn.Module) -> Shapes:
    """Return the names and shapes of a module's parameters."""
    return {name: tuple(value.shape) for name, value in module.named_parameters()}


def load_into(module: nn.Module, weights: Weights) -> None:
    """Copy the weights into the module's parameters; names and shapes must be the same."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(torch.from_numpy(weights[name]))
