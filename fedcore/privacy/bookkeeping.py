"""Clipped sums of per-customer gradients out of one backward pass, without those gradients.

Kept is what a layer was given (a) and the gradient at what it gave (g). A linear layer's gradient
of one example is the outer product of g and a, so that its norm is |g| |a|, and the clipped sum
over all examples is one weighted product; embeddings and layer norms have forms of their own.
Where an example uses a layer several times (positions of a sequence, a layer that is used twice)
its products can cancel, and rounding with them: the norm is then taken larger by more than
rounding can make of it.

Guarantees: an example's part of a sum has at most the norm that its factor promises; it depends
    on the example's own row only, if the caller's batches have one shape.
Reference: Goodfellow (2015), arXiv 1510.01799; Li et al. (2022), arXiv 2110.05679; Bu et al.
    (2022), arXiv 2210.00038.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

# Of the sum of the products' norms: far above what rounding in float64 adds up to.
_CANCELLATION = 2.0**-15


@dataclass
class _Uses:
    """What one layer was given and gave in a batch, for each use of it, and the gradients there;
    then all uses beside each other. `weight` and `bias` are None where they are not trained.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    given: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    positions: tuple[Tensor, Tensor] | None = None

    def is_as_noted(self) -> bool:
        noted = zip(self.given, self.outputs, strict=True)
        return self.versions == [one._version for pair in noted for one in pair]  # noqa: SLF001

    def forget(self) -> None:
        self.given, self.outputs, self.versions, self.positions = [], [], [], None


