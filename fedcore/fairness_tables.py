"""Tables of outcomes by sensitive group: how they are counted, laid out on the wire and summed.

A unit counts its held-out customers in one finest table: by cell (one group of every declared
attribute), by band of the score, and by label. It is a flat tuple of integers, so that what leaves
the node has a public shape. Everything else (a group, the rest, true positives) is a sum of its
entries (PRIVACY.md, rule 9), and a sum of noised entries holds as many noises as it has entries.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import SensitiveAttribute, Share
from fedcore.record import Part

# A table of more entries would be noise: each entry has its own.
MAX_ENTRIES = 20_000
# Above all people and all noise, and so far below 2**63 that the sum of all entries fits.
LARGEST_COUNT = 2**48

Mask = NDArray[np.bool_]


class CrossedGroups(Part):
    """Attributes whose groups are crossed in a table: one cell for one group of each.

    Cells are in the order of the declaration, the last attribute's groups running fastest.
    """

    attributes: Annotated[tuple[SensitiveAttribute, ...], Field(min_length=1, max_length=10)]

    @model_validator(mode="after")
    def _each_attribute_once(self) -> Self:
        names = [attribute.name for attribute in self.attributes]
        if len(set(names)) < len(names):
            raise ValueError("attributes: each once")
        return self

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """Every cell, as its group of each attribute, in the order of the wire."""
        return tuple(itertools.product(*(attribute.groups for attribute in self.attributes)))

    @property
    def cell_count(self) -> int:
        """The number of cells."""
        return math.prod(len(attribute.groups) for attribute in self.attributes)

    def groups_of(self, name: str) -> tuple[str, ...]:
        """Return the groups of an attribute. Raises: InvalidRecordError `fairness.unknown_group`
        when it is not of this table.
        """
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute.groups
        raise InvalidRecordError(
            "fairness.unknown_group", f"the table has no attribute {name!r}: declare it in the plan"
        )

    def cells_where(self, chosen: Mapping[str, Sequence[str]]) -> Mask:
        """Return which cells belong to one of the chosen groups of every attribute named.

        Raises: InvalidRecordError `fairness.unknown_group` for what is not declared.
        """
        for name, groups in chosen.items():
            unknown = set(groups) - set(self.groups_of(name))
            if unknown:
                raise InvalidRecordError(
                    "fairness.unknown_group", f"{name!r} has no group {min(unknown)!r} in the table"
                )
        cells = np.arange(self.cell_count)
        found, fastest = cells >= 0, self.cell_count
        for attribute in self.attributes:
            fastest //= len(attribute.groups)
            wanted = chosen.get(attribute.name, attribute.groups)
            is_wanted = np.array([group in wanted for group in attribute.groups])
            found &= is_wanted[cells // fastest % len(attribute.groups)]
        return found

    def places_of(self, groups: Sequence[Sequence[str]]) -> NDArray[np.int64]:
        """Return each customer's cell by its place, below zero for whose group is not declared.

        Args: for each attribute in order, the customers' groups, all of one length.
        """
        cells = np.zeros(len(groups[0]), dtype=np.int64)
        known = np.ones(len(groups[0]), dtype=np.bool_)
        for attribute, column in zip(self.attributes, groups, strict=True):
            order = {group: place for place, group in enumerate(attribute.groups)}
            places = np.array([order.get(group, -1) for group in column], dtype=np.int64)
            cells, known = cells * len(order) + places, known & (places >= 0)
        return np.where(known, cells, -1)


class TableLayout(CrossedGroups):
    """The public shape of a table: the same at all units, fixed before anybody counts.

    The wire holds, for each cell, for each band of the score from the lowest, the customers with a
    negative label and then those with a positive one. A score on an edge is in the band above it.
    Without further edges a cell is (TN, FN, FP, TP).

    Attributes:
        attributes: those whose groups are crossed.
        threshold: customers with a score of at least this are selected.
        further_edges: more bounds between bands of the score, for calibration by group. Each one
            puts more noise into every rate that is summed over bands.
    """

    threshold: Share
    further_edges: Annotated[tuple[Share, ...], Field(max_length=50)] = ()

    @model_validator(mode="after")
    def _is_one_table(self) -> Self:
        if len(set(self.further_edges) - {self.threshold}) < len(self.further_edges):
            raise ValueError("further_edges: each once, and not the threshold")
        if self.length > MAX_ENTRIES:
            raise ValueError(f"attributes: the table would have more than {MAX_ENTRIES} entries")
        return self

    @property
    def edges(self) -> tuple[float, ...]:
        """The bounds between bands, rising."""
        return tuple(sorted((self.threshold, *self.further_edges)))

    @property
    def bands(self) -> int:
        """The number of bands of the score."""
        return len(self.further_edges) + 2

    @property
    def length(self) -> int:
        """The number of entries on the wire."""
        return self.cell_count * self.bands * 2

    @property
    def selected_bands(self) -> Mask:
        """Which bands lie at or above the threshold."""
        return np.arange(self.bands) > self.edges.index(self.threshold)


class NoisedCount(NamedTuple):
    """A sum of noised entries, and the number of discrete Laplace variables in it."""

    value: int
    terms: int


@dataclass(frozen=True)
class GroupTable:
    """The sum of the tables that units sent.

    Attributes:
        layout: their public shape.
        counts: one noised number for each entry.
        units: how many tables were summed: each entry holds so many noises.
        epsilon: of each unit's noise on each entry, exp(-epsilon |x|) in shape; None when there is
            no noise, as in a unit's own audit on its own rows.
    """

    layout: TableLayout
    counts: tuple[int, ...]
    units: int
    epsilon: float | None

    def __post_init__(self) -> None:
        """Raises: InvalidRecordError `fairness.table_invalid`."""
        if len(self.counts) != self.layout.length or self.units < 1:
            raise _invalid(f"a table of this layout has {self.layout.length} entries, from a unit")
        if self.epsilon is not None and not 0 < self.epsilon < math.inf:
            raise _invalid("epsilon must be a positive number")

    @cached_property
    def _entries(self) -> NDArray[np.int64]:
        """The counts of each cell, of shape (cells, bands * 2)."""
        return np.array(self.counts, dtype=np.int64).reshape(self.layout.cell_count, -1)

    def count(self, cells: Mask, outcomes: Mask) -> NoisedCount:
        """Return how many customers are in these cells with one of these outcomes.

        Args: `cells` as `cells_where` gives them; `outcomes` of shape (bands, 2), with the negative
        label in column 0, or one such for each cell, of shape (cells, bands, 2).
        """
        entries = cells[:, None] & outcomes.reshape(-1, self._entries.shape[1])
        noises = 0 if self.epsilon is None else int(entries.sum()) * self.units
        return NoisedCount(int(self._entries[entries].sum()), noises)


def count_outcomes(
    layout: TableLayout,
    customers: Sequence[str],
    groups: Sequence[Sequence[str]],
    labels: ArrayLike,
    scores: ArrayLike,
) -> tuple[int, ...]:
    """Return a unit's table, before noise.

    Guarantees: with one customer more or less, one entry moves by at most 1 (L1 sensitivity 1): of
        a customer who comes twice only the first entry counts. No customer's place depends on other
        customers. Whose group is not declared, or whose score is no number, is counted nowhere.
    Args: one entry for each held-out customer: who it is; for each attribute of the layout, in its
        order, the customers' groups; labels, of which those above 0 are positive; scores.
    Raises: InvalidRecordError `fairness.table_invalid` when these do not have one length.
    """
    positives, found = np.asarray(labels) > 0, np.asarray(scores, dtype=np.float64)
    lengths = {len(positives), len(found), *(len(column) for column in groups)}
    if lengths != {len(customers)} or len(groups) != len(layout.attributes):
        raise _invalid("customers, groups, labels and scores must have one length")
    cells = layout.places_of(groups)
    counted = np.isfinite(found) & (cells >= 0)
    seen: dict[str, int] = {}
    first = [seen.setdefault(customer, at) == at for at, customer in enumerate(customers)]
    counted &= np.array(first, dtype=np.bool_)
    entries = (cells * layout.bands + np.searchsorted(layout.edges, found, "right")) * 2 + positives
    counts = np.bincount(entries[counted], minlength=layout.length)
    return tuple(int(count) for count in counts)


def sum_tables(
    layout: TableLayout, tables: Sequence[Sequence[int]], epsilon: float | None
) -> GroupTable:
    """Return the sum of the tables of several units, each with noise of the same `epsilon`.

    Raises: InvalidRecordError `fairness.table_invalid` as `add_counts`.
    """
    return GroupTable(layout, add_counts(layout.length, tables), len(tables), epsilon)


def add_counts(length: int, tables: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the sums of the entries of several units' tables of one length.

    Guarantees: parts of a table can be added in 64 bits without turning into another number.
    Raises: InvalidRecordError `fairness.table_invalid` when there is no table, one has another
        shape, or a sum is beyond `LARGEST_COUNT` either way.
    """
    if not tables or any(len(table) != length for table in tables):
        raise _invalid(f"each unit's table must have {length} entries")
    counts = tuple(sum(entries) for entries in zip(*tables, strict=True))
    if any(abs(count) > LARGEST_COUNT for count in counts):
        raise _invalid(f"what is counted must be within -{LARGEST_COUNT} and {LARGEST_COUNT}")
    return counts


def shown_counts(table: GroupTable, least: int) -> tuple[int | None, ...]:
    """Return the entries for people to see: None where the noised number is below `least`.

    Guarantees: a function of noised numbers alone, so that showing it costs nothing (PRIVACY.md,
        rule 23). Whether an entry is shown says nothing that the released table does not.
    """
    return tuple(count if count >= least else None for count in table.counts)


def _invalid(rule: str) -> InvalidRecordError:
    return InvalidRecordError("fairness.table_invalid", f"{rule}: count again by the plan's layout")
