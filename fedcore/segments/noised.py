"""What is known of rows around public centres from the units' noised releases, and how well.

Guarantees: everything here and in this package is a function of releases, that is of public and
    charged numbers. Nothing knows a row, a true count or a unit's own noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.errors import InvalidRecordError
from fedcore.privacy.clustering import BOUND, Placement, ReleaseTerms
from fedcore.privacy.noise import Floats

# A centre is found when its noised count is so many standard deviations of the noise above zero.
FOUND_AT = 3.0


@dataclass(frozen=True)
class NoisedSums:
    """The sum of the units' releases around one placement; each unit has added its whole noise.

    Args: blocks of shape (k, 2 * d + 1), as units send them; `units` is how many have answered.
    """

    placement: Placement
    terms: ReleaseTerms
    units: int
    blocks: Floats

    @property
    def noise_scale(self) -> float:
        """The standard deviation of each number of the blocks."""
        return self.terms.noise_scale * math.sqrt(self.units)

    @property
    def counts(self) -> Floats:
        """The noised numbers of rows, shape (k,): without bias, and maybe below zero."""
        return np.asarray(self.blocks[:, self._features] / self.terms.count_weight)

    @property
    def count_scale(self) -> float:
        """The standard deviation of each of `counts`."""
        return self.noise_scale / self.terms.count_weight

    @property
    def least_size(self) -> float:
        """The smallest noised count that stands out from the noise, and is a customer at least."""
        return max(1.0, FOUND_AT * self.count_scale)

    @property
    def is_found(self) -> NDArray[np.bool_]:
        """Whether a centre's noised count stands out from the noise, shape (k,)."""
        return np.asarray(self.counts >= self.least_size)

    @property
    def sizes(self) -> Floats:
        """The noised counts to divide by, shape (k,): not below where a centre is found."""
        return np.maximum(self.counts, self.least_size)

    @property
    def shifts(self) -> Floats:
        """The mean differences of rows from their centre, shape (k, d), none beyond the radius."""
        shifts = self.placement.radius * self.blocks[:, : self._features] / self.sizes[:, None]
        lengths = np.linalg.norm(shifts, axis=1, keepdims=True)
        return np.asarray(shifts * np.minimum(1, self.placement.radius / np.maximum(lengths, 1e-9)))

    @property
    def shift_scales(self) -> Floats:
        """The standard deviation that noise gives each number of a centre's shift, shape (k,)."""
        return np.asarray(self.placement.radius * self.noise_scale / self.sizes)

    @property
    def means(self) -> Floats:
        """The rows' means, shape (k, d), within the public bounds."""
        return np.clip(self.placement.centres + self.shifts, -BOUND, BOUND)

    @property
    def scatters(self) -> Floats:
        """The sums of squared differences from the mean by feature, shape (k, d), none negative."""
        squares = self.blocks[:, self._features + 1 :] * (self._square_unit)
        return np.maximum(0, squares - self.sizes[:, None] * self.shifts**2)

    @property
    def scatter_scale(self) -> float:
        """The standard deviation that noise gives each of `scatters`, but for its shift's."""
        return self.noise_scale * self._square_unit

    @property
    def _square_unit(self) -> float:
        return self.placement.radius**2 / self.terms.square_weight

    @property
    def _features(self) -> int:
        return self.placement.shape[1]


def combine(releases: Sequence[Floats], placement: Placement, terms: ReleaseTerms) -> NoisedSums:
    """Return the sum of the units' releases, each counted once, in no particular order.

    Raises: InvalidRecordError `clustering.release_invalid` without a release, or for one of another
        length or with a number that is not finite.
    """
    count, length = placement.shape[0], placement.release_length
    if not releases or any(
        one.shape != (length,) or not np.isfinite(one).all() for one in releases
    ):
        raise InvalidRecordError(
            "clustering.release_invalid",
            f"a release around these centres has {length} finite numbers",
        )
    total = np.array([math.fsum(column) for column in np.stack(releases).T])
    return NoisedSums(placement, terms, len(releases), total.reshape(count, -1))
