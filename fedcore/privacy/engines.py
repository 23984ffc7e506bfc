"""How each example's part of a sum is found: from books where a module allows it, else by hooks.

Guarantees: whichever engine it is, a step is that of `BoundedSumOptimizer`; what that asks of its
    caller, gradients of examples that do not depend on each other, is tried out beforehand by
    `require_separate_examples`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from opacus import GradSampleModule
from torch import Tensor, nn

from fedcore.errors import InvalidRecordError
from fedcore.privacy.bookkeeping import Books, is_supported
from fedcore.privacy.dense import Dense, is_plain
from fedcore.privacy.mechanisms import (
    BookKeepingOptimizer,
    BoundedSumOptimizer,
    Descent,
    Stepping,
    joined,
)
from fedcore.privacy.noise import KeyStream

Losses = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Terms:
    """What a private step is made of; all but the noise are public constants.

    `divisor`: what the noised sum is divided by. `momentum`, and instead of it `adam` (two decays
    and what is added to the root), say what becomes of noised sums: it costs no privacy.
    """

    learning_rate: float
    noise_multiplier: float
    l2_clip_norm: float
    divisor: float
    noise: KeyStream
    momentum: float = 0.0
    adam: tuple[float, float, float] | None = None
    proximal: float = 0.0


class Engine(Protocol):
    """One module with its optimiser, and how a batch goes backward.

    `max_rows`: how many rows a batch may have before it costs more than several smaller ones.
    """

    max_rows: int

    @property
    def optimizer(self) -> BoundedSumOptimizer:
        """What steps, after a batch went backward."""

    def backward(self, inputs: Tensor, losses: Losses, count: int) -> None:
        """Run a batch forward and backward; examples after the first `count` are padding.

        `losses` gives one loss for each row of the module's outputs, and may have `slopes`: their
        gradients there, or None where it does not know them.
        """

    def parts(self) -> Tensor:
        """Return all that was found of each example that went backward, shape (count, numbers)."""


class BookKeeping:
    """Needs `is_supported`; costs little more than a step without privacy."""

    max_rows = 1024

    def __init__(self, module: nn.Module, terms: Terms) -> None:
        # Before the books, which put hooks on layers.
        self._dense = Dense(module) if is_plain(module) else None
        self._module, self._books = module, Books(module)
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer: BoundedSumOptimizer = BookKeepingOptimizer(
            _stepping_whole(joined(trained), terms), self._books, trained, **_privately(terms)
        )

    def backward(self, inputs: Tensor, losses: Losses, count: int) -> None:
        """Fill the books."""
        if self._dense and inputs.ndim == 2:
            self._books.take(self._dense.go_through(inputs, losses), count)
        else:
            self._books.backward(losses(self._module(inputs)), count)

    def parts(self) -> Tensor:
        """Return what the books hold, and the norms."""
        return self._books.parts()


class PerExample:
    """Opacus' hooks: any module whose examples do not depend on each other, and much slower.

    Its memory is that of all gradients in a batch: hence small ones, as of Opacus' own
    `BatchMemoryManager`.
    Raises: InvalidRecordError `privacy.examples_mixed` for a trained layer with numbers of its own.
    """

    max_rows = 256

    def __init__(self, module: nn.Module, terms: Terms) -> None:
        try:
            self._model = GradSampleModule(module, loss_reduction="sum")
        except NotImplementedError as error:
            raise InvalidRecordError(
                "privacy.examples_mixed",
                "a layer keeps numbers about the rows that it has seen, as a batch norm does",
            ) from error
        self.optimizer = BoundedSumOptimizer(
            _stepping(list(module.parameters()), terms), **_privately(terms)
        )

    def backward(self, inputs: Tensor, losses: Losses, count: int) -> None:
        """Leave each example's gradient in its parameter."""
        # The hooks want an input that asks for gradients.
        asking = inputs.requires_grad_() if inputs.is_floating_point() else inputs
        losses(self._model(asking)).sum().backward()  # type: ignore[no-untyped-call]
        for parameter in self.optimizer.params:
            found = vars(parameter)["grad_sample"]  # none of a layer that was not used
            unused = found is None
            vars(parameter)["grad_sample"] = (
                parameter.new_zeros((count, *parameter.shape)) if unused else found[:count]
            )

    def parts(self) -> Tensor:
        """Return the gradients."""
        return torch.cat([sample.flatten(1) for sample in self.optimizer.grad_samples], dim=1)


