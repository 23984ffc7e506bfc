"""Where the next release looks: first from public bounds alone, then from noised sums alone."""

import heapq
import math

import numpy as np

from fedcore.privacy.clustering import BOUND, MIN_RADIUS, Placement, diameter
from fedcore.privacy.noise import Floats
from fedcore.segments.merging import Weighted
from fedcore.segments.noised import NoisedSums

# In standard deviations of all rows: how far from their mean the first centres are spread.
REACH = 1.5
# In root mean squares of the rows' distances from their centres: how far a row may pull.
RADIUS_SHARE = 1.5
# The same for the last release: so wide that what it says of means and scatter is nearly unclipped.
DESCRIBING_SHARE = 2.0
# A radius never falls below this share of the diameter.
LEAST_SHARE = 0.02
# Halves of a centre stand this many standard deviations from it, and keep that share of variance.
HALF_AT, HALF_VARIANCE = 0.8, 0.36


def whole_placement(features: int) -> Placement:
    """Return one centre in the middle of the public bounds, and a radius that clips no row."""
    return Placement(np.zeros((1, features)), diameter(features) / 2)


def spread_placement(whole: NoisedSums, count: int) -> Placement:
    """Return `count` centres that fill the box around the rows' noised mean evenly.

    Args: `whole` is what was released around `whole_placement`.
    """
    variances = whole.scatters[0] / whole.sizes[0]
    reach = np.maximum(REACH * np.sqrt(variances), LEAST_SHARE)
    centres = whole.means[0] + reach * even_points(count, len(reach))
    return Placement(np.clip(centres, -BOUND, BOUND), within_radius(whole, 1.0))


def even_points(count: int, features: int) -> Floats:
    """Return points that fill the cube from -1 to 1 evenly, shape (count, features).

    Guarantees: a function of the two numbers; no chance is in it.
    Reference: Roberts (2018), The Unreasonable Effectiveness of Quasirandom Sequences: the additive
        recurrence by powers of the root of x**(d + 1) = x + 1.
    """
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (features + 1))
    steps = root ** -np.arange(1.0, features + 1)
    points = 0.5 + np.arange(1, count + 1)[:, None] * steps[None, :]
    return np.asarray(2 * (points % 1.0) - 1)


def respread(noised: NoisedSums, count: int) -> Floats:
    """Return at most `count` centres: the means of those found, and halves of the widest.

    A centre that is not found is given up. In its stead the found one whose rows scatter most along
    one feature is halved along it, again and again, unless that scatter could be noise or a half
    would be too small to be found. Where none is found, all stay where they are.
    """
    if not noised.is_found.any():
        return noised.placement.centres
    found = np.flatnonzero(noised.is_found)
    pieces: list[tuple[float, int, _Piece]] = []
    for place in found:
        piece = (noised.sizes[place], noised.means[place], noised.scatters[place])
        heapq.heappush(pieces, (-float(piece[2].max()), len(pieces), piece))
    made = len(pieces)
    done: list[Floats] = []
    while pieces and len(pieces) + len(done) < count:
        score, _, piece = heapq.heappop(pieces)
        if -score <= 2 * noised.scatter_scale or piece[0] < 2 * noised.least_size:
            done.append(piece[1])
            continue
        for half in _halves(piece):
            heapq.heappush(pieces, (-float(half[2].max()), made, half))
            made += 1
    centres = [*done, *(piece[1] for _, _, piece in pieces)]
    return np.clip(np.array(centres), -BOUND, BOUND)


def settled(noised: NoisedSums) -> Floats:
    """Return the means of the centres that are found, and the others where they were."""
    return np.where(noised.is_found[:, None], noised.means, noised.placement.centres)


def weighted(noised: NoisedSums) -> Weighted:
    """Return the centres that are found with their sizes, or the largest where none is."""
    kept = np.flatnonzero(noised.is_found)
    if not len(kept):
        kept = np.array([int(noised.counts.argmax())])
    features = noised.placement.shape[1]
    errors = features * noised.shift_scales[kept] ** 2
    return Weighted(noised.means[kept], noised.sizes[kept], errors)


def within_radius(noised: NoisedSums, share: float = RADIUS_SHARE, added: float = 0.0) -> float:
    """Return the next radius: a share of the rows' root mean square distance from their centres.

    Guarantees: within what a placement may say.
    Args: `added` is what merges add to the sum of squares.
    """
    kept = noised.is_found
    features = noised.placement.shape[1]
    mean = (noised.scatters[kept].sum() + added) / max(1.0, noised.sizes[kept].sum())
    least = max(MIN_RADIUS, LEAST_SHARE * diameter(features))
    return float(min(max(share * math.sqrt(mean), least), diameter(features) / 2))


_Piece = tuple[float, Floats, Floats]


def _halves(piece: _Piece) -> tuple[_Piece, _Piece]:
    size, mean, scatters = piece
    feature = int(scatters.argmax())
    step = np.zeros_like(mean)
    step[feature] = HALF_AT * math.sqrt(scatters[feature] / size)
    left = scatters / 2
    left[feature] *= HALF_VARIANCE
    return (size / 2, mean - step, left), (size / 2, mean + step, left)
