"""How much of the customers' variance segments explain, from noised sums alone."""

import numpy as np

from fedcore.segments.estimates import Estimate
from fedcore.segments.noised import NoisedSums

_LEAST = 1e-12


def explained_variance(noised: NoisedSums) -> Estimate:
    """Return one minus squared distances from the segments' centres over those from the mean.

    Guarantees: exact where there is no noise and the radius clips no row; the error is that of the
        noise, to first order. Of the customers there are, not of a population. The value lies in
        [0, 1].
    """
    features, terms = noised.placement.shape[1], noised.terms
    radius, centres = noised.placement.radius, noised.placement.centres
    sums, counts = radius * noised.blocks[:, :features], noised.counts
    square_unit = radius**2 / terms.square_weight
    within = float(square_unit * noised.blocks[:, features + 1 :].sum())
    apart = centres - (counts @ centres + sums.sum(axis=0)) / max(float(counts.sum()), 1.0)
    distances = np.square(apart).sum(axis=1)
    between = float(2 * (apart * sums).sum() + counts @ distances)
    whole = max(within + between, _LEAST)
    # By offset sums, counts and squares; the mean is where `between` does not change with it.
    slopes = (
        (within / whole**2) * 2 * radius * apart.reshape(-1),
        (within / whole**2) * distances / terms.count_weight,
        np.full(sums.size, -between / whole**2 * square_unit),
    )
    scale = noised.noise_scale * float(np.linalg.norm(np.concatenate(slopes)))
    return Estimate(min(max(1 - within / whole, 0.0), 1.0), scale)
