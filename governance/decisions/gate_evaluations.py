"""The gate's rules of evaluations: each lets every plan to train pass.

The rules of training plans hold an evaluation as well: they look at the plan of its first model, at
the inputs of all its models, and at the epsilon and delta of the evaluation itself.
"""

from collections.abc import Callable, Iterator

from fedcore.contracts import ContractField
from fedcore.dpia_record import AnyDpia, Dpia
from fedcore.errors import MismatchError
from fedcore.evaluations import GroupField
from fedcore.group_layouts import layout_of
from fedcore.plans import TrainingPlan
from governance.decisions.facts import EvaluationFacts, GateFacts
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
    "evaluation.not_held_out",
    "The rows of an evaluation were set aside when each of its models was trained.",
    "Art. 5(1)(d), 35(7)(d) GDPR",
)
def _not_held_out(facts: GateFacts) -> str | None:
    if facts.evaluation is None:
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


@make_rule(
    "fairness.field_unknown",
    "Every field that groups are told apart by is one of the contract, and is named once.",
    "Art. 5(1)(c), 25(1) GDPR",
)
def _fairness_field_unknown(facts: GateFacts) -> str | None:
    if facts.evaluation is None or facts.evaluation.plan.fairness is None:
        return None
    named = [group.field for group in facts.evaluation.plan.fairness.fields]
    if len(set(named)) == len(named) and len(list(_grouped(facts))) == len(named):
        return None
    return "Groups are told apart by a field that the contract does not have, or twice by one."


@make_rule(
    "fairness.field_forbidden",
    "No field that groups are told apart by is forbidden by the contract.",
    "Art. 5(1)(c), 6(1) GDPR",
)
def _fairness_field_forbidden(facts: GateFacts) -> str | None:
    forbidden = {field.name for _, field in _grouped(facts) if field.sensitivity == "forbidden"}
    if not forbidden:
        return None
    return f"The contract forbids to use: {_listed(forbidden)}; leave it out."


@make_rule(
    "fairness.field_is_input",
    "No field that groups are told apart by is an input of a model to be evaluated.",
    "Art. 5(1)(c), 25(1) GDPR",
)
def _fairness_field_is_input(facts: GateFacts) -> str | None:
    inputs = {feature.field for feature in facts.features}
    both = {field.name for _, field in _grouped(facts)} & inputs
    if not both:
        return None
    return f"An input and a group's field at once: {_listed(both)}; train without it."


@make_rule(
    "fairness.groups_unfit",
    "Groups are made of a field's own categories, or between edges inside its public bounds.",
    "Art. 5(1)(d) GDPR; internal control",
)
def _fairness_groups_unfit(facts: GateFacts) -> str | None:
    terms = None if facts.evaluation is None else facts.evaluation.plan.fairness
    if facts.contract is None or terms is None or _fairness_field_unknown.objection(facts):
        return None
    try:
        layout_of(terms, facts.contract)
    except MismatchError as error:
        return f"{error.public[:1].upper()}{error.public[1:]}."
    return None


@make_rule(
    "fairness.no_basis",
    "Groups of a special category are counted only if the DPIA names the point of Art. 9(2) that "
    "allows it, and binds what may differ between them.",
    "Art. 9(2) GDPR",
)
def _fairness_no_basis(facts: GateFacts) -> str | None:
    if facts.dpia is None:
        return None
    assessed = _special_in(facts.dpia)
    special = {
        field.name
        for _, field in _grouped(facts)
        if field.sensitivity == "special" or field.name in assessed
    }
    if _has_condition(facts.dpia, facts.plan.purpose):
        special -= _bound_in(facts.dpia)
    if not special:
        return None
    return (
        f"A special category: {_listed(special)}; have the DPIA bind its fairness and name a point "
        'in `special_condition` of the purpose, as in "Art. 9(2)(a)", or leave it out.'
    )


def _agree(facts: GateFacts, told: Callable[[TrainingPlan], object]) -> bool:
    """Return whether the plans of all models that are evaluated say the same."""
    models = () if facts.evaluation is None else facts.evaluation.models
    return all(told(model.plan) == told(facts.plan) for model in models)


def _absences(plan: TrainingPlan) -> dict[str, frozenset[str]]:
    return {terms.unit: frozenset(terms.absent or ()) for terms in plan.units}


def _grouped(facts: GateFacts) -> Iterator[tuple[GroupField, ContractField]]:
    """Yield each field that groups are told apart by and that the contract has."""
    evaluation: EvaluationFacts | None = facts.evaluation
    if evaluation is None or evaluation.plan.fairness is None or facts.contract is None:
        return
    known = facts.contract.field_by_name
    for group in evaluation.plan.fairness.fields:
        if group.field in known:
            yield group, known[group.field]


def _has_condition(dpia: AnyDpia, purpose: str) -> bool:
    return isinstance(dpia, Dpia) and any(
        each.purpose == purpose and each.special_point is not None for each in dpia.purposes
    )


def _bound_in(dpia: AnyDpia) -> frozenset[str]:
    """Return the attributes that the DPIA sets bounds for, alone or crossed with others."""
    bounds = dpia.bindings.fairness or ()
    return frozenset(name.strip() for bound in bounds for name in bound.attribute.split("&"))


def _special_in(dpia: AnyDpia) -> frozenset[str]:
    """Return the fields that the DPIA calls special, whatever the contract calls them."""
    if not isinstance(dpia, Dpia):
        return frozenset()
    special = (each for each in dpia.inventory if each.special_category is not None)
    return frozenset(field for each in special for field in each.fields)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


EVALUATION_RULES: tuple[Rule, ...] = (
    _model_unknown,
    _model_withdrawn,
    _terms_differ,
    _units_differ,
    _not_held_out,
    _too_few_units,
    _delta_too_large,
    _fairness_field_unknown,
    _fairness_field_forbidden,
    _fairness_field_is_input,
    _fairness_groups_unfit,
    _fairness_no_basis,
)