def engine_for(module: nn.Module, terms: Terms) -> Engine:
    """Return the fastest engine that the module allows."""
    return BookKeeping(module, terms) if is_supported(module) else PerExample(module, terms)


def require_separate_examples(build: Callable[[], nn.Module], row: Tensor, rows: int) -> None:
    """Refuse a module in which an example's gradient depends on its place in a batch of so many
    rows, on who else is in it, or on how many are.

    Guarantees: a function of the module's kind, the public `row`, `rows` and this machine's
        arithmetic; weights are public ones whose sums have to be rounded. What is compared is
        compared to the last bit: batches of the same row everywhere, of another one below, and of
        one row above padding.
    Raises: InvalidRecordError `privacy.examples_mixed`.
    """
    same = row.expand(rows, *row.shape).clone()
    other = same.clone()
    other[-1] = row.flip(0)
    all_same, beside = _parts(build(), same, rows), _parts(build(), other, rows)
    alone = _parts(build(), same, 1)
    if not (
        torch.equal(all_same, alone.expand_as(all_same)) and torch.equal(all_same[:-1], beside[:-1])
    ):
        raise InvalidRecordError(
            "privacy.examples_mixed",
            "an example's gradient depends on the others in its batch, or on its place there",
        )


def _parts(module: nn.Module, inputs: Tensor, count: int) -> Tensor:
    with torch.no_grad():
        for parameter in module.parameters():
            waves = torch.sin(torch.arange(1, parameter.numel() + 1, dtype=parameter.dtype))
            parameter.copy_(waves.view_as(parameter))
    engine = engine_for(module, Terms(1.0, 1.0, 1.0, 1.0, KeyStream(bytes(32))))
    engine.backward(inputs, lambda outputs: outputs.flatten(1).square().sum(dim=1), count)
    return engine.parts()


def _stepping_whole(whole: nn.Parameter, terms: Terms) -> Stepping:
    is_plain_descent = terms.adam is None and not terms.momentum and not terms.proximal
    return Descent(whole, terms.learning_rate) if is_plain_descent else _stepping([whole], terms)


def _stepping(parameters: list[nn.Parameter], terms: Terms) -> torch.optim.Optimizer:
    optimizer = _by_torch(parameters, terms)
    if terms.proximal > 0:
        optimizer.register_step_pre_hook(_pull_back(parameters, terms.proximal))
    return optimizer


def _by_torch(parameters: list[nn.Parameter], terms: Terms) -> torch.optim.Optimizer:
    rate = terms.learning_rate
    if terms.adam is None:
        return torch.optim.SGD(parameters, lr=rate, momentum=terms.momentum)
    *betas, stabiliser = terms.adam
    return torch.optim.Adam(parameters, lr=rate, betas=(betas[0], betas[1]), eps=stabiliser)


def _pull_back(parameters: list[nn.Parameter], proximal: float) -> Callable[..., None]:
    """Return what adds the proximal term's gradient to `grad`: after clip, noise and division.

    It depends on the weights alone, which are public at first and noised ever after.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    first = [parameter.detach().clone() for parameter in trained]

    def add(*_: object) -> None:
        for parameter, before in zip(trained, first, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - before, alpha=proximal)

    return add


def _privately(terms: Terms) -> dict[str, Any]:
    return {
        "noise_multiplier": terms.noise_multiplier,
        "max_grad_norm": terms.l2_clip_norm,
        "expected_batch_size": terms.divisor,
        "noise": terms.noise,
    }
