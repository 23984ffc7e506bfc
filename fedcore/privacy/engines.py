"""How each example's part of a sum is found: from books where a module allows it, else by hooks.

Guarantees: whichever engine it is, a step is that of `BoundedSumOptimizer`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from opacus import GradSampleModule
from torch import Tensor, nn

from fedcore.privacy.bookkeeping import Books, is_supported
from fedcore.privacy.mechanisms import BookKeepingOptimizer, BoundedSumOptimizer
from fedcore.privacy.noise import KeyStream

Losses = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Terms:
    """What a private step is made of; all but the noise are public constants.

    `divisor`: what the noised sum is divided by.
    """

    learning_rate: float
    noise_multiplier: float
    l2_clip_norm: float
    divisor: float
    noise: KeyStream


class Engine(Protocol):
    """One module with its optimiser, and how a batch goes backward."""

    @property
    def optimizer(self) -> BoundedSumOptimizer:
        """What steps, after a batch went backward."""

    def backward(self, inputs: Tensor, losses: Losses, count: int) -> None:
        """Run a batch forward and backward; examples after the first `count` are padding.

        `losses` gives one loss for each row of the module's outputs.
        """


class BookKeeping:
    """Needs `is_supported`; costs little more than a step without privacy."""

    def __init__(self, module: nn.Module, terms: Terms) -> None:
        self._module, self._books = module, Books(module)
        self.optimizer: BoundedSumOptimizer = BookKeepingOptimizer(
            _sgd(module, terms), self._books, **_privately(terms)
        )

    def backward(self, inputs: Tensor, losses: Losses, count: int) -> None:
        """Fill the books."""
        self._books.backward(losses(self._module(inputs)), count)


class PerExample:
    """Opacus' hooks: any module whose examples do not depend on each other, and much slower."""

    def __init__(self, module: nn.Module, terms: Terms) -> None:
        self._model = GradSampleModule(module, loss_reduction="sum")
        self.optimizer = BoundedSumOptimizer(_sgd(module, terms), **_privately(terms))

    def backward(self, inputs: Tensor, losses: Losses, count: int) -> None:
        """Leave each example's gradient in its parameter."""
        # The hooks want an input that asks for gradients.
        asking = inputs.requires_grad_() if inputs.is_floating_point() else inputs
        losses(self._model(asking)).sum().backward()  # type: ignore[no-untyped-call]
        for parameter in self._model.parameters():
            vars(parameter)["grad_sample"] = vars(parameter)["grad_sample"][:count]


def engine_for(module: nn.Module, terms: Terms) -> Engine:
    """Return the fastest engine that the module allows."""
    return BookKeeping(module, terms) if is_supported(module) else PerExample(module, terms)


def _sgd(module: nn.Module, terms: Terms) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=terms.learning_rate)


def _privately(terms: Terms) -> dict[str, Any]:
    return {
        "noise_multiplier": terms.noise_multiplier,
        "max_grad_norm": terms.l2_clip_norm,
        "expected_batch_size": terms.divisor,
        "noise": terms.noise,
    }
