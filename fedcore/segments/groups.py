"""Which groups of people are in which segment, from one noised table of groups by segments.

A unit counts each customer in one entry: the cell of groups that they are of, and the segment that
they are in. Each entry gets discrete Laplace noise at the unit, and the sum over units says how
large a group's share is of each segment, against its share of all other segments together: a tiny
segment cannot set the reference.

Guarantees: what is derived is a function of noised numbers and of what was declared beforehand;
    what is hidden is hidden by noised numbers alone (PRIVACY.md, rule 23).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import (
    DEFAULT_ALPHA,
    DEFAULT_MINIMUM_SIZE,
    GroupMerge,
    SensitiveAttribute,
)
from fedcore.fairness_tables import MAX_ENTRIES, CrossedGroups, Mask, NoisedCount, add_counts
from fedcore.fairness_terms import declared_groups
from fedcore.noised_rates import Interval, NoisedRate, difference_bounds, rate_bounds
from fedcore.privacy.clustering import NOWHERE

# Of more segments nobody reads the shares, and whoever asks for their intervals would wait.
MAX_SEGMENTS = 100
SegmentId = Annotated[int, Field(ge=1, le=2**53 - 1)]


class SegmentLayout(CrossedGroups):
    """The public shape of a table of groups by segments, fixed before anybody counts.

    The wire holds, for each cell, the customers in each segment, in the order of `segments`: the
    stable ids in the order of the model's centres. Without attributes there is one cell, which is
    everybody: the table then tells sizes alone.
    """

    attributes: Annotated[tuple[SensitiveAttribute, ...], Field(max_length=10)] = ()
    segments: Annotated[tuple[SegmentId, ...], Field(min_length=1, max_length=MAX_SEGMENTS)]

    @model_validator(mode="after")
    def _is_one_table(self) -> Self:
        if len(set(self.segments)) < len(self.segments):
            raise ValueError("segments: each once")
        if self.length > MAX_ENTRIES:
            raise ValueError(f"attributes: the table would have more than {MAX_ENTRIES} entries")
        return self

    @property
    def everybody(self) -> Mask:
        """All cells."""
        return np.ones(self.cell_count, dtype=np.bool_)

    def only(self, place: int) -> Mask:
        """Return which segments are the one at this place."""
        found: Mask = np.arange(len(self.segments)) == place
        return found

    @property
    def length(self) -> int:
        """The number of entries on the wire."""
        return self.cell_count * len(self.segments)


@dataclass(frozen=True)
class SegmentTable:
    """The sum of the tables that units sent.

    Attributes:
        layout: their public shape.
        counts: one noised number for each entry.
        units: how many tables were summed: each entry holds so many noises.
        epsilon: of each unit's noise on each entry; None when there is no noise, as in a unit's own
            table of its own rows.
    """

    layout: SegmentLayout
    counts: tuple[int, ...]
    units: int
    epsilon: float | None

    @cached_property
    def _entries(self) -> NDArray[np.int64]:
        """The counts of each cell, of shape (cells, segments)."""
        return np.array(self.counts, dtype=np.int64).reshape(self.layout.cell_count, -1)

    def count(self, cells: Mask, segments: Mask) -> NoisedCount:
        """Return how many customers of these cells are in these segments."""
        entries = np.outer(cells, segments)
        noises = 0 if self.epsilon is None else int(entries.sum()) * self.units
        return NoisedCount(int(self._entries[entries].sum()), noises)


@dataclass(frozen=True)
class GroupTerms:
    """How a table is told, declared beforehand.

    Attributes:
        attributes: whose groups are told; several with " & " between them for their intersection.
        alpha: all intervals of shares hold together with probability 1 - alpha, and so do all of
            gaps.
        minimum_size: with fewer people in a group's part of a segment, or in the segment's rest,
            by the noised numbers, nothing is told of it.
        merges: groups that count as one.
    """

    attributes: tuple[str, ...]
    alpha: float = DEFAULT_ALPHA
    minimum_size: int = DEFAULT_MINIMUM_SIZE
    merges: tuple[GroupMerge, ...] = ()


@dataclass(frozen=True)
class GroupShare:
    """What a table says of one group in one segment; all is None where too few people are.

    Attributes:
        count: the noised number of the group's people in the segment.
        share: the group's share of the segment's people, by noised numbers.
        interval: of that share in the population.
        gap: of that share minus the group's share of everybody in other segments; None where there
            is no other segment.
    """

    attribute: str
    group: str
    segment: int
    count: int | None = None
    share: float | None = None
    interval: Interval | None = None
    gap: Interval | None = None


def count_segments(
    layout: SegmentLayout, groups: Sequence[Sequence[str]], places: NDArray[np.intp]
) -> tuple[int, ...]:
    """Return a unit's table, before noise: it must not leave the unit.

    Guarantees: with one customer more or less, one entry moves by 1 (L1 sensitivity 1); no
        customer's entry depends on other customers. Whose group is not declared, or who is in no
        segment, is counted nowhere.
    Args: one entry for each customer: for each attribute of the layout, in its order, the group;
        the place of the nearest centre, as `clustering.nearest` gives it.
    Raises: InvalidRecordError `fairness.table_invalid` when these do not have one length.
    """
    lengths = {len(places), *(len(column) for column in groups)}
    if len(lengths) != 1 or len(groups) != len(layout.attributes):
        raise _invalid("groups and segments must have one length")
    cells = layout.places_of(groups) if groups else np.zeros(len(places), dtype=np.int64)
    counted = (cells >= 0) & (places != NOWHERE)
    entries = cells[counted] * len(layout.segments) + places[counted]
    return tuple(int(count) for count in np.bincount(entries, minlength=layout.length))


def sum_segment_tables(
    layout: SegmentLayout, tables: Sequence[Sequence[int]], epsilon: float | None
) -> SegmentTable:
    """Return the sum of the tables of several units, each with noise of the same `epsilon`.

    Raises: InvalidRecordError `fairness.table_invalid` as `add_counts`, or when epsilon is not
        positive.
    """
    counts = add_counts(layout.length, tables)
    if epsilon is not None and not 0 < epsilon < float("inf"):
        raise _invalid("epsilon must be a positive number")
    return SegmentTable(layout, counts, len(tables), epsilon)


def share_groups(table: SegmentTable, terms: GroupTerms) -> tuple[GroupShare, ...]:
    """Return what the table says of each group in each segment, in the order of declaration.

    Guarantees: pure. Over sampling and noise (as far as `noised_rates` keeps its rate) all
        intervals of shares hold together with probability 1 - alpha at least, whichever of them
        are hidden, and so do all of gaps (Bonferroni).
    Raises: InvalidRecordError `fairness.unknown_group` for what the layout does not have.
    """
    declared = [
        (attribute, group, cells)
        for attribute in terms.attributes
        for group, cells in declared_groups(table.layout, terms.merges, attribute).items()
    ]
    tail = terms.alpha / (2 * max(1, len(declared) * len(table.layout.segments)))
    return tuple(
        _share(table, (attribute, group, cells), place, (tail, terms.minimum_size))
        for attribute, group, cells in declared
        for place in range(len(table.layout.segments))
    )


def _share(
    table: SegmentTable, of: tuple[str, str, Mask], place: int, limits: tuple[float, int]
) -> GroupShare:
    attribute, group, cells = of
    tail, least = limits
    here = table.layout.only(place)
    inside = NoisedRate(table.count(cells, here), table.count(~cells, here))
    told = GroupShare(attribute, group, table.layout.segments[place])
    if min(inside.hits.value, inside.misses.value) < least:
        return told
    outside = NoisedRate(table.count(cells, ~here), table.count(~cells, ~here))
    share, within = inside.value or 0.0, rate_bounds(inside, table.epsilon, tail)
    return GroupShare(
        attribute=attribute,
        group=group,
        segment=told.segment,
        count=inside.hits.value,
        share=share,
        # The noised share may be beyond what is likely, where noise is much.
        interval=Interval(min(within.low, share), max(within.high, share)),
        gap=None if here.all() else difference_bounds(inside, outside, table.epsilon, tail),
    )


def _invalid(rule: str) -> InvalidRecordError:
    return InvalidRecordError("fairness.table_invalid", f"{rule}: count again by the plan's layout")
