"""Model weights as bytes: safetensors, float64, sorted names, no metadata."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedcore.errors import InvalidRecordError

Weights = Mapping[str, NDArray[np.float64]]
Shapes = Mapping[str, tuple[int, ...]]
_HEADER_ALLOWANCE = 64 * 1024


def encode_weights(weights: Weights) -> bytes:
    """Return the one encoding of named float64 arrays; its sha256 is the model's digest."""
    return bytes(save({name: np.ascontiguousarray(weights[name]) for name in sorted(weights)}))


def decode_weights(data: bytes, shapes: Shapes, max_abs: float) -> dict[str, NDArray[np.float64]]:
    """Return the arrays, after everything about them was held against what is expected.

    Guarantees: exactly the expected names and shapes, float64, finite, every entry within
        `max_abs`.
    Raises: InvalidRecordError `weights.too_large`, `weights.unreadable`, `weights.wrong_shape`,
        `weights.not_finite`, `weights.out_of_bounds`. The bound on magnitude keeps a server from
        sending weights that would make the presence of one customer visible.
    """
    weights = _loaded(data, shapes)
    found = {name: array.shape for name, array in weights.items()}
    if found != dict(shapes) or any(a.dtype != np.float64 for a in weights.values()):
        raise InvalidRecordError(
            "weights.wrong_shape", "the model's names, shapes or types are not the plan's"
        )
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise InvalidRecordError("weights.not_finite", "the model has entries that are not finite")
    if any((np.abs(array) > max_abs).any() for array in weights.values()):
        raise InvalidRecordError(
            "weights.out_of_bounds", "the model has entries above the plan's max_abs_weight"
        )
    if encode_weights(weights) != data:
        raise InvalidRecordError("weights.unreadable", "the model is not in its one encoding")
    return weights


def shapes_in(data: bytes, longest: Shapes) -> Shapes:
    """Return the names and shapes of what these bytes hold, for those that may be shorter.

    Raises: InvalidRecordError `weights.too_large` for more than the `longest` arrays need,
        `weights.unreadable`.
    """
    return {name: array.shape for name, array in _loaded(data, longest).items()}


def _loaded(data: bytes, shapes: Shapes) -> dict[str, NDArray[np.float64]]:
    expected = 8 * sum(int(np.prod(shape)) for shape in shapes.values())
    if len(data) > expected + _HEADER_ALLOWANCE:
        raise InvalidRecordError("weights.too_large", "the model is larger than the plan's model")
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InvalidRecordError(
            "weights.unreadable", "the model is not in safetensors format", str(error)
        ) from error