class Books:
    """What the layers of a module were given in one batch, and the gradients at their outputs."""

    def __init__(self, module: nn.Module) -> None:
        """Watch a module for which `is_supported` holds."""
        self._uses = {
            layer: _Uses(_trained_of(layer, "weight"), _trained_of(layer, "bias"))
            for layer in _trained_layers(module)
        }
        for layer in self._uses:
            layer.register_forward_hook(self._note)
        self._count = 0

    def backward(self, losses: Tensor, count: int) -> None:
        """Take the gradients of the first `count` examples' losses, shape (n,), at every layer.

        Nothing else is computed: no gradient of a parameter.
        Raises: RuntimeError when the module changed in place what a layer was given or gave: what
            was noted is no longer what was computed with.
        """
        self._count = count
        used = [(layer, uses) for layer, uses in self._uses.items() if uses.outputs]
        if not all(uses.is_as_noted() for _, uses in used):
            raise RuntimeError("the model changes a layer's input or output in place")
        outputs = list(chain.from_iterable(uses.outputs for _, uses in used))
        ones = torch.ones_like(losses)
        found = iter(torch.autograd.grad(losses, outputs, ones, materialize_grads=True))
        for layer, uses in used:
            gradients = [next(found)[:count] for _ in uses.outputs]
            given = [one[:count] for one in uses.given]
            uses.forget()
            uses.positions = _positions(layer, given, gradients)

    def take(self, found: Mapping[nn.Module, tuple[Tensor, Tensor]], count: int) -> None:
        """Take what dense layers were given, (n, a), and the gradients at what they gave, (n, g),
        from who went through the module otherwise; the first `count` are examples.
        """
        self._count = count
        for layer, (given, gradients) in found.items():
            self._uses[layer].positions = given[:count], gradients[:count]

    def norms(self) -> Tensor:
        """Return an upper bound of the norm of each example's gradient, shape (n,).

        Equal to the norm to 1e-4 of the sum of an example's products, and to rounding where every
        layer is used once by an example. Not finite where something of the example is not.
        """
        squares = torch.zeros(self._count, dtype=torch.float64)
        for layer, uses in self._uses.items():
            if uses.positions:
                squares += _square_norms(layer, uses, *uses.positions)
        return squares.sqrt_()

    def parts(self) -> Tensor:
        """Return what norms and sums are made of, and the norms, shape (n, numbers)."""
        held = [uses.positions for uses in self._uses.values() if uses.positions]
        parts = [part.reshape(self._count, -1) for part in chain.from_iterable(held)]
        return torch.cat([*parts, self.norms()[:, None]], dim=1)

    def add_sums(self, factors: Tensor, totals: Mapping[nn.Parameter, Tensor]) -> None:
        """Add each trained parameter's sum of gradients, weighted by factors (n,), to its total,
        and forget the batch. An example of factor zero adds exactly zero, whatever it holds.
        """
        if are_some_zero := not factors.all():  # zero times infinity is no number
            kept = factors > 0
            factors = factors[kept]
        column = factors[:, None]
        for layer, uses in self._uses.items():
            if uses.positions:
                given, gradients = uses.positions
                if are_some_zero:
                    given, gradients = given[kept], gradients[kept]
                _add_sums(layer, uses, (given, gradients, column), totals)
            uses.forget()

    def _note(self, layer: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
        uses = self._uses[layer]
        uses.given.append(given[0].detach())
        uses.outputs.append(output)
        uses.versions += (given[0]._version, output._version)  # noqa: SLF001


def is_supported(module: nn.Module) -> bool:
    """Return whether every trained parameter belongs to one float64 layer of a kind known here."""
    found = list(chain.from_iterable(_trained(layer) for layer in module.modules()))
    known = list(chain.from_iterable(_trained(layer) for layer in _trained_layers(module)))
    return (
        len(found) == len(known)
        and len(set(map(id, found))) == len(found)
        and all(parameter.dtype == torch.float64 for parameter in found)
    )


def _trained(layer: nn.Module) -> list[nn.Parameter]:
    return [p for p in layer.parameters(recurse=False) if p.requires_grad]


def _trained_layers(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if _is_known(layer) and _trained(layer)]


def _is_known(layer: nn.Module) -> bool:
    # By exact type: a subclass may compute something else, as may a weight made of another one.
    if not {name for name, _ in layer.named_parameters(recurse=False)} <= {"weight", "bias"}:
        return False
    if type(layer) is nn.Embedding:
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    return type(layer) is nn.Linear or (
        type(layer) is nn.LayerNorm and len(layer.normalized_shape) == 1
    )


def _trained_of(layer: nn.Module, name: str) -> nn.Parameter | None:
    return next((p for p in _trained(layer) if p is getattr(layer, name, None)), None)


def _positions(
    layer: nn.Module, given: list[Tensor], gradients: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return given (n, a) and gradients (n, g) of a layer that an example uses once, else given
    (n, t, a) and gradients (n, t, g), all uses beside each other.

    Given are, of an embedding, its indices (n,) or (n, t); of a layer norm, its normalised input.
    """
    if len(given) == 1 and gradients[0].ndim == 2 and isinstance(layer, nn.Linear):
        return given[0], gradients[0]
    gradients = [_wide(one) for one in gradients]
    given = [_given(layer, one) for one in given]
    if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
        pairs = zip(given, gradients, strict=True)
        gradients = [g.masked_fill((i == layer.padding_idx)[..., None], 0.0) for i, g in pairs]
    if len(given) > 1:
        return torch.cat(given, dim=1), torch.cat(gradients, dim=1)
    if gradients[0].shape[1] == 1:
        return given[0][:, 0], gradients[0][:, 0]
    return given[0], gradients[0]


def _given(layer: nn.Module, given: Tensor) -> Tensor:
    if isinstance(layer, nn.Embedding):
        return given.reshape(len(given), math.prod(given.shape[1:]))
    if isinstance(layer, nn.LayerNorm):
        return _wide(nn.functional.layer_norm(given, layer.normalized_shape, eps=layer.eps))
    return _wide(given)


def _wide(values: Tensor) -> Tensor:
    # Widths spelled out: of no example at all they could not be inferred.
    return values.reshape(len(values), math.prod(values.shape[1:-1]), values.shape[-1])


def _square_norms(layer: nn.Module, uses: _Uses, given: Tensor, gradients: Tensor) -> Tensor:
    """Return the square of each example's bound over the layer's trained parameters, shape (n,)."""
    parts = torch.linalg.vector_norm(gradients, dim=-1)
    of_weight: Tensor | float = 0.0
    if uses.weight is not None:
        if isinstance(layer, nn.Linear):
            parts_of_weight = parts * torch.linalg.vector_norm(given, dim=-1)
            of_weight = _square(parts_of_weight, lambda: _products(given, gradients))
        elif isinstance(layer, nn.Embedding):
            of_weight = _square(parts, lambda: _same(given, gradients))
        else:
            scaled = gradients * given
            parts_of_weight = torch.linalg.vector_norm(scaled, dim=-1)
            of_weight = _square(parts_of_weight, lambda: _summed(scaled))
    if uses.bias is None:
        return torch.as_tensor(of_weight)
    return of_weight + _square(parts, lambda: _summed(gradients))


def _square(parts: Tensor, joint: Callable[[], Tensor]) -> Tensor:
    """Return squared norms from those of the parts that add up to a gradient, shape (n, t).

    Parts of shape (n,) are the gradients; of several, `joint` computes the square, in which they
    may cancel.
    """
    if parts.ndim == 1:
        return parts * parts
    return joint().clamp(min=0.0) + (_CANCELLATION * parts.sum(dim=1)).square()


def _products(given: Tensor, gradients: Tensor) -> Tensor:
    grams = torch.bmm(given, given.mT) * torch.bmm(gradients, gradients.mT)
    return grams.sum(dim=(1, 2))


def _same(indices: Tensor, gradients: Tensor) -> Tensor:
    same = indices[:, :, None] == indices[:, None, :]
    return (torch.bmm(gradients, gradients.mT) * same).sum(dim=(1, 2))


def _summed(parts: Tensor) -> Tensor:
    return parts.sum(dim=1).square().sum(dim=1)


def _add_sums(
    layer: nn.Module,
    uses: _Uses,
    batch: tuple[Tensor, Tensor, Tensor],
    totals: Mapping[nn.Parameter, Tensor],
) -> None:
    given, gradients, factors = batch
    if gradients.ndim > 2:
        factors = factors.repeat_interleave(gradients.shape[1], dim=0)
        given, gradients = given.flatten(0, 1), gradients.flatten(0, 1)
    if uses.weight is not None:
        weighted = gradients * factors
        if isinstance(layer, nn.Linear):
            totals[uses.weight].addmm_(weighted.mT, given)
        elif isinstance(layer, nn.Embedding):
            totals[uses.weight].index_add_(0, given, weighted)
        else:
            totals[uses.weight].add_((weighted * given).sum(dim=0))
    if uses.bias is not None:
        totals[uses.bias].addmv_(gradients.mT, factors.squeeze(1))
