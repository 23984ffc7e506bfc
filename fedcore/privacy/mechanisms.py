"""The one mechanism of private training: clipped sums of per-customer gradients with Gaussian
noise.

Built on Opacus: its `GradSampleModule` gives each example's gradient; `BoundedSumOptimizer`
replaces the three steps of its optimiser that the privacy claim rests on.
Reference: Abadi et al. (2016), arXiv 1607.00133, algorithm 1, with the sum divided by a public
    constant.
"""

import math
from typing import Any, Protocol

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from fedcore.errors import InvalidRecordError
from fedcore.privacy.bookkeeping import Books
from fedcore.privacy.noise import Floats, KeyStream

_SAFETY = 1.0 - 2.0**-20
_MIN_CLIP_NORM = 1e-100
# Below it squares of gradients at outputs lose more digits than `_SAFETY` leaves room for, where
# what a layer was given is so large that its own square is only just finite.
_MIN_PRODUCT_CLIP_NORM = 1e-3


class Stepping(Protocol):
    """What moves parameters by their `grad`: any of torch's optimisers, or `Descent`."""

    param_groups: list[dict[str, Any]]

    def step(self) -> object:
        """Move them."""


class Descent:
    """Gradient descent of one vector without momentum: to the last bit what torch's own does.

    That one looks for hooks, profilers and devices at every step, which costs a tenth of a small
    one.
    """

    def __init__(self, whole: nn.Parameter, rate: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": [whole]}]
        self._whole, self._values, self._rate = whole, whole.detach(), rate

    def step(self) -> None:
        """Move it against its `grad`."""
        if self._whole.grad is not None:
            self._values.add_(self._whole.grad, alpha=-self._rate)


class BoundedSumOptimizer(DPOptimizer):  # type: ignore[misc]
    """An Opacus optimiser whose step is `sum of clipped gradients + noise`, over a public constant.

    Guarantees: with or without any one example, the clipped sum differs by at most `max_grad_norm`
        in L2 norm, whatever the weights and the data: norms are computed in float64, an example
        whose norm is not finite contributes zero, and contributions are scaled to C * (1 - 2**-20)
        to absorb rounding. That holds when an example's gradient does not depend on the others,
        which is the caller's part: batches of one shape. A step may take its sample in several
        batches. Noise of standard deviation `noise_multiplier * max_grad_norm` is added once for
        each step, also to an empty batch. The divisor is `expected_batch_size`, a constant, never
        the batch's length.
    Raises: InvalidRecordError `privacy.clip_norm_invalid` for a clip norm below 1e-100: squares of
        gradients that small would vanish.
    """

    def __init__(
        self,
        optimizer: Stepping,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        noise: KeyStream,
    ) -> None:
        if not max_grad_norm >= _MIN_CLIP_NORM:
            raise InvalidRecordError(
                "privacy.clip_norm_invalid", "the clip norm must be at least 1e-100"
            )
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
        )
        self._noise = noise

    def clip_and_accumulate(self) -> None:
        """Add the clipped sum of the batch to each parameter's `summed_grad`."""
        gradients = [sample.to(torch.float64) for sample in self.grad_samples]
        squares = [_rows(g).square().sum(dim=1) for g in gradients]
        factors = clip_factors(torch.stack(squares).sum(dim=0).sqrt(), self.max_grad_norm)
        for parameter, gradient in zip(self.params, gradients, strict=True):
            total, so_far = bounded_sum(gradient, factors), parameter.summed_grad
            parameter.summed_grad = total if so_far is None else so_far + total

    def add_noise(self) -> None:
        """Put clipped sum plus noise into each parameter's `grad`, from one flat noise vector."""
        scale = self.noise_multiplier * self.max_grad_norm
        sizes = [p.numel() for p in self.params]
        draws = torch.from_numpy(self._noise.normals(sum(sizes), _turn)).mul_(scale)
        pieces = torch.split(draws, sizes)
        for parameter, piece in zip(self.params, pieces, strict=True):
            parameter.grad = (parameter.summed_grad + piece.view_as(parameter)).to(parameter.dtype)

    def scale_grad(self) -> None:
        """Divide each `grad` by the public constant."""
        for parameter in self.params:
            parameter.grad /= self.expected_batch_size


