"""What a unit says of its rows around public centres: one noised vector, whatever the rows are.

A row counts at the centre next to it, by its offset: the difference from that centre in units of a
public radius, clipped to length 1. A centre's block in the vector is the sum of offsets, the number
of rows, and the sum of the offsets' squares by feature, the latter two times public weights. All
blocks are one release with Gaussian noise of one scale.

Guarantees: adding or removing one row moves the vector by at most `l2_sensitivity`, whatever the
    rows, centres and radius: a row lies in one block, and its part of it is a function of that row
    and of public numbers, to the last bit. Sums are exact integers on a grid of 2**-30, so that
    neither the order nor the number of the other rows shows in the last bits.
Reference: Su et al. (2016), arXiv 1504.05998 (noised sums and counts); Dwork and Roth (2014),
    appendix A (the Gaussian mechanism of a joint L2 sensitivity).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.errors import InvalidRecordError
from fedcore.privacy.events import PrivacyEvent
from fedcore.privacy.noise import Floats, KeyStream

# The public bounds that features are scaled to.
BOUND = 1.0
MAX_CENTRES = 1024
MIN_RADIUS = 1e-3
MAX_NOISE_MULTIPLIER = 1e6
# Of a row that is at no centre, because a number of it is not finite.
NOWHERE = -1

_SAFETY = 1.0 - 2.0**-20
_GRID = 2.0**30
# How many distances are held at once, so that memory does not grow with centres.
_CELLS = 4_194_304


@dataclass(frozen=True)
class ReleaseTerms:
    """The public numbers of all releases of a run.

    Raises: InvalidRecordError `clustering.terms_invalid` for weights outside [0.01, 10] or a noise
        multiplier outside [0, 1e6]. Zero is for tests and simulations; no event can say it.
    """

    noise_multiplier: float
    count_weight: float = 0.4
    square_weight: float = 0.4

    def __post_init__(self) -> None:
        weights = (self.count_weight, self.square_weight)
        if not (
            0 <= self.noise_multiplier <= MAX_NOISE_MULTIPLIER
            and all(0.01 <= weight <= 10 for weight in weights)
        ):
            raise InvalidRecordError(
                "clustering.terms_invalid",
                "weights must lie in [0.01, 10] and the noise multiplier in [0, 1e6]",
            )

    @property
    def l2_sensitivity(self) -> float:
        """The most by which one customer moves a release, in L2 norm.

        An offset has at most length 1, a count is 1, and the squares' squares add up to at most
        the fourth power of the offset's length.
        """
        # Products and a root round the same everywhere; powers need not, and plans say this number.
        count, square = self.count_weight, self.square_weight
        return math.sqrt(1 + count * count + square * square)

    @property
    def noise_scale(self) -> float:
        """The standard deviation of the noise in each number of a release."""
        return self.noise_multiplier * self.l2_sensitivity

    def event(self, releases: int) -> PrivacyEvent:
        """Return what a ledger is charged for so many releases.

        Raises: pydantic's ValidationError for less noise than an event may say.
        """
        return PrivacyEvent(
            mechanism="gaussian",
            l2_sensitivity=self.l2_sensitivity,
            sampling_rate=1.0,
            noise_multiplier=self.noise_multiplier,
            steps=releases,
        )


@dataclass(frozen=True)
class Placement:
    """Where the next release looks: public centres of shape (k, d), and a radius for all of them.

    Guarantees: centres are a read-only copy.
    Raises: InvalidRecordError `clustering.placement_invalid` unless there are 1 to 1,024 centres
        with at least one feature, all numbers within the public bounds, and the radius lies between
        1e-3 and the diameter of what the bounds enclose.
    """

    centres: Floats
    radius: float

    def __post_init__(self) -> None:
        centres = np.array(self.centres, dtype=np.float64)
        is_table = centres.ndim == 2 and 1 <= len(centres) <= MAX_CENTRES and centres.size > 0
        if not (
            is_table
            and bool((np.abs(centres) <= BOUND).all())
            and MIN_RADIUS <= self.radius <= diameter(centres.shape[1])
        ):
            raise InvalidRecordError(
                "clustering.placement_invalid",
                f"a placement has 1 to {MAX_CENTRES} centres within [-{BOUND:g}, {BOUND:g}] and a "
                f"radius from {MIN_RADIUS:g} to the diameter of these bounds",
            )
        centres.flags.writeable = False
        object.__setattr__(self, "centres", centres)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of centres and of features."""
        return self.centres.shape[0], self.centres.shape[1]

    @property
    def release_length(self) -> int:
        """How many numbers a release around it has."""
        return self.shape[0] * (2 * self.shape[1] + 1)


