"""What the default rule picks for a plan: from its units, its contract and a wished epsilon."""

from fedcore import canonical
from fedcore.contracts import Contract
from fedcore.defaults import (
    ROUNDS,
    PublicFacts,
    default_algorithm,
    default_clip,
    default_features,
    default_intervals,
)
from fedcore.encodings import input_names
from fedcore.errors import InvalidRecordError
from fedcore.plans import TrainingPlan
from fedcore.privacy.calibration import noise_multiplier_for
from fedcore.tasks.task import initial_weights, load_task
from fedcore.weights import encode_weights


def suggested(
    plan: TrainingPlan, contract: Contract, epsilon: float, *, keep_features: bool
) -> TrainingPlan:
    """Return the plan with what `fedcore.defaults` picks.

    Raises: InvalidRecordError `plan.rule_unfit` for a plan that the rule is not for,
        `privacy.unreachable_epsilon`, `record.invalid` when a unit lacks what a feature no longer
        imputes; MismatchError as `input_names`; NotFoundError `task.unknown`.
    """
    if plan.model.kind != "logistic" or plan.privacy.local_steps > 1:
        raise InvalidRecordError(
            "plan.rule_unfit", "the default rule is for a logistic model with one local step"
        )
    facts = _facts(plan, epsilon)
    features = plan.features if keep_features else default_features(contract, facts)
    inputs = len(input_names(features, contract))
    clip = default_clip(inputs)
    first = encode_weights(initial_weights(load_task(plan.task), plan.model, inputs))
    stopping = plan.early_stopping
    rounds = stopping.rounds_with_checks(ROUNDS) if stopping else ROUNDS
    noise = noise_multiplier_for(epsilon, plan.privacy.delta, rounds + plan.spare_rounds, 1.0)
    changes = {"l2_clip_norm": clip, "noise_multiplier": noise, "sampling_rate": 1.0}
    found = plan.model_copy(
        update={
            "features": features,
            "initial_model": canonical.digest(first),
            "algorithm": default_algorithm(facts, ROUNDS, clip, may_end_early=stopping is not None),
            "rounds": rounds,
            "privacy": plan.privacy.model_copy(update=changes),
        }
    )
    return TrainingPlan.from_json(found.to_json())


def reasons(plan: TrainingPlan, contract: Contract, epsilon: float) -> list[str]:
    """Return what was picked and from which public facts, a line each."""
    facts = _facts(plan, epsilon)
    sizes, algorithm = facts.public_sizes, plan.averaging
    inputs = len(input_names(plan.features, contract))
    average = f"average of the last {algorithm.average_last}: always"
    if algorithm.average_decay is not None:
        average = f"average with decay {algorithm.average_decay:g}: any round may be the last"
    return [
        f"room {facts.room:.0f}: public sizes of {len(sizes)} units sum to {sum(sizes)}, "
        f"epsilon {epsilon:g}, delta {plan.privacy.delta:g}",
        f"intervals of a numeric field {default_intervals(facts)}: from the room",
        f"inputs {inputs}: from the contract's fields",
        f"clip norm {plan.privacy.l2_clip_norm:g}: from the inputs",
        f"rounds {plan.rounds}, server momentum {algorithm.server_momentum:g}, {average}",
        f"learning rate {algorithm.local_learning_rate:g}: from room, rounds and clip norm",
    ]


def _facts(plan: TrainingPlan, epsilon: float) -> PublicFacts:
    sizes = tuple(unit.public_n for unit in plan.units)
    return PublicFacts(sizes, epsilon, plan.privacy.delta)
