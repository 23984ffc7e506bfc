"""A map of centres: the plane through their weighted mean in which they lie farthest apart."""

from dataclasses import dataclass

import numpy as np

from fedcore.errors import InvalidRecordError
from fedcore.privacy.noise import Floats

_LEAST = 1e-12


@dataclass(frozen=True)
class Projection:
    """Where points lie on the map, shape (k, 2); what each of its two directions is made of, shape
    (2, d), of length 1 or 0; and how much of the points' spread the map shows, from 0 to 1.
    """

    places: Floats
    directions: Floats
    shown: float


def project(points: Floats, weights: Floats) -> Projection:
    """Return the map of points of shape (k, d).

    Guarantees: a function of its arguments; distances on the map are at most the true ones; in each
        direction the largest part is positive. A direction in which nothing is spread has no parts.
    Args: weights of shape (k,), not negative; without any positive one all count alike.
    Raises: InvalidRecordError `segments.points_invalid` for other shapes or weights.
    Reference: Pearson (1901), principal components.
    """
    if points.ndim != 2 or weights.shape != points.shape[:1] or not bool((weights >= 0).all()):
        raise InvalidRecordError(
            "segments.points_invalid", "each point of a map has a weight that is not negative"
        )
    shares = weights if weights.sum() > 0 else np.ones(len(points))
    shares = shares / shares.sum()
    apart = points - shares @ points
    _, sizes, parts = np.linalg.svd(apart * np.sqrt(shares)[:, None], full_matrices=False)
    directions = np.zeros((2, points.shape[1]))
    for place, (size, direction) in enumerate(zip(sizes[:2], parts[:2], strict=True)):
        if size > _LEAST:
            directions[place] = direction * np.sign(direction[np.abs(direction).argmax()])
    spread = float(np.square(sizes).sum())
    shown = float(np.square(sizes[:2]).sum()) / spread if spread > _LEAST**2 else 1.0
    return Projection(apart @ directions.T, directions, min(shown, 1.0))
