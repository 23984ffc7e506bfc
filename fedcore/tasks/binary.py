"""Models of a binary label over a horizon: one logit from encoded features."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, float64, nn, sigmoid

from fedcore.plans import ModelSpec
from fedcore.tasks.task import TaskSpec


class LogLosses:
    """Log losses (natural logarithm) of logits, (n, 1), and labels, (n,)."""

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return each example's loss, shape (n,)."""
        return nn.functional.binary_cross_entropy_with_logits(
            outputs.squeeze(1), labels, reduction="none"
        )

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return each loss's derivative at its logit, (n, 1): autograd's to the last bit."""
        return (sigmoid(outputs.squeeze(1)) - labels)[:, None]


@dataclass(frozen=True)
class BinaryTask:
    """A task with a binary label; `logistic` is one linear layer, `mlp` has tanh hidden layers.

    Tanh keeps activations bounded, whatever the weights.
    """

    spec: TaskSpec
    losses: ClassVar[LogLosses] = LogLosses()

    def build(self, model: ModelSpec, inputs: int) -> nn.Module:
        """Return the float64 module: (n, inputs) to logits of shape (n, 1)."""
        layers: list[nn.Module] = []
        width = inputs
        for hidden in model.hidden:
            layers += [nn.Linear(width, hidden, dtype=float64), nn.Tanh()]
            width = hidden
        layers.append(nn.Linear(width, 1, dtype=float64))
        return nn.Sequential(*layers)

    def scores(self, outputs: Tensor) -> Tensor:
        """Return each example's probability of the positive label, shape (n,)."""
        return sigmoid(outputs.squeeze(1))
