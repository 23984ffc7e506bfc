"""The gate's rule of plans that keep the ids of an earlier version's segments."""

from dataclasses import dataclass

from fedcore.contracts import Contract
from fedcore.plans import Feature, TrainingPlan
from governance.decisions.facts import GateFacts
from governance.decisions.gate_rule import Rule, make_rule


@dataclass(frozen=True)
class _Axis:
    """What decides what the numbers of one feature mean. What becomes of units that lack its field
    is no part of it, but for the input that says so.
    """

    feature: Feature
    has_absent_indicator: bool
    public: tuple[object, ...] | None


@make_rule(
    "plan.other_segments",
    "The version whose segments the plan continues is registered and has the same inputs: names, "
    "encodings, units of measure and bounds, in order, in the same embedding if in any.",
    "Art. 5(1)(d) GDPR; internal control",
)
def _other_segments(facts: GateFacts) -> str | None:
    course = facts.plan.model.course
    if course is None or course.continues is None or facts.contract is None:
        return None
    space = space_of(facts.plan, facts.contract)
    earlier = [
        each
        for each in facts.continued
        if each.artifact == course.continues.artifact and each.plan.model.course is not None
    ]
    if any(space_of(each.plan, each.contract) == space for each in earlier):
        return None
    if not earlier:
        return "No registered version of segments has the bytes that the plan continues: name one."
    return (
        "The version whose segments the plan continues has other inputs, or lies in another "
        "embedding: continue one with the same features in the same order, or none."
    )


def space_of(plan: TrainingPlan, contract: Contract) -> tuple[object, ...]:
    """Return what decides what the numbers of a plan's centres mean: equal for two plans exactly
    when these are told in the same inputs, on the same public scales, in the same embedding.
    """
    course = plan.model.course
    axes = tuple(_axis(feature, contract) for feature in plan.features)
    return axes, None if course is None else course.embedding


def _axis(feature: Feature, contract: Contract) -> _Axis:
    field = contract.field_by_name.get(feature.field)
    public = None
    if field is not None:
        scale = (field.kind, field.unit, field.lower, field.upper, field.categories)
        public = (*scale, field.missing_value, field.missing_category)
    plain = feature.model_copy(update={"absent": None})
    return _Axis(plain, feature.absent_indicator, public)


CONTINUATION_RULES: tuple[Rule, ...] = (_other_segments,)
