"""How much of the customers' variance segments explain, from noised sums alone."""

import math

import numpy as np

from fedcore.privacy.noise import Floats
from fedcore.segments.estimates import Estimate
from fedcore.segments.noised import NoisedSums

_STEP = 1e-3


def explained_variance(noised: NoisedSums) -> Estimate:
    """Return one minus squared distances from the segments' centres over those from the mean.

    Guarantees: exact where there is no noise and the radius clips no row; the error is that of the
        noise, to first order. Of the customers there are, not of a population. The value lies in
        [0, 1].
    """
    blocks = noised.blocks
    value = _explained(blocks, noised)
    step = _STEP * max(1.0, float(np.abs(blocks).max()))
    slopes = []
    for place in np.ndindex(blocks.shape):
        beside = blocks.copy()
        beside[place] += step
        slopes.append((_explained(beside, noised) - value) / step)
    scale = noised.noise_scale * math.sqrt(math.fsum(slope**2 for slope in slopes))
    return Estimate(min(max(value, 0.0), 1.0), scale)


def _explained(blocks: Floats, noised: NoisedSums) -> float:
    features = noised.placement.shape[1]
    radius, centres = noised.placement.radius, noised.placement.centres
    sums = radius * blocks[:, :features]
    counts = blocks[:, features] / noised.terms.count_weight
    within = radius**2 / noised.terms.square_weight * blocks[:, features + 1 :].sum()
    whole = max(float(counts.sum()), 1.0)
    apart = centres - (counts @ centres + sums.sum(axis=0)) / whole
    between = 2 * (apart * sums).sum() + counts @ np.square(apart).sum(axis=1)
    return float(1 - within / max(within + between, 1e-12))
