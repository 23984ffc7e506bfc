"""Stable ids of segments over retraining: a segment keeps its id as long as its centre stays near.

New centres are given the known ones by optimal assignment; one that is too far from every centre
left over gets an id that no segment ever had.
Reference: Crouse (2016), On implementing 2D rectangular assignment algorithms (scipy's solver).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from fedcore.errors import InvalidRecordError
from fedcore.privacy.noise import Floats


@dataclass(frozen=True)
class Identities:
    """The ids of a version's centres, in the centres' order, and what became of the others.

    `newest` is the greatest id ever given in this line of versions.
    """

    ids: tuple[int, ...]
    added: tuple[int, ...]
    retired: tuple[int, ...]
    newest: int


def identify(
    centres: Floats, known: Mapping[int, Floats], farthest: float, newest: int = 0
) -> Identities:
    """Return the ids of `centres`, given where the known segments were last.

    Guarantees: one id for each centre, none twice; which id a centre gets does not depend on the
        order of centres, where no two are equal; a centre has a known id only within `farthest` of
        where that segment was; the sum of squared distances, with `farthest` squared for each new
        id, is least; new ids are above `newest` and every known one.
    Args: centres of shape (k, d); `farthest` in the units of public bounds.
    Raises: InvalidRecordError `segments.identities_invalid` for known centres of another width, ids
        below 1 or a distance that is not positive.
    """
    if not farthest > 0 or any(
        one < 1 or np.shape(place) != centres.shape[1:] for one, place in known.items()
    ):
        raise InvalidRecordError(
            "segments.identities_invalid",
            "known segments have ids from 1 and centres with the same features, and the farthest "
            "distance is positive",
        )
    order = np.lexsort(centres.T[::-1])
    old = sorted(known)
    found = _assigned(centres[order], [known[one] for one in old], farthest)
    ids, fresh = [0] * len(order), max([newest, *old])
    for place, column in zip(order, found, strict=True):
        is_new = column >= len(old)
        fresh += is_new
        ids[place] = fresh if is_new else old[column]
    added = tuple(sorted(set(ids) - set(old)))
    return Identities(tuple(ids), added, tuple(sorted(set(old) - set(ids))), fresh)


def _assigned(centres: Floats, old: list[Floats], farthest: float) -> list[int]:
    """Return the column of each centre: of a known one, or beyond those, of none."""
    count = len(centres)
    places = np.array(old, dtype=np.float64).reshape(len(old), centres.shape[1])
    distances = np.square(centres[:, None, :] - places[None, :, :]).sum(axis=2)
    far = distances > farthest**2
    costs = np.concatenate([distances, np.full((count, count), farthest**2)], axis=1)
    # Too far is dearer than all new ids together, hence never chosen.
    costs[:, : len(old)][far] = (count + 1) * (farthest**2 + distances.max(initial=0.0))
    rows, columns = linear_sum_assignment(costs)
    return [int(column) for _, column in sorted(zip(rows, columns, strict=True))]
