"""What a task must offer, and how it is found: by the entry points of group `fedpact.tasks`."""

from functools import cache
from importlib.metadata import entry_points
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fedcore.errors import MismatchError, NotFoundError
from fedcore.plans import ModelSpec, TrainingPlan
from fedcore.record import Name, Part
from fedcore.segments.placements import SUMS, decode_placement, placement_of, weights_of
from fedcore.segments.placing import whole_placement
from fedcore.weights import Shapes, Weights, decode_weights


class TaskSpec(Part):
    """What is known of a task without its code."""

    name: Name
    label: Literal["binary", "none"]
    models: tuple[Literal["logistic", "mlp", "centres", "autoencoder"], ...]


class Task(Protocol):
    """A kind of model that units can make together."""

    @property
    def spec(self) -> TaskSpec:
        """What governance may know of the task."""

    def build(self, model: ModelSpec, inputs: int) -> nn.Module:
        """Return the float64 module for so many inputs; its weights mean nothing yet.

        Raises: MismatchError `plan.model_unfit` for a kind of model that is not trained by steps.
        """

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return one loss for each example, shape (n,).

        Labels are, of a task that has none, the inputs themselves, (n, inputs). May be an object
        that has `slopes` as well: of the same arguments, the gradient of each loss at its example's
        outputs, of their shape, which else autograd is asked for.
        """


@runtime_checkable
class Scorer(Task, Protocol):
    """A task with a label, whose models say how likely it is."""

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


def load_scorer(name: str) -> Scorer:
    """Return the installed task of this name, whose models score customers.

    Raises: NotFoundError `task.unknown`; MismatchError `task.not_scored`.
    """
    task = load_task(name)
    if not isinstance(task, Scorer):
        raise MismatchError("task.not_scored", f"models of task {name} score nobody")
    return task


def first_model(task: str, model: ModelSpec, inputs: int) -> Weights:
    """Return the public model that a run starts from: weights, or a placement of centres.

    Guarantees: a function of its arguments only.
    Raises: NotFoundError `task.unknown`; MismatchError `plan.model_unfit`.
    """
    _verify_model(task, model)
    if model.course is not None:
        return weights_of(whole_placement(model.course.dimensions(inputs)))
    return initial_weights(load_task(task), model, inputs)


def decode_model(plan: TrainingPlan, inputs: int, data: bytes) -> Weights:
    """Return the model of a round, after it was held against the plan.

    Guarantees: of what is trained, as `decode_weights`; of centres, a `Placement` whose number of
        centres is not above the course's, whatever it was in the round before.
    Raises: InvalidRecordError as `decode_weights` and `decode_placement`; NotFoundError
        `task.unknown`; MismatchError `plan.model_unfit`.
    """
    _verify_model(plan.task, plan.model)
    course = plan.model.course
    if course is not None:
        return weights_of(decode_placement(data, course.dimensions(inputs), course.spread))
    shapes = shapes_of(load_task(plan.task).build(plan.model, inputs))
    return decode_weights(data, shapes, plan.max_abs_weight)


def update_shapes(plan: TrainingPlan, model: Weights) -> Shapes:
    """Return the names and shapes of what a unit sends in a round that began with this model."""
    if plan.model.course is None:
        return {name: array.shape for name, array in model.items()}
    return {SUMS: (placement_of(model).release_length,)}


def _verify_model(task: str, model: ModelSpec) -> None:
    if model.kind not in load_task(task).spec.models:
        raise MismatchError("plan.model_unfit", f"task {task} has no models of kind {model.kind}")


def initial_weights(task: Task, model: ModelSpec, inputs: int) -> Weights:
    """Return the public weights that a run starts from.

    Guarantees: a function of its arguments only. Biases and layers of one output are zero; others
        are uniform in +-1/sqrt(fan in), from a generator with a fixed public seed.
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
