"""A plan that finds segments, from any other plan of the same units and contract."""

from collections.abc import Sequence

from fedcore import canonical
from fedcore.clusterings import CourseSpec
from fedcore.contracts import Contract
from fedcore.errors import InvalidRecordError
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan
from fedcore.privacy.clustering import noise_for_releases
from fedcore.tasks.task import first_model
from fedcore.weights import encode_weights

TASK = "segmentation"


def segmented(
    plan: TrainingPlan, contract: Contract, epsilon: float, course: CourseSpec
) -> TrainingPlan:
    """Return the plan with centres for a model, and the least noise with which it claims `epsilon`.

    Its features are those fields of the plan that are numbers and at every unit: on a log scale
    where the plan has them so, else on their public bounds. Nobody is set aside, for segments are
    not evaluated.
    Raises: InvalidRecordError `plan.no_segments` when no such field is left,
        `privacy.unreachable_epsilon`, `record.invalid`.
    """
    features = segment_features(plan, contract)
    if not features:
        raise InvalidRecordError(
            "plan.no_segments", "no feature of the plan is a number that every unit has"
        )
    model, releases = ModelSpec(kind="centres", course=course), course.terms.releases
    noise = noise_for_releases(epsilon, plan.delta, releases + plan.spare_rounds)
    first = encode_weights(first_model(TASK, model, len(features)))
    privacy = PrivacyTerms(
        l2_clip_norm=course.l2_sensitivity, noise_multiplier=noise, delta=plan.delta
    )
    changes = {
        "title": f"Segments: {plan.title}",
        "task": TASK,
        "features": features,
        "units": tuple(unit.model_copy(update={"absent": None}) for unit in plan.units),
        "model": model,
        "initial_model": canonical.digest(first),
        "algorithm": None,
        "rounds": releases,
        "privacy": privacy,
        "holdout": None,
        "metric_floors": None,
        "mitigation": None,
        "early_stopping": None,
    }
    return TrainingPlan.from_json(plan.model_copy(update=changes).to_json())


def segment_features(plan: TrainingPlan, contract: Contract) -> tuple[Feature, ...]:
    """Return the plan's fields that centres can lie among, in the plan's order."""
    lacking = {field for unit in plan.units for field in unit.absent or ()}
    in_log = {feature.field for feature in plan.features if feature.encoding == "log"}
    found: list[Feature] = []
    for name in dict.fromkeys(feature.field for feature in plan.features):
        field = contract.field_by_name.get(name)
        if field is None or field.kind != "numeric" or name in lacking:
            continue
        found.append(
            Feature(
                field=name,
                encoding="log" if name in in_log else "scale",
                absent=None if field.availability is None else "leave_out",
            )
        )
    return tuple(found)


def left_out(plan: TrainingPlan, features: Sequence[Feature]) -> list[str]:
    """Return the plan's fields that are no features of its segments, by name."""
    kept = {feature.field for feature in features}
    return sorted({feature.field for feature in plan.features} - kept)