class BookKeepingOptimizer(BoundedSumOptimizer):
    """The same step from the books of a module, without the gradient of any one example.

    Guarantees: as `BoundedSumOptimizer`.
    Args: `optimizer` has one parameter, in which the `trained` ones are `joined`.
    Raises: InvalidRecordError `privacy.clip_norm_invalid` for a clip norm below 1e-3: the norms of
        gradients at outputs that small would lose digits before they are multiplied.
    """

    def __init__(
        self, optimizer: Stepping, books: Books, trained: list[nn.Parameter], **terms: Any
    ) -> None:
        super().__init__(optimizer, **terms)
        if self.max_grad_norm < _MIN_PRODUCT_CLIP_NORM:
            raise InvalidRecordError(
                "privacy.clip_norm_invalid", "the clip norm must be at least 1e-3"
            )
        self._books = books
        (whole,) = self.params
        self._sum, self._noised = torch.zeros_like(whole), torch.zeros_like(whole)
        self._sums = dict(zip(trained, _pieces(self._sum, trained), strict=True))
        whole.grad = self._noised
        for parameter, piece in zip(trained, _pieces(self._noised, trained), strict=True):
            parameter.grad = piece

    @property
    def grad_samples(self) -> list[Tensor]:
        """What Opacus' step asks only whether there is any of."""
        return [self._sum]

    def zero_grad(self, set_to_none: bool = False) -> None:  # noqa: ARG002
        """Begin a step, unless the last one has further batches; no `grad` is ever None."""
        if not self._is_last_step_skipped:
            self._sum.zero_()

    def clip_and_accumulate(self) -> None:
        """Add the clipped sum of the batch in the books to the step's."""
        self._books.add_sums(clip_factors(self._books.norms(), self.max_grad_norm), self._sums)

    def add_noise(self) -> None:
        """Put clipped sum plus noise into each parameter's `grad`, from one flat noise vector."""
        draws = torch.from_numpy(self._noise.normals(len(self._sum), _turn))
        scale = self.noise_multiplier * self.max_grad_norm
        torch.add(self._sum, draws, alpha=scale, out=self._noised)

    def scale_grad(self) -> None:
        """Divide each `grad` by the public constant."""
        self._noised.div_(self.expected_batch_size)


def joined(parameters: list[nn.Parameter]) -> nn.Parameter:
    """Return one parameter of whose values the given ones are views from now on."""
    whole = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    for parameter, piece in zip(parameters, _pieces(whole.detach(), parameters), strict=True):
        parameter.data = piece
    return whole


def clip_factors(norms: Tensor, l2_clip_norm: float) -> Tensor:
    """Return each example's factor, shape (n,): at most one, zero where the norm is not finite."""
    limit = l2_clip_norm * _SAFETY
    return (limit / norms.clamp(min=limit)).nan_to_num_(nan=0.0)  # of an infinite norm it is zero


def bounded_sum(gradients: Tensor, factors: Tensor) -> Tensor:
    """Return the weighted sum over the first axis; an example of factor zero adds exactly zero."""
    kept = factors > 0
    return (factors[kept] @ _rows(gradients[kept])).reshape(gradients.shape[1:])


def _turn(angles: Floats, cosines: Floats, sines: Floats) -> None:
    """Fill in cosines and sines: the same float64 as numpy's but for the last bits, and faster."""
    found = torch.from_numpy(angles)
    torch.cos(found, out=torch.from_numpy(cosines))
    torch.sin(found, out=torch.from_numpy(sines))


def _pieces(whole: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    pieces = torch.split(whole, [p.numel() for p in parameters])
    return [piece.view_as(p) for p, piece in zip(parameters, pieces, strict=True)]


def _rows(gradients: Tensor) -> Tensor:
    # Width spelled out: of no rows at all it could not be inferred.
    return gradients.reshape(len(gradients), math.prod(gradients.shape[1:]))
