"""Each rule of the gate about evaluations beside its repaired twin, and what holds training."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.canonical import digest
from fedcore.contracts import Contract, ContractField, DayRule, Label, Purpose, SubjectRule
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import DataCategory, LegitimateInterest, PurposeBasis
from fedcore.dpias import Bindings, FairnessBound
from fedcore.evaluations import EvaluatedModel as Named
from fedcore.evaluations import EvaluationPlan, FairnessTerms, GroupField
from fedcore.permits import UnitCertificate
from fedcore.plans import (
    Algorithm,
    Feature,
    Imputation,
    ModelSpec,
    PrivacyTerms,
    TrainingPlan,
    UnitTerms,
)
from fedcore.stops import Stop
from governance.decisions.facts import EvaluatedModel, EvaluationFacts, GateFacts, run_epsilon
from governance.decisions.gate import decide_permit
from governance.decisions.gate_evaluations import EVALUATION_RULES

NOW = datetime(2025, 6, 1, tzinfo=UTC)
UNITS = ("north", "south")
FIRST, SECOND = digest(b"first"), digest(b"second")


def contract(**changes):
    fields = (
        ContractField(name="tenure", kind="numeric", lower=0, upper=72),
        ContractField(name="calls", kind="numeric", lower=0, upper=9, availability="may_be_absent"),
        ContractField(name="age", kind="numeric", lower=0, upper=120, sensitivity="sensitive"),
        ContractField(
            name="origin",
            kind="categorical",
            categories=("a", "b", "c"),
            sensitivity="special",
        ),
        ContractField(name="diet", kind="categorical", categories=("x", "y")),
        ContractField(
            name="secret", kind="categorical", categories=("x", "y"), sensitivity="forbidden"
        ),
        ContractField(
            name="many",
            kind="categorical",
            categories=tuple(f"c{n}" for n in range(101)),
        ),
    )
    values = {
        "contract_id": "telco",
        "version": 1,
        "title": "t",
        "source": "s",
        "subject": SubjectRule(column="id", namespace="crm", normaliser="trim-upper/1"),
        "fields": fields,
        "label": Label(name="churned", positive="Yes", negative="No", horizon_days=30),
        "purposes": (Purpose(id="churn", text="c", basis="legitimate_interests"),),
        "retention_days": 10,
        "row_day": DayRule(column="day", rule="iso-day/1"),
    }
    return Contract(**{**values, **changes})


def dpia(*, condition=None, inventory=(), of=None, **bindings):
    interest = LegitimateInterest(interest="i", necessity="n", balance="b")
    values = {
        "task": "churn",
        "purposes": ("churn",),
        "contract": (of or contract()).digest,
        "features": ("tenure", "calls", "diet"),
        "units": UNITS,
        "privacy_modes": ("local",),
        "epsilon_cap": 3.0,
        "delta_cap": 1e-5,
        "minimum_units": 2,
    }
    purpose = PurposeBasis(
        purpose="churn",
        text="t",
        basis="legitimate_interests",
        legitimate_interest=interest,
        special_condition=condition,
    )
    return Dpia(
        dpia_id="d",
        version=1,
        title="t",
        purposes=(purpose,),
        inventory=inventory,
        bindings=Bindings(**{**values, **bindings}),
        valid_until=NOW + timedelta(days=1),
    )


def training(**changes):
    values = {
        "title": "p",
        "task": "churn",
        "purpose": "churn",
        "contract": contract().digest,
        "features": (Feature(field="tenure", encoding="scale"),),
        "units": tuple(UnitTerms(unit=unit, public_n=1536) for unit in UNITS),
        "minimum_units": 2,
        "model": ModelSpec(kind="logistic"),
        "initial_model": contract().digest,
        "algorithm": Algorithm(local_learning_rate=1.0),
        "rounds": 2,
        "privacy": PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, delta=1e-5),
        "holdout": 0.2,
        "train_until": date(2025, 1, 1),
    }
    return TrainingPlan(**{**values, **changes})


def certificates():
    return {
        unit: UnitCertificate(
            unit=unit,
            node_key="ab" * 32,
            size_band=1024,
            enrolment=contract().digest,
            issued_at=NOW,
        )
        for unit in UNITS
    }


def facts_of(*plans, **changes):
    """Good facts of an evaluation of as many models as there are training plans."""
    models = tuple(
        EvaluatedModel(artifact, plan, registered=True, withdrawn=False)
        for artifact, plan in zip((FIRST, SECOND), plans, strict=False)
    )
    values = {
        "title": "e",
        "models": tuple(Named(artifact=m.artifact, plan=m.plan.digest) for m in models),
        "rows": "holdout",
        "epsilon": 1.0,
        "delta": 1e-5,
        "minimum_units": 2,
    }
    evaluation = EvaluationFacts(EvaluationPlan(**{**values, **changes}), models)
    return GateFacts(
        plan=plans[0],
        author_known=True,
        contract=contract(),
        dpia=dpia(),
        dpia_state="in_force",
        certificates=certificates(),
        now=NOW,
        kind="evaluate",
        evaluation=evaluation,
    )


def good():
    return facts_of(training(), training(title="challenger"))


def with_model(**changes):
    """Good facts in which the second model is another one than it was."""
    facts = good()
    first, second = facts.evaluation.models
    changed = replace(facts.evaluation, models=(first, replace(second, **changes)))
    return replace(facts, evaluation=changed)


def grouped(*fields, **changes):
    terms = FairnessTerms(fields=fields, threshold=0.5)
    return replace(facts_of(training(), fairness=terms), **changes)


def by(field, **changes):
    return GroupField(field=field, **changes)


def inventory(special):
    category = DataCategory(
        id="diet",
        category="c",
        fields=("diet",),
        special_category=special,
        source="s",
        subjects="s",
        volume_band="v",
        retention_days=1,
        recipients=(),
    )
    return (category,)


def absent_at_south(**changes):
    units = (
        UnitTerms(unit="north", public_n=1536),
        UnitTerms(unit="south", public_n=1536, absent=("calls",)),
    )
    imputed = Imputation(impute=1.0, indicator=True)
    features = (
        Feature(field="tenure", encoding="scale"),
        Feature(field="calls", encoding="scale", absent=imputed),
    )
    return training(units=units, features=features, **changes)


@dataclass(frozen=True)
class Fault:
    """Bad facts, the code that follows from them, and the twin that is as it must be."""

    code: str
    facts: GateFacts
    repaired: GateFacts


def fault(code, facts, repaired=None):
    return Fault(code, facts, repaired or good())


DAYLESS = contract(row_day=None)
DAYLESS_FACTS = replace(
    facts_of(training(contract=DAYLESS.digest), rows="out_of_time"),
    contract=DAYLESS,
    dpia=dpia(of=DAYLESS),
)
WITH_DAYS = facts_of(training(holdout=None), rows="out_of_time")
CONSENT = "Explicit consent, Art. 9(2)(a)"
BOUND = tuple(
    FairnessBound(attribute=attribute, metric="demographic_parity_difference", largest_gap=0.1)
    for attribute in ("origin", "diet & age")
)
BASED = {"dpia": dpia(condition=CONSENT, fairness=BOUND)}
NORTH = (UnitTerms(unit="north", public_n=1536),)
FAULTS = [
    fault("evaluation.model_unknown", with_model(registered=False)),
    fault("evaluation.model_unknown", with_model(artifact=digest(b"other"))),
    fault("evaluation.model_unknown", with_model(plan=training(title="other"))),
    fault("evaluation.model_withdrawn", with_model(withdrawn=True)),
    fault("evaluation.terms_differ", facts_of(training(), training(task="response"))),
    fault("evaluation.terms_differ", facts_of(training(), training(purpose="survey"))),
    fault("evaluation.terms_differ", facts_of(training(), training(contract=FIRST))),
    fault(
        "evaluation.units_differ",
        facts_of(training(), training(units=NORTH, minimum_units=1)),
        facts_of(
            training(),
            training(units=(*training().units, UnitTerms(unit="west", public_n=96))),
        ),
    ),
    fault(
        "evaluation.units_differ",
        facts_of(absent_at_south(), training()),
        facts_of(absent_at_south(), absent_at_south(title="other")),
    ),
    fault("evaluation.not_held_out", facts_of(training(holdout=None), training(title="c"))),
    fault("evaluation.not_held_out", facts_of(training(), training(holdout=None))),
    fault("evaluation.not_held_out", facts_of(training(), training(holdout=0.25))),
    fault(
        "evaluation.not_held_out",
        facts_of(training(train_until=None), rows="out_of_time"),
        WITH_DAYS,
    ),
    fault(
        "evaluation.not_held_out",
        facts_of(training(), training(train_until=date(2025, 2, 1)), rows="out_of_time"),
        facts_of(training(), training(title="c"), rows="out_of_time"),
    ),
    fault("evaluation.not_held_out", DAYLESS_FACTS, WITH_DAYS),
    fault(
        "evaluation.too_few_units",
        facts_of(training(), minimum_units=3),
        facts_of(training(), minimum_units=2),
    ),
    fault(
        "evaluation.delta_too_large",
        replace(facts_of(training(), delta=1e-4), dpia=dpia(delta_cap=1e-3)),
        replace(facts_of(training(), delta=6e-5), dpia=dpia(delta_cap=1e-3)),
    ),
    fault("fairness.field_unknown", grouped(by("age", edges=(30.0,)), by("shoe_size"))),
    fault(
        "fairness.field_unknown",
        grouped(by("age", edges=(30.0,)), by("age", edges=(60.0,))),
        grouped(by("age", edges=(30.0, 60.0))),
    ),
    fault("fairness.field_forbidden", grouped(by("secret")), grouped(by("diet"))),
    fault(
        "fairness.field_is_input",
        grouped(by("tenure", edges=(12.0,))),
        grouped(by("age", edges=(12.0,))),
    ),
    fault("fairness.groups_unfit", grouped(by("age")), grouped(by("age", edges=(60.0,)))),
    fault(
        "fairness.groups_unfit",
        grouped(by("many", merged=(("c0", "c1"),)), by("age", edges=tuple(range(1, 51)))),
        grouped(by("many", merged=(("c0", "c1"),)), by("age", edges=tuple(range(1, 41)))),
    ),
    fault("fairness.groups_unfit", grouped(by("age", edges=(60.0, 30.0)))),
    fault("fairness.groups_unfit", grouped(by("age", edges=(60.0, 120.0)))),
    fault("fairness.groups_unfit", grouped(by("age", edges=(60.0,), merged=(("a",),)))),
    fault("fairness.groups_unfit", grouped(by("diet", edges=(1.0,))), grouped(by("diet"))),
    fault("fairness.groups_unfit", grouped(by("diet", merged=(("x", "y"),)))),
    fault(
        "fairness.groups_unfit",
        grouped(by("origin", merged=(("a", "z"),)), **BASED),
        grouped(by("origin", merged=(("a", "b"),)), **BASED),
    ),
    fault("fairness.groups_unfit", grouped(by("origin", merged=(("a",), ("a", "b"))), **BASED)),
    fault(
        "fairness.groups_unfit",
        grouped(by("many"), by("diet")),
        grouped(by("many", merged=(("c0", "c1"),)), by("diet")),
    ),
    fault("fairness.no_basis", grouped(by("origin")), grouped(by("origin"), **BASED)),
    fault(
        "fairness.no_basis",
        grouped(by("origin"), dpia=dpia(condition="None is claimed.", fairness=BOUND)),
        grouped(by("origin"), dpia=dpia(condition="See Art. 9(2)(j).", fairness=BOUND)),
    ),
    fault(
        "fairness.no_basis",
        grouped(by("origin"), dpia=dpia(condition=CONSENT)),
        grouped(by("origin"), dpia=dpia(condition=CONSENT, fairness=BOUND[:1])),
    ),
    fault(
        "fairness.no_basis",
        grouped(by("origin"), dpia=dpia(condition=CONSENT, fairness=BOUND[1:])),
    ),
    fault(
        "fairness.no_basis",
        grouped(by("diet"), dpia=dpia(inventory=inventory("health"), fairness=BOUND)),
        grouped(
            by("diet"),
            dpia=dpia(inventory=inventory("health"), condition=CONSENT, fairness=BOUND),
        ),
    ),
    fault(
        "fairness.no_basis",
        grouped(by("diet"), dpia=dpia(inventory=inventory("health"))),
        grouped(by("diet"), dpia=dpia(inventory=inventory(None))),
    ),
]
by_code = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code)


def codes_of(facts):
    return tuple(code for code, _ in decide_permit(facts))


def test_good_facts_of_one_model_or_two_pass_every_rule():
    assert codes_of(good()) == codes_of(facts_of(training())) == ()


@by_code
def test_one_bad_fact_of_an_evaluation_refuses_and_its_twin_does_not(fault):
    refusals = decide_permit(fault.facts)
    assert tuple(code for code, _ in refusals) == (fault.code,)
    assert all(sentence.endswith(".") for _, sentence in refusals)
    assert decide_permit(fault.repaired) == ()


def test_every_rule_of_evaluations_has_a_fault_that_trips_it():
    assert {rule.code for rule in EVALUATION_RULES} == {fault.code for fault in FAULTS}


def test_the_rules_of_evaluations_let_every_plan_to_train_pass():
    facts = replace(good(), kind="train", evaluation=None)
    assert decide_permit(facts) == ()
    assert decide_permit(replace(facts, plan=training(holdout=None, train_until=None))) == ()


# What holds a plan to train holds an evaluation, each by the rule of its own.
HELD = {
    "stop.in_force": replace(
        good(),
        stops=(
            Stop(
                sequence=1,
                scope="unit",
                subject="north",
                reason="r",
                stopped_by="dora",
                stopped_at=NOW,
            ),
        ),
    ),
    "plan.author_unknown": replace(good(), author_known=False),
    "contract.unknown": replace(good(), contract=None),
    "dpia.missing": replace(good(), dpia=None, dpia_state=None),
    "dpia.not_in_force": replace(good(), dpia_state="suspended"),
    "dpia.expired": replace(good(), dpia_state="expired"),
    "dpia.task_differs": replace(good(), dpia=dpia(task="response")),
    "dpia.contract_differs": replace(good(), dpia=dpia(contract=FIRST)),
    "dpia.purpose_not_covered": replace(good(), dpia=dpia(purposes=("survey",))),
    "dpia.unit_not_covered": replace(good(), dpia=dpia(units=("north",))),
    "dpia.too_few_units": replace(good(), dpia=dpia(minimum_units=3)),
    "dpia.delta_cap_exceeded": replace(good(), dpia=dpia(delta_cap=1e-6)),
    "unit.not_enrolled": replace(good(), certificates={}),
    "unit.revoked": replace(good(), revoked_units=frozenset({"south"})),
}


@pytest.mark.parametrize("code", HELD)
def test_what_holds_a_plan_to_train_holds_an_evaluation(code):
    assert code in codes_of(HELD[code])


def test_the_inputs_of_the_second_model_are_held_as_well():
    second = training(features=(Feature(field="age", encoding="scale"),))
    assert codes_of(facts_of(training(), second)) == (
        "contract.sensitive_input",
        "dpia.feature_not_covered",
    )


def test_the_epsilon_of_the_evaluation_counts_and_not_that_of_the_training():
    loud = training(privacy=PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=0.5, delta=1e-5))
    assert run_epsilon(loud) > 3.0
    assert codes_of(facts_of(loud)) == ()
    assert codes_of(facts_of(training(), epsilon=4.0)) == ("dpia.epsilon_cap_exceeded",)
    spare = facts_of(training(), epsilon=1.0, spare_exchanges=5)
    assert codes_of(spare) == ("dpia.epsilon_cap_exceeded",)


def test_an_evaluation_at_exactly_its_cap_passes_and_a_hair_above_does_not():
    facts = good()
    epsilon = run_epsilon(facts.charged)
    assert codes_of(replace(facts, dpia=dpia(epsilon_cap=epsilon))) == ()
    below = replace(facts, dpia=dpia(epsilon_cap=epsilon * (1 - 1e-6)))
    assert codes_of(below) == ("dpia.epsilon_cap_exceeded",)


@pytest.mark.parametrize("kind", ["train", "score"])
def test_a_permit_of_another_kind_is_not_served_for_an_evaluation(kind):
    assert codes_of(replace(good(), kind=kind)) == ("permit.kind_not_served",)


@given(st.lists(st.sampled_from(FAULTS), min_size=1, max_size=3), st.sampled_from(list(HELD)))
def test_more_bad_facts_never_turn_a_refusal_into_a_yes(faults, held):
    changed = {
        name: getattr(HELD[held], name)
        for name in good().__dataclass_fields__
        if getattr(HELD[held], name) != getattr(good(), name)
    }
    for each in faults:
        assert decide_permit(replace(each.facts, **changed)) != ()


@given(st.floats(0.01, 5.0), st.floats(0.01, 5.0), st.integers(0, 10), st.integers(0, 10))
def test_less_noise_or_more_exchanges_never_help(one, other, spare, more):
    low, high = sorted((one, other))
    few, many = sorted((spare, more))
    worse = facts_of(training(), epsilon=high, spare_exchanges=many)
    better = facts_of(training(), epsilon=low, spare_exchanges=few)
    if not decide_permit(worse):
        assert not decide_permit(better)


def test_the_digest_of_the_facts_changes_with_each_fact_of_an_evaluation():
    others = [
        good(),
        replace(good(), evaluation=None),
        facts_of(training(), training(title="challenger"), epsilon=0.5),
        with_model(artifact=digest(b"other")),
        with_model(plan=training(title="other")),
        with_model(registered=False),
        with_model(withdrawn=True),
    ]
    assert len({facts.digest for facts in others}) == len(others)
