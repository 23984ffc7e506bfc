"""Autoencoders of a customer's features: through a narrow, bounded embedding and back.

An autoencoder has no label: what it is to give is what it was given. Its embedding is clustered
instead of the features (`fedcore.segments.embedding`).
Reference: Hinton and Salakhutdinov (2006), Reducing the Dimensionality of Data with Neural
    Networks.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, float64, nn


class ReconstructionLosses:
    """Mean squared differences of outputs from the features that were given, both (n, inputs)."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each example's loss, shape (n,)."""
        return (outputs - targets).square().mean(dim=1)

    def slopes(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each loss's gradient at its outputs, (n, inputs): autograd's to the last bit."""
        return (1.0 / outputs.shape[1]) * (2.0 * (outputs - targets))


def build_autoencoder(inputs: int, hidden: Sequence[int], embedding: int) -> nn.Module:
    """Return the float64 module: (n, inputs) to (n, inputs), by way of (n, embedding).

    The encoder has the hidden widths, the decoder the same ones backwards. All layers but the last
    are followed by tanh, so that the embedding lies in [-1, 1] whatever the weights are.
    """
    widths = [inputs, *hidden, embedding, *reversed(hidden)]
    layers: list[nn.Module] = []
    for given, gives in pairwise(widths):
        layers += [nn.Linear(given, gives, dtype=float64), nn.Tanh()]
    layers.append(nn.Linear(widths[-1], inputs, dtype=float64))
    return nn.Sequential(*layers)
