"""A placement and a release as the named arrays that orders and answers carry.

Reference: `fedcore.weights` for their one encoding.
"""

import numpy as np

from fedcore.errors import InvalidRecordError
from fedcore.privacy.clustering import BOUND, Placement, diameter
from fedcore.weights import Weights, decode_weights, shapes_in

CENTRES, RADIUS, SUMS = "centres", "radius", "sums"


def weights_of(placement: Placement) -> Weights:
    """Return a placement as named arrays: `centres` of shape (k, d), `radius` of shape (1,)."""
    return {CENTRES: placement.centres, RADIUS: np.array([placement.radius])}


def placement_of(weights: Weights) -> Placement:
    """Return the placement of named arrays that `weights_of` has made.

    Raises: as `Placement`.
    """
    return Placement(weights[CENTRES], float(weights[RADIUS][0]))


def decode_placement(data: bytes, features: int, most: int) -> Placement:
    """Return the placement that these bytes are, after everything about it was verified.

    Guarantees: 1 to `most` centres with so many features within the public bounds, and a radius
        that a placement may have: a server can say nothing else.
    Raises: InvalidRecordError as `decode_weights`; `clustering.placement_invalid`.
    """
    longest = {CENTRES: (most, features), RADIUS: (1,)}
    rows = shapes_in(data, longest).get(CENTRES, ())[:1]
    if rows and not 1 <= rows[0] <= most:
        raise InvalidRecordError(
            "clustering.placement_invalid", f"the plan searches with 1 to {most} centres"
        )
    shapes = {CENTRES: (*rows, features), RADIUS: (1,)}
    return placement_of(decode_weights(data, shapes, max(BOUND, diameter(features))))
