"""The gate's rules of evaluations: each lets every plan to train pass.

The rules of training plans hold an evaluation as well: they look at the plan of its first model, at
the inputs of all its models, and at the epsilon and delta of the evaluation itself.
"""

from collections.abc import Callable

from fedcore.plans import TrainingPlan
from governance.decisions.facts import GateFacts
from governance.decisions.gate_rule import Rule, make_rule


@make_rule(
    "evaluation.model_unknown",
    "Every model to be evaluated is a registered version, trained by the plan that is named.",
    "Art. 5(2) GDPR; internal control",
)
def _model_unknown(facts: GateFacts) -> str | None:
    if facts.evaluation is None:
        return None
    named = [(model.artifact, model.plan) for model in facts.evaluation.plan.models]
    known = [(model.artifact, model.plan.digest) for model in facts.evaluation.models]
    if named == known and all(model.registered for model in facts.evaluation.models):
        return None
    return "A model is no registered version of the plan that is named with it: register it first."


@make_rule(
    "evaluation.model_withdrawn",
    "No model to be evaluated is withdrawn.",
    "Art. 5(1)(a), 17(1)(c) GDPR; internal control",
)
def _model_withdrawn(facts: GateFacts) -> str | None:
    if facts.evaluation is None or not any(m.withdrawn for m in facts.evaluation.models):
        return None
    return "A model version that is to be evaluated was withdrawn: evaluate another one."


@make_rule(
    "evaluation.terms_differ",
    "All models to be evaluated were trained for one task and purpose, under one contract.",
    "Art. 5(1)(b) GDPR; internal control",
)
def _terms_differ(facts: GateFacts) -> str | None:
    if _agree(facts, lambda plan: (plan.contract, plan.task, plan.purpose)):
        return None
    return "The models' plans differ in contract, task or purpose: compare those of one."


@make_rule(
    "evaluation.units_differ",
    "Every unit that evaluates is one of each model's plan, and lacks the same fields there.",
    "Art. 5(1)(d) GDPR; internal control",
)
def _units_differ(facts: GateFacts) -> str | None:
    if facts.evaluation is None:
        return None
    plans = [model.plan for model in facts.evaluation.models]
    wanted = _absences(facts.plan)
    differing = {
        unit
        for plan in plans
        for unit, absent in wanted.items()
        if _absences(plan).get(unit) != absent
    }
    if not differing:
        return None
    return (
        f"Not the same in each model's plan: {_listed(differing)}; name the model of fewest units "
        "first."
    )


@make_rule(
    "evaluation.no_scores",
    "Every model of whose scores a plan counts scores customers; segments do not.",
    "Art. 5(1)(c) GDPR; internal control",
)
def _no_scores(facts: GateFacts) -> str | None:
    if facts.evaluation is None or facts.evaluation.plan.segments is not None:
        return None
    if all(model.plan.model.is_scoring for model in facts.evaluation.models):
        return None
    return "Segments score nobody: count them by a plan with `segments`, or evaluate another model."


@make_rule(
    "evaluation.no_segments",
    "A plan that counts segments is of a segmentation.",
    "Art. 5(1)(c) GDPR; internal control",
)
def _no_segments(facts: GateFacts) -> str | None:
    if facts.evaluation is None or facts.evaluation.plan.segments is None:
        return None
    if all(model.plan.model.course is not None for model in facts.evaluation.models):
        return None
    return "The plan counts segments, and its model has none: name a segmentation."


@make_rule(
    "evaluation.other_segments",
    "A plan counts the very segments that its model has, in the order of its centres.",
    "Art. 5(1)(d) GDPR; internal control",
)
def _other_segments(facts: GateFacts) -> str | None:
    if facts.evaluation is None or facts.evaluation.plan.segments is None:
        return None
    counted = facts.evaluation.plan.segments.segments
    if all(counted == tuple(model.segments or ()) for model in facts.evaluation.models):
        return None
    return "The plan's segments are not the model's: write the plan from the version's evidence."


@make_rule(
    "evaluation.not_held_out",
    "The rows that tell scores were set aside when each of the models was trained.",
    "Art. 5(1)(d), 35(7)(d) GDPR",
)
def _not_held_out(facts: GateFacts) -> str | None:
    if facts.evaluation is None or facts.evaluation.plan.rows == "all":
        return None
    if facts.evaluation.plan.rows == "holdout":
        same = facts.plan.holdout is not None and _agree(facts, lambda plan: plan.holdout)
        told = "holdout"
    else:
        days = facts.contract is not None and facts.contract.row_day is not None
        told = "train_until, of rows with a day"
        same = days and facts.plan.train_until is not None
        same = same and _agree(facts, lambda plan: plan.train_until)
    if same:
        return None
    return f"The models' plans have no {told}, or not the same: train with rows set aside."


@make_rule(
    "evaluation.too_few_units",
    "An evaluation asks for answers of at most as many units as it has.",
    "Art. 35(7)(d) GDPR",
)
def _too_few_units(facts: GateFacts) -> str | None:
    if facts.evaluation is None or facts.evaluation.plan.minimum_units <= len(facts.plan.units):
        return None
    return f"The first model's plan has {len(facts.plan.units)} units: ask for as many at most."


@make_rule(
    "evaluation.delta_too_large",
    "The delta of an evaluation is at most 1/(10 * public_n) of every unit.",
    "Privacy rules; internal control",
)
def _delta_too_large(facts: GateFacts) -> str | None:
    if facts.evaluation is None:
        return None
    largest = max(terms.public_n for terms in facts.plan.units)
    if facts.evaluation.plan.delta <= 1 / (10 * largest):
        return None
    return f"The delta is above {1 / (10 * largest):.2g}, which the largest unit allows: lower it."


def _agree(facts: GateFacts, told: Callable[[TrainingPlan], object]) -> bool:
    """Return whether the plans of all models that are evaluated say the same."""
    models = () if facts.evaluation is None else facts.evaluation.models
    return all(told(model.plan) == told(facts.plan) for model in models)


def _absences(plan: TrainingPlan) -> dict[str, frozenset[str]]:
    return {terms.unit: frozenset(terms.absent or ()) for terms in plan.units}


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


EVALUATION_RULES: tuple[Rule, ...] = (
    _model_unknown,
    _model_withdrawn,
    _terms_differ,
    _units_differ,
    _no_scores,
    _no_segments,
    _other_segments,
    _not_held_out,
    _too_few_units,
    _delta_too_large,
)