def diameter(features: int) -> float:
    """Return the greatest distance between two points within the public bounds."""
    return 2 * BOUND * math.sqrt(features)


def noise_for_releases(epsilon: float, delta: float, releases: int) -> float:
    """Return the least noise multiplier with which so many releases claim at most `epsilon`.

    Raises: as `noise_multiplier_for`.
    """
    # Plans know this module, and whoever reads one needs no accountant.
    from fedcore.privacy.calibration import noise_multiplier_for

    return noise_multiplier_for(epsilon, delta, releases, 1.0)


def release(rows: Floats, placement: Placement, terms: ReleaseTerms, noise: KeyStream) -> Floats:
    """Return the unit's noised vector, shape (k * (2 * d + 1),): the only thing that leaves it.

    Guarantees: noise of standard deviation `terms.noise_scale` in each number, also for no rows; as
        the module says. Always finite.
    Args: rows of shape (n, d), one for each customer; `noise` a stream of its own for this release.
    Raises: as `clipped_sums`.
    """
    sums = clipped_sums(rows, placement, terms).reshape(-1)
    return sums + noise.normals(sums.size) * terms.noise_scale


def clipped_sums(rows: Floats, placement: Placement, terms: ReleaseTerms) -> Floats:
    """Return the sums before noise, shape (k, 2 * d + 1). They must not leave the unit.

    A centre's block is d sums of offsets, the weighted count, d weighted sums of squares. A row
    with a number that is not finite counts nowhere; others are clipped to the public bounds first.
    Raises: InvalidRecordError `clustering.rows_invalid` for a table of another width.
    """
    count, _ = placement.shape
    places = nearest(rows, placement.centres)
    is_in = places != NOWHERE
    where = places[is_in]
    offsets = _offsets(_bounded(rows[is_in]), placement, where)
    sums = _exact_sums(offsets, where, count)
    squares = _exact_sums(offsets**2, where, count) * terms.square_weight
    counts = np.bincount(where, minlength=count).astype(np.float64) * terms.count_weight
    return np.concatenate([sums, counts[:, None], squares], axis=1)


def nearest(rows: Floats, centres: Floats) -> NDArray[np.intp]:
    """Return the number of each row's nearest centre, shape (n,): its segment, told on the node.

    Guarantees: a function of that row and the centres; the first one of several equally near;
        `NOWHERE` for a row with a number that is not finite. A row outside the public bounds counts
        as the point of their edge next to it.
    Raises: InvalidRecordError `clustering.rows_invalid`.
    """
    if rows.ndim != 2 or rows.shape[1] != centres.shape[1]:
        raise InvalidRecordError(
            "clustering.rows_invalid", "rows must have as many features as the centres"
        )
    found = np.full(len(rows), NOWHERE, dtype=np.intp)
    at_once = max(1, _CELLS // len(centres))
    for start in range(0, len(rows), at_once):
        chunk = slice(start, start + at_once)
        found[chunk] = _nearest(rows[chunk], centres)
    return found


def _nearest(rows: Floats, centres: Floats) -> NDArray[np.intp]:
    is_in = np.asarray(np.isfinite(rows).all(axis=1))
    bounded = _bounded(np.where(is_in[:, None], rows, 0.0))
    # Feature by feature: a sum whose order the shape decides would round by the other rows.
    distances = np.zeros((len(rows), len(centres)))
    for feature in range(centres.shape[1]):
        distances += np.square(bounded[:, feature, None] - centres[None, :, feature])
    return np.where(is_in, distances.argmin(axis=1), NOWHERE)


def _bounded(rows: Floats) -> Floats:
    return np.clip(rows, -BOUND, BOUND)


def _offsets(rows: Floats, placement: Placement, where: NDArray[np.intp]) -> Floats:
    offsets = (rows - placement.centres[where]) / placement.radius
    squares = np.zeros(len(rows))
    for feature in range(rows.shape[1]):
        squares += np.square(offsets[:, feature])
    factors = _SAFETY / np.maximum(np.sqrt(squares), _SAFETY)
    return np.asarray(offsets * factors[:, None])


def _exact_sums(values: Floats, where: NDArray[np.intp], count: int) -> Floats:
    """Return the sums of values at most 1 by place: of whole numbers of the grid, hence exact."""
    whole = np.rint(values * _GRID).astype(np.int64)
    sums = np.zeros((count, values.shape[1]), dtype=np.int64)
    np.add.at(sums, where, whole)
    return sums / _GRID
