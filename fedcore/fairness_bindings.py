"""What a DPIA binds about fairness audits besides its thresholds, before training."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from fedcore.record import Part, Text

# Between the attributes of an intersection, and between its groups.
CROSSED = " & "
DEFAULT_ALPHA = 0.05
DEFAULT_MINIMUM_SIZE = 30

Share = Annotated[float, Field(gt=0, lt=1)]
Groups = Annotated[tuple[Text, ...], Field(min_length=2, max_length=100)]
Alpha = Annotated[float, Field(gt=0, le=0.2)]
MinimumSize = Annotated[int, Field(ge=1, le=10_000_000)]


class SensitiveAttribute(Part):
    """An attribute that only the unit holds, and the groups that customers may be of.

    Who is of none of these groups is counted nowhere, so a group for "unknown" belongs among them.
    `special_condition` says which condition of Art. 9(2) GDPR (or which law under Art. 10) allows
    the audit of an attribute of a special category, and why.
    """

    name: Text
    groups: Groups
    special_condition: Text | None = None

    @model_validator(mode="after")
    def _names_are_plain(self) -> Self:
        if len(set(self.groups)) < len(self.groups):
            raise ValueError("groups: each once")
        if any(CROSSED in name for name in (self.name, *self.groups)):
            raise ValueError(f"groups: no name has {CROSSED!r} in it")
        return self


class GroupMerge(Part):
    """Groups of an attribute that count as one."""

    attribute: Text
    groups: Groups
    merged: Text


class FairnessAudit(Part):
    """How an audit is made. Who is compared follows from the attributes, the merges and the bounds.

    Attributes:
        attributes: those whose groups are crossed in the table that each unit counts.
        further_edges: bounds between bands of the score besides the plan's threshold, for
            calibration by group.
        alpha: the rate at which PASS may be wrong, and FAIL.
        minimum_size: with fewer people in a group, or in the rest, their comparison is open.
        merges: groups that count as one in every comparison.
    """

    attributes: Annotated[tuple[SensitiveAttribute, ...], Field(min_length=1, max_length=10)]
    further_edges: Annotated[tuple[Share, ...], Field(min_length=1, max_length=50)] | None = None
    alpha: Alpha | None = None
    minimum_size: MinimumSize | None = None
    merges: Annotated[tuple[GroupMerge, ...], Field(min_length=1, max_length=100)] | None = None
