"""A plain chain of dense layers and hyperbolic tangents, gone through without autograd.

Guarantees: what is found at each layer is what autograd finds there, to the last bit.
"""

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

Found = dict[nn.Module, tuple[Tensor, Tensor]]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Dense:
    """The layers of a module for which `is_plain` holds."""

    def __init__(self, module: nn.Module) -> None:
        layers = list(_in_order(module))
        self._layers = [(layer, _is_trained(layer)) for layer in layers]
        self._first = min(place for place, (_, is_trained) in enumerate(self._layers) if is_trained)

    def go_through(self, inputs: Tensor, losses: Callable[[Tensor], Tensor]) -> Found:
        """Return, of every layer that is trained, what it was given and the gradients of the sum of
        the losses at what it gave.

        Args: `inputs` are of shape (n, a).
        """
        with torch.no_grad():
            reached = [inputs]
            for layer, _ in self._layers:
                reached.append(layer.forward(reached[-1]))
        outputs = reached[-1].requires_grad_()
        found = losses(outputs)
        with torch.no_grad():
            (gradients,) = torch.autograd.grad(
                found, outputs, torch.ones_like(found), materialize_grads=True
            )
            return self._backward(reached, gradients)

    def _backward(self, reached: list[Tensor], gradients: Tensor) -> Found:
        found: Found = {}
        for place in range(len(self._layers) - 1, self._first - 1, -1):
            layer, is_trained = self._layers[place]
            gave = reached.pop()  # what is no longer needed is not held
            if is_trained:
                found[layer] = reached[-1], gradients
            if place == self._first:
                break
            if isinstance(layer, nn.Linear):
                gradients = gradients @ layer.weight
            else:
                gradients = torch.ops.aten.tanh_backward(gradients, gave)
        return found


def is_plain(module: nn.Module) -> bool:
    """Return whether a module is a chain of `Linear` and `Tanh`, some of them trained.

    By exact type, without hooks or a `forward` of its own, no dense layer twice: what such a
    module computes is known.
    """
    dense = [layer for layer in _in_order(module) if isinstance(layer, nn.Linear)]
    return (
        len(set(dense)) == len(dense)
        and any(map(_is_trained, dense))
        and all(map(_is_known, module.modules()))
    )


def _in_order(module: nn.Module) -> chain[nn.Module]:
    if type(module) is nn.Sequential:
        return chain.from_iterable(map(_in_order, module))
    return chain([module])


def _is_known(layer: nn.Module) -> bool:
    held = vars(layer)
    return (
        type(layer) in (nn.Sequential, nn.Linear, nn.Tanh)
        and "forward" not in held
        and not any(held[name] for name in _HOOKS)
    )


def _is_trained(layer: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in layer.parameters())
