"""The course of a clustering run: which releases it asks for, one after the other.

One release around the middle of the public bounds says where the rows are. Many centres, spread
evenly there, are then moved, given up and halved for some releases, until every segment has at
least one; seeding is what fails, not noise. They are merged to the segments, which are refined; the
last release describes them. All releases have the same event, and share one budget.

Guarantees: the next placement is a function of the course's terms and the last noised sums.
"""

from dataclasses import dataclass

import numpy as np

from fedcore.errors import InvalidRecordError
from fedcore.privacy.clustering import BOUND, MAX_CENTRES, Placement
from fedcore.segments.merging import Bounds, choose_count, merge_path
from fedcore.segments.noised import NoisedSums
from fedcore.segments.placing import (
    DESCRIBING_SHARE,
    RADIUS_SHARE,
    respread,
    settled,
    spread_placement,
    weighted,
    whole_placement,
    within_radius,
)


@dataclass(frozen=True)
class CourseTerms:
    """The public numbers of a run: how many segments, with how many centres and releases.

    `spread` is with how many centres segments are searched.
    Raises: InvalidRecordError `clustering.terms_invalid` unless most < spread <= 1024 and there are
        at least 1 search and 1 refinement.
    """

    segments: Bounds
    spread: int
    searches: int = 3
    refinements: int = 2

    def __post_init__(self) -> None:
        if not (
            self.segments.most < self.spread <= MAX_CENTRES
            and self.searches >= 1
            and self.refinements >= 1
        ):
            raise InvalidRecordError(
                "clustering.terms_invalid",
                "a course begins with more centres than segments and at most 1024, and has at "
                "least 1 search and 1 refinement",
            )

    @property
    def releases(self) -> int:
        """How many releases a unit makes in all: what is reserved."""
        return 1 + self.searches + self.refinements + 1


@dataclass(frozen=True)
class Leg:
    """Where a course is: how many releases are behind it, and where the next one looks."""

    done: int
    placement: Placement


def first_leg(features: int) -> Leg:
    """Return the beginning, which knows only how many features there are."""
    return Leg(0, whole_placement(features))


def next_leg(leg: Leg, noised: NoisedSums, terms: CourseTerms) -> Leg:
    """Return where the course goes from the sums released around `leg.placement`.

    Raises: InvalidRecordError `clustering.course_over` after the last release.
    """
    done = leg.done + 1
    if done >= terms.releases:
        raise InvalidRecordError("clustering.course_over", "the course has made all its releases")
    if done == 1:
        return Leg(done, spread_placement(noised, terms.spread))
    if done <= terms.searches:
        return Leg(done, Placement(respread(noised, terms.spread), within_radius(noised)))
    if done == 1 + terms.searches:
        return Leg(done, _merged(noised, terms))
    share = DESCRIBING_SHARE if done == terms.releases - 1 else RADIUS_SHARE
    return Leg(done, Placement(settled(noised), within_radius(noised, share)))


def _merged(noised: NoisedSums, terms: CourseTerms) -> Placement:
    found = weighted(noised)
    path = merge_path(found)
    costs, scatter = [merge.cost for merge in path], float(noised.scatters[noised.is_found].sum())
    count = choose_count(costs, scatter, noised.placement.shape[1], terms.segments)
    steps = path[: max(0, len(found) - count)]
    centres = steps[-1].left.centres if steps else found.centres
    added = sum(costs[: len(steps)])
    # Shares add up to 1 but for rounding, which must not carry a mean past the public bounds.
    within = np.clip(np.asarray(centres), -BOUND, BOUND)
    return Placement(within, within_radius(noised, added=added))
