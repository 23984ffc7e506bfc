"""Whether a segmentation parts groups of people within the thresholds of a DPIA.

A group's share of a segment's people is compared with its share of everybody in the other segments
together, segment by segment: no segment is the reference of another, and a tiny one can set none.
The verdict is that of `fedcore.fairness`, over these comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from fedcore.dpias import Bindings, FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.fairness import FairnessResult, GapBounds, decide
from fedcore.fairness_tables import Mask
from fedcore.fairness_terms import (
    SEGMENT_METRIC,
    FairnessTerms,
    but_other,
    declared_groups,
    not_bound,
    terms_of,
    verify_comparable,
)
from fedcore.noised_rates import NoisedRate
from fedcore.record import first_problem
from fedcore.segments.groups import SegmentLayout, SegmentTable


@dataclass(frozen=True)
class SegmentComparison:
    """The share of one group in one segment against that in all others."""

    bound: FairnessBound
    group: str
    cells: Mask
    place: int
    name: str


def segment_audit_of(
    bindings: Bindings, segments: Sequence[int]
) -> tuple[SegmentLayout, FairnessTerms]:
    """Return the table and the terms that a DPIA binds, for a model of these segments.

    Guarantees: the table has every attribute and group that the terms name, and there is something
        to compare, but no more than `MAX_COMPARISONS`.
    Raises: InvalidRecordError `fairness.not_bound`, also for edges of scores, which segments have
        not, and for more comparisons; `fairness.unknown_group`, also for one segment, which has no
        others.
    """
    audit, terms = terms_of(bindings, (SEGMENT_METRIC,))
    if audit.further_edges is not None:
        raise not_bound("further_edges: segments have no score")
    try:
        layout = SegmentLayout(attributes=audit.attributes, segments=tuple(segments))
    except ValidationError as error:
        raise not_bound(first_problem(error)) from error
    segment_comparisons(layout, terms)
    return layout, terms


def segment_comparisons(
    layout: SegmentLayout, terms: FairnessTerms
) -> tuple[SegmentComparison, ...]:
    """Return every comparison that the terms declare: by bound, group, and segment.

    Of two groups each is the other's rest, and of two segments each is the other one's others, so
    that only the first is compared.
    Guarantees: at most `MAX_COMPARISONS`, which are counted before any is made.
    Raises: InvalidRecordError `fairness.unknown_group`, `fairness.not_bound`.
    """
    if len(layout.segments) < 2:
        raise InvalidRecordError(
            "fairness.unknown_group", "there is one segment: nothing to compare"
        )
    segments = but_other(list(enumerate(layout.segments)))
    verify_comparable(layout, terms, {SEGMENT_METRIC: len(segments)})
    return tuple(
        SegmentComparison(bound, group, cells, place, f"share_of_segment_{number}")
        for bound in terms.bounds
        for group, cells in but_other(
            list(declared_groups(layout, terms.merges, bound.attribute).items())
        )
        for place, number in segments
    )


def compare_segments(table: SegmentTable, terms: FairnessTerms) -> FairnessResult:
    """Return the verdict on a summed table of groups by segments under the terms of a DPIA.

    Guarantees: as `fedcore.fairness.decide_fairness`. A comparison is open with too few people in
        the segment, in the others, in the group, or outside it: a segment that hardly anybody is
        in, or ten people of a group, show nothing either way. That few of a group are in a segment
        is what may be wrong, and no reason to be silent.
    Raises: InvalidRecordError `fairness.unknown_group`.
    """
    found = segment_comparisons(table.layout, terms)
    return decide([_gap(table, one) for one in found], terms)


def _gap(table: SegmentTable, one: SegmentComparison) -> GapBounds:
    here, everybody = table.layout.only(one.place), table.layout.everybody
    anywhere = here | ~here
    return GapBounds(
        bound=one.bound,
        group=one.group,
        name=one.name,
        rates=(
            NoisedRate(table.count(one.cells, here), table.count(~one.cells, here)),
            NoisedRate(table.count(one.cells, ~here), table.count(~one.cells, ~here)),
        ),
        sizes=(
            table.count(everybody, here),
            table.count(everybody, ~here),
            table.count(one.cells, anywhere),
            table.count(~one.cells, anywhere),
        ),
        epsilon=table.epsilon,
    )
