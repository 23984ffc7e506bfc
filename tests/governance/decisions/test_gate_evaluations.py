"""Each rule of the gate about evaluations and audits beside its repaired twin, and what holds
training.
"""

import importlib.util
import sys
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.canonical import digest
from fedcore.fairness_bindings import AuditTerms, SensitiveAttribute
from fedcore.plans import (
    Feature,
    PrivacyTerms,
    UnitTerms,
)
from fedcore.stops import Stop
from governance.decisions.facts import GateFacts, OutstandingAudit, run_epsilon
from governance.decisions.gate import decide_permit
from governance.decisions.gate_evaluations import EVALUATION_RULES
from governance.decisions.gate_fairness import FAIRNESS_RULES

FILE = Path(__file__).with_name("evaluated.py")
SPEC: Any = importlib.util.spec_from_file_location("decisions_evaluated", FILE)
made: Any = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = made
SPEC.loader.exec_module(made)
contract, dpia, training, of_segments, certificates = (
    made.contract,
    made.dpia,
    made.training,
    made.of_segments,
    made.certificates,
)
facts_of, good, with_model, bound, origin = (
    made.facts_of,
    made.good,
    made.with_model,
    made.bound,
    made.origin,
)
inventory, audited, grouped, shared, segmented = (
    made.inventory,
    made.audited,
    made.grouped,
    made.shared,
    made.segmented,
)
beside = made.beside
crossed, absent_at_south, replace_groups, conditioned, bands, merging = (
    made.crossed,
    made.absent_at_south,
    made.replace_groups,
    made.conditioned,
    made.bands,
    made.merging,
)
NOW, FIRST, AGE, DIET, CONSENT = made.NOW, made.FIRST, made.AGE, made.DIET, made.CONSENT
DENIED = made.DENIED


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
BASED = {"condition": CONSENT}
UNBOUND = audited(DIET, fairness=None, fairness_audit=None)
STRICTER = audited(DIET, fairness=(bound("diet").model_copy(update={"largest_gap": 0.05}),))
TENURE = SensitiveAttribute(name="tenure", groups=("new", "old"), edges=(12.0,))
WITH_BASIS = shared(origin(CONSENT), of=segmented(origin(CONSENT), **BASED))
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
    fault("evaluation.no_scores", facts_of(training(), of_segments())),
    fault(
        "evaluation.no_scores",
        facts_of(of_segments()),
        shared(rows="holdout", plan=of_segments()),
    ),
    fault("evaluation.no_segments", shared(plan=training()), shared()),
    fault("evaluation.other_segments", shared(DIET, found=(1, 2)), shared(DIET)),
    fault(
        "evaluation.other_segments", shared(found=(2, 1, 3)), shared(ids=(2, 1, 3), found=[2, 1, 3])
    ),
    fault("evaluation.other_segments", shared(found=None), shared()),
    fault(
        "evaluation.not_held_out",
        shared(rows="holdout"),
        shared(rows="holdout", plan=of_segments()),
    ),
    fault("fairness.not_bound", shared(DIET, of=dpia(inventory=inventory("diet"))), shared(DIET)),
    fault("fairness.not_bound", shared(DIET, of=audited(DIET)), grouped(DIET)),
    fault("fairness.not_bound", grouped(DIET, of=segmented(DIET)), shared(DIET)),
    fault("fairness.not_bound", shared(DIET, ids=(1,), found=(1,)), shared(ids=(1,), found=(1,))),
    fault(
        "fairness.not_bound",
        shared(
            DIET,
            of=segmented(
                DIET, fairness_audit=AuditTerms(attributes=(DIET,), further_edges=(0.25,))
            ),
        ),
    ),
    fault("fairness.not_bound", crossed("age & calls", "diet"), crossed("age & calls")),
    fault(
        "fairness.not_bound",
        crossed("age & calls", "diet", scores=True),
        crossed("age & calls", scores=True),
    ),
    fault("fairness.differs_from_dpia", shared(DIET, of=segmented(DIET, AGE)), shared(DIET, AGE)),
    fault("fairness.bound_later", shared(DIET, before=dpia()), shared(DIET)),
    fault("fairness.field_is_input", shared(TENURE), shared(AGE)),
    fault("fairness.no_basis", shared(origin(CONSENT)), WITH_BASIS),
    fault("fairness.noise_too_wide", shared(DIET, epsilon=2e-5), shared(DIET)),
    fault(
        "fairness.noise_too_wide",
        shared(epsilon=1e-5, ids=tuple(range(1, 100)), found=tuple(range(1, 100))),
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
    fault("fairness.not_bound", grouped(DIET, of=UNBOUND, before=audited(DIET)), grouped(DIET)),
    fault("fairness.not_bound", grouped(DIET, of=audited(DIET, fairness=None))),
    fault(
        "fairness.not_bound",
        grouped(DIET, of=audited(DIET, fairness=(bound("diet & age"),))),
        grouped(DIET, AGE, of=audited(DIET, AGE, fairness=(bound("diet & age"),))),
    ),
    fault("fairness.differs_from_dpia", grouped(DIET, of=audited(DIET, AGE)), grouped(DIET, AGE)),
    fault("fairness.differs_from_dpia", grouped(AGE, DIET, of=audited(DIET, AGE))),
    fault(
        "fairness.differs_from_dpia",
        grouped(replace_groups(DIET, ("y", "x")), of=audited(DIET)),
    ),
    fault(
        "fairness.differs_from_dpia",
        grouped(AGE.model_copy(update={"edges": (50.0,)}), of=audited(AGE)),
    ),
    fault(
        "fairness.differs_from_dpia",
        grouped(DIET, further_edges=(0.25,)),
        grouped(DIET, further_edges=(0.25,), of=bands(0.25)),
    ),
    fault(
        "fairness.differs_from_dpia",
        grouped(DIET, threshold=0.99),
        grouped(DIET, threshold=0.99, of=bands(threshold=0.99)),
    ),
    fault(
        "fairness.differs_from_dpia",
        grouped(DIET, further_edges=(0.75,), of=bands(0.5, threshold=0.75)),
        grouped(DIET, threshold=0.75, further_edges=(0.5,), of=bands(0.5, threshold=0.75)),
    ),
    fault("fairness.bound_later", grouped(DIET, before=dpia()), grouped(DIET)),
    fault("fairness.bound_later", grouped(DIET, before=STRICTER), grouped(DIET, of=STRICTER)),
    fault(
        "fairness.bound_later",
        grouped(AGE, of=merging("old", "unknown"), before=audited(AGE)),
        grouped(AGE, of=merging("old", "unknown")),
    ),
    fault("fairness.audit_outstanding", beside(OutstandingAudit("a", False, False)), beside()),
    fault("fairness.audit_outstanding", beside(OutstandingAudit("a", True, False))),
    fault("fairness.audit_outstanding", beside(OutstandingAudit("a", True, True))),
    fault("fairness.noise_too_wide", grouped(DIET, epsilon=2e-5), grouped(DIET, epsilon=1e-2)),
    fault(
        "fairness.not_in_inventory", grouped(DIET, of=audited(DIET, inventory=())), grouped(DIET)
    ),
    fault(
        "fairness.field_unknown",
        grouped(SensitiveAttribute(name="shoe_size", groups=("s", "l"))),
        grouped(DIET),
    ),
    fault(
        "fairness.field_forbidden",
        grouped(SensitiveAttribute(name="secret", groups=("x", "y"))),
        grouped(DIET),
    ),
    fault(
        "fairness.field_is_input",
        grouped(TENURE),
        grouped(AGE),
    ),
    fault("fairness.groups_unfit", grouped(replace_groups(AGE, ("0", "1"))), grouped(AGE)),
    fault("fairness.groups_unfit", grouped(AGE.model_copy(update={"edges": (120.0,)}))),
    fault(
        "fairness.groups_unfit",
        grouped(DIET.model_copy(update={"edges": (1.0,)})),
        grouped(DIET),
    ),
    fault(
        "fairness.groups_unfit",
        grouped(replace_groups(DIET, ("x", "unknown"))),
        grouped(replace_groups(DIET, ("x", "y", "unknown"))),
    ),
    fault("fairness.groups_unfit", grouped(replace_groups(DIET, ("x", "y", "z")))),
    fault(
        "fairness.no_basis",
        grouped(origin(), of=audited(origin(), **BASED)),
        grouped(origin(CONSENT), of=audited(origin(CONSENT), **BASED)),
    ),
    fault("fairness.no_basis", grouped(origin(CONSENT), of=audited(origin(CONSENT)))),
    fault(
        "fairness.no_basis",
        grouped(origin(CONSENT), of=audited(origin(CONSENT), condition=DENIED)),
        grouped(origin(CONSENT), of=audited(origin(CONSENT), condition="See Art. 9(2)(j).")),
    ),
    fault("fairness.no_basis", grouped(origin(DENIED), of=audited(origin(DENIED), **BASED))),
    fault(
        "fairness.no_basis",
        grouped(
            origin(CONSENT),
            DIET,
            of=audited(origin(CONSENT), DIET, fairness=(bound("diet"),), **BASED),
        ),
        grouped(
            origin(CONSENT),
            DIET,
            of=audited(origin(CONSENT), DIET, fairness=(bound("diet & origin"),), **BASED),
        ),
    ),
    fault(
        "fairness.no_basis",
        grouped(DIET, of=audited(DIET, inventory=inventory("diet", special="health"), **BASED)),
        grouped(
            conditioned(DIET),
            of=audited(conditioned(DIET), inventory=inventory("diet", special="health"), **BASED),
        ),
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
    rules = {rule.code for rule in (*EVALUATION_RULES, *FAIRNESS_RULES)}
    assert rules == {fault.code for fault in FAULTS}


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
        with_model(audit_bound=FIRST),
        with_model(segments=(1, 2)),
        with_model(segments=(2, 1)),
    ]
    assert len({facts.digest for facts in others}) == len(others)
