"""What a training plan does so that a model differs less between groups of people.

The group of an example is read at the unit, from a field that is no input of the model; whatever is
done with it is in public constants of the plan, is done to the example's own loss, and is bounded
by the clip like all of it. Nothing is charged for it, since nothing but the clipped sum is
released.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.fairness_bindings import SensitiveAttribute, Share
from fedcore.record import Part, Text

_Weight = Annotated[float, Field(ge=1e-3, le=1e3)]
LARGEST_STRENGTH = 100
_Strength = Annotated[float, Field(ge=-LARGEST_STRENGTH, le=LARGEST_STRENGTH)]


class GroupWeight(Part):
    """What the loss of an example of a group, with the label or without it, is multiplied by."""

    group: Text
    positive: bool
    weight: _Weight


class Reweighing(Part):
    """Losses are weighed by group and label, before the gradient is clipped.

    A constant of the plan is public: it is no weight that a unit computes from its rows, which
    would be a release of its own. Who is of no group of the attribute, or of a pair that is not
    named, has the weight 1.
    Reference: Kamiran and Calders (2012), Knowledge and Information Systems 33, section 4.3.
    """

    kind: Literal["reweighing"]
    attribute: SensitiveAttribute
    weights: Annotated[tuple[GroupWeight, ...], Field(min_length=1, max_length=200)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _verify_groups(self.attribute, [(each.group, each.positive) for each in self.weights])
        return self

    def weight(self, group: str, *, positive: bool) -> float:
        """Return the weight of an example."""
        known = {(each.group, each.positive): each.weight for each in self.weights}
        return known.get((group, positive), 1.0)

    def pull(self, group: str) -> float:  # noqa: ARG002
        """Return what the logit of an example is multiplied by and added to its loss: zero."""
        return 0.0


class GroupPenalty(Part):
    """How strongly a group's covariance with the logit is held down, and its public share.

    A positive `strength` lowers the group's scores against those of the rest, a negative one lifts
    them. `share` is a public constant, as from an audit's noised table.
    """

    group: Text
    share: Share
    strength: _Strength


class CovariancePenalty(Part):
    """To each loss is added, for each group that is named, strength * (is of it - share) * logit.

    The mean of that is the covariance of membership and logit, as far as `share` is the group's.
    For a convex loss a fixed strength is the multiplier of a bound on it: every point of the curve
    of bounds is reached by some strength. It is a sum over examples, so that the clip of each one
    bounds it; the square of a covariance is none. Who is of no group of the attribute has no
    penalty.
    Reference: Zafar, Valera, Gomez Rodriguez and Gummadi (2017), arXiv 1507.05259, section 3.
    """

    kind: Literal["covariance"]
    attribute: SensitiveAttribute
    penalties: Annotated[tuple[GroupPenalty, ...], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _verify_groups(self.attribute, [(each.group, True) for each in self.penalties])
        return self

    def weight(self, group: str, *, positive: bool) -> float:  # noqa: ARG002
        """Return the weight of an example: one."""
        return 1.0

    def pull(self, group: str) -> float:
        """Return what the logit of an example is multiplied by and added to its loss."""
        if group not in self.attribute.groups:
            return 0.0
        return sum(each.strength * ((each.group == group) - each.share) for each in self.penalties)


AnyMitigation = Reweighing | CovariancePenalty
Mitigation = Annotated[AnyMitigation, Field(discriminator="kind")]


def group_fields(mitigation: AnyMitigation | None) -> tuple[str, ...]:
    """Return the fields that groups are told apart by, held at the unit only and never inputs."""
    return () if mitigation is None else (mitigation.attribute.name,)


def _verify_groups(attribute: SensitiveAttribute, named: list[tuple[str, bool]]) -> None:
    if len(set(named)) < len(named):
        raise ValueError("mitigation: a group is named twice")
    if not {group for group, _ in named} <= set(attribute.groups):
        raise ValueError("mitigation: groups are those of the attribute")
