"""What a DPIA binds about fairness audits besides its thresholds, before training."""

import re
from bisect import bisect_right
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.record import Part, Text

# Between the attributes of an intersection, and between its groups.
CROSSED = " & "
# The group of those of whom it is not known, where an attribute declares it.
UNKNOWN = "unknown"
DEFAULT_ALPHA = 0.05
DEFAULT_MINIMUM_SIZE = 30
DEFAULT_THRESHOLD = 0.5

Share = Annotated[float, Field(gt=0, lt=1)]
Groups = Annotated[tuple[Text, ...], Field(min_length=2, max_length=100)]
Alpha = Annotated[float, Field(gt=0, le=0.2)]
MinimumSize = Annotated[int, Field(ge=1, le=10_000_000)]
Edges = Annotated[tuple[float, ...], Field(min_length=1, max_length=99)]
_POINT = re.compile(r"Art\. ?9\(2\) ?\(([a-j])\)")


def special_point_of(condition: str | None) -> str | None:
    """Return the point of Art. 9(2) GDPR, a letter, that a condition names as in "Art. 9(2)(a)", or
    None: words alone could say that no condition is claimed.
    """
    found = _POINT.search(condition or "")
    return found[1] if found else None


class SensitiveAttribute(Part):
    """An attribute that only the unit holds, and the groups that customers may be of.

    The name is that of a field of the contract. Of a categorical field the groups are its
    categories. Of a numeric one they are the intervals between `edges`, from the lowest, and may
    have any names; a value on an edge is in the interval above it. A group "unknown", the last one
    of a numeric field, holds those whose cell is empty; without it they are counted nowhere.
    `special_condition` says which point of Art. 9(2) GDPR allows the audit of an attribute of a
    special category, and why.
    """

    name: Text
    groups: Groups
    special_condition: Text | None = None
    edges: Edges | None = None

    @model_validator(mode="after")
    def _names_are_plain(self) -> Self:
        if len(set(self.groups)) < len(self.groups):
            raise ValueError("groups: each once")
        if any(CROSSED in name for name in (self.name, *self.groups)):
            raise ValueError(f"groups: no name has {CROSSED!r} in it")
        return self

    @model_validator(mode="after")
    def _one_group_for_each_interval(self) -> Self:
        if self.edges is None:
            return self
        if any(left >= right for left, right in pairwise(self.edges)):
            raise ValueError("edges: rise")
        known = self.groups[:-1] if self.groups[-1] == UNKNOWN else self.groups
        if len(known) != len(self.edges) + 1 or UNKNOWN in known:
            raise ValueError("groups: one for each interval between edges, and last the unknown")
        return self

    def group_of(self, cell: str | float | None) -> str:
        """Return the group of who has this in the field; one that is none of `groups` counts
        nowhere.
        """
        if cell is None:
            return UNKNOWN
        if self.edges is None:
            return str(cell)
        return self.groups[bisect_right(self.edges, float(cell))]


Use = Literal["training", "decision"]
LargestWeight = Annotated[float, Field(ge=1, le=1e3)]
LargestStrength = Annotated[float, Field(gt=0, le=100)]


class AttributeUse(Part):
    """What a sensitive attribute may be used for, besides being audited, so that a model differs
    less between its groups: in `training`, where the unit weighs or penalises an example by its
    group; in a `decision`, where each group has a threshold of its own. It is an input of no model.

    `special_condition` says which point of Art. 9(2) GDPR allows these uses of an attribute of a
    special category, and why. Of training the sizes are bound: weights are within
    `largest_weight` and one over it, and are 1 without it; strengths of a penalty are within
    `largest_strength` on both sides of zero, and there is no penalty without it.
    """

    attribute: Text
    uses: Annotated[tuple[Use, ...], Field(min_length=1, max_length=2)]
    special_condition: Text | None = None
    largest_weight: LargestWeight | None = None
    largest_strength: LargestStrength | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.uses)) < len(self.uses):
            raise ValueError("uses: each once")
        return self


class GroupMerge(Part):
    """Groups of an attribute that count as one."""

    attribute: Text
    groups: Groups
    merged: Text


class AuditTerms(Part):
    """How an audit is made. Who is compared follows from the attributes, the merges and the bounds.

    Attributes:
        attributes: those whose groups are crossed in the table that each unit counts.
        threshold: customers with a score of at least this are selected. It is bound, too: at a
            threshold that selects nobody, or everybody, all groups are treated alike.
        further_edges: bounds between bands of the score besides the threshold, for calibration by
            group.
        alpha: the rate at which PASS may be wrong, and FAIL.
        minimum_size: with fewer people in a group, or in the rest, their comparison is open.
        merges: groups that count as one in every comparison.
    """

    attributes: Annotated[tuple[SensitiveAttribute, ...], Field(min_length=1, max_length=10)]
    threshold: Share | None = None
    further_edges: Annotated[tuple[Share, ...], Field(min_length=1, max_length=50)] | None = None
    alpha: Alpha | None = None
    minimum_size: MinimumSize | None = None
    merges: Annotated[tuple[GroupMerge, ...], Field(min_length=1, max_length=100)] | None = None
