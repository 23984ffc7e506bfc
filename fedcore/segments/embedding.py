"""Where customers lie in a trained autoencoder's embedding: what is clustered instead of features.

Guarantees: a row's place is a function of that row and of the public weights, to the last bit,
    whoever the other rows are: layers are added up input by input, as a matrix product may round a
    row by its place among others. Places lie in [-1, 1], the public bounds of clustering, whatever
    the weights are. Nothing here looks at several rows.
"""

from dataclasses import dataclass

import numpy as np

from fedcore.errors import InvalidRecordError
from fedcore.privacy.noise import Floats
from fedcore.weights import Weights

_CHUNK = 16_384


@dataclass(frozen=True)
class Encoder:
    """The first half of an autoencoder: dense layers, each followed by a hyperbolic tangent.

    `layers` are weights (outputs, inputs) and biases (outputs,), the first layer first.
    """

    layers: tuple[tuple[Floats, Floats], ...]

    @property
    def inputs(self) -> int:
        """How many numbers a row has."""
        return int(self.layers[0][0].shape[1])

    @property
    def width(self) -> int:
        """How many numbers a place has."""
        return int(self.layers[-1][0].shape[0])

    def places(self, rows: Floats) -> Floats:
        """Return the rows' places, shape (n, width), each within [-1, 1].

        A row with a number that is not finite may have a place that is none either: clustering
        counts it nowhere.
        Raises: InvalidRecordError `embedding.rows_invalid` for a table of another width.
        """
        if rows.ndim != 2 or rows.shape[1] != self.inputs:
            raise InvalidRecordError(
                "embedding.rows_invalid", "rows must have as many features as the encoder has"
            )
        found = np.empty((len(rows), self.width))
        for start in range(0, len(rows), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            found[chunk] = self._places(rows[chunk])
        return found

    def _places(self, rows: Floats) -> Floats:
        reached = rows
        with np.errstate(over="ignore", invalid="ignore"):
            for weight, bias in self.layers:
                total = np.tile(bias, (len(reached), 1))
                for place in range(weight.shape[1]):
                    total += reached[:, place, None] * weight[None, :, place]
                reached = np.tanh(total)
        return reached


def encoder_of(weights: Weights, hidden: int) -> Encoder:
    """Return the encoder of an autoencoder's weights, as `fedcore.tasks.autoencoder` names them.

    Args: `hidden` is how many layers there are before the embedding's own.
    Raises: InvalidRecordError `embedding.weights_invalid` when these are no such weights.
    """
    names = [(f"{2 * place}.weight", f"{2 * place}.bias") for place in range(hidden + 1)]
    if any(name not in weights for pair in names for name in pair):
        raise InvalidRecordError(
            "embedding.weights_invalid", "these weights are not those of such an autoencoder"
        )
    return Encoder(tuple((weights[weight], weights[bias]) for weight, bias in names))
