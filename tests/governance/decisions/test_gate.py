"""Each rule of the gate beside its repaired twin, and the gate as a whole."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import FeatureReview
from fedcore.dpias import Bindings
from fedcore.learning_rules import Algorithm
from fedcore.permits import UnitCertificate, public_n_of
from fedcore.plans import Feature, Imputation, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.stops import Stop
from fedcore.version import VERSION
from governance.decisions.facts import GateFacts, choose_dpia, run_epsilon
from governance.decisions.gate import RULE_VERSION, RULES, decide_permit
from governance.decisions.gate_continuations import CONTINUATION_RULES
from governance.decisions.gate_evaluations import EVALUATION_RULES
from governance.decisions.gate_fairness import FAIRNESS_RULES
from governance.decisions.gate_mitigation import MITIGATION_RULES
from governance.exports.rules import rules_page

NOW = datetime(2025, 6, 1, tzinfo=UTC)
UNITS = ("north", "south")


def contract(**changes):
    values = {
        "contract_id": "telco",
        "version": 1,
        "title": "t",
        "source": "s",
        "subject": SubjectRule(column="id", namespace="crm", normaliser="trim-upper/1"),
        "fields": (
            ContractField(name="tenure", kind="numeric", lower=0, upper=72),
            ContractField(name="religion", kind="numeric", lower=0, upper=9, sensitivity="special"),
            ContractField(
                name="calls", kind="numeric", lower=0, upper=9, availability="may_be_absent"
            ),
        ),
        "label": Label(name="churned", positive="Yes", negative="No", horizon_days=30),
        "purposes": (Purpose(id="churn", text="c", basis="consent"),),
        "retention_days": 10,
    }
    return Contract(**{**values, **changes})


def bindings(**changes):
    values = {
        "task": "churn",
        "purposes": ("churn", "survey"),
        "contract": contract().digest,
        "features": ("tenure", "religion", "shoe_size", "calls"),
        "units": UNITS,
        "privacy_modes": ("local",),
        "epsilon_cap": 3.0,
        "delta_cap": 1e-5,
        "minimum_units": 2,
    }
    return Bindings(**{**values, **changes})


def dpia(**changes):
    values = {
        "dpia_id": "d",
        "version": 1,
        "title": "t",
        "bindings": bindings(),
        "valid_until": NOW + timedelta(days=1),
    }
    return Dpia(**{**values, **changes})


def reviewed(verdict):
    """A DPIA that has looked at the plan's input, and at a field that is none."""
    found = {"tenure": verdict, "shoe_size": "proxy"}
    return dpia(
        minimisation=tuple(
            FeatureReview(field=field, verdict=said, reason="r") for field, said in found.items()
        )
    )


def plan(**changes):
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
    }
    return TrainingPlan(**{**values, **changes})


def certificates(band=1024):
    return {
        unit: UnitCertificate(
            unit=unit,
            node_key="ab" * 32,
            size_band=band,
            enrolment=contract().digest,
            issued_at=NOW,
        )
        for unit in UNITS
    }


def good():
    return GateFacts(plan(), True, contract(), dpia(), "in_force", certificates(), NOW)


def stop(scope="all", subject=None):
    return Stop(
        sequence=1, scope=scope, subject=subject, reason="r", stopped_by="dora", stopped_at=NOW
    )


def stopped(scope="all", subject=None):
    return replace(good(), stops=(stop("unit", "elsewhere"), stop(scope, subject)))


def privacy(**changes):
    values = {"l2_clip_norm": 1.0, "noise_multiplier": 8.0, "delta": 1e-5}
    return PrivacyTerms(**{**values, **changes})


def features(field, absent=None):
    return (Feature(field=field, encoding="scale", absent=absent),)


def imputed(constant):
    return Imputation(impute=constant, indicator=True)


@dataclass(frozen=True)
class Fault:
    """A change of good facts, and the codes that follow from it."""

    codes: tuple[str, ...]
    facts: GateFacts


FAULTS = [
    Fault(("permit.kind_not_served",), replace(good(), kind="evaluate")),
    Fault(("permit.kind_not_served",), replace(good(), kind="score")),
    Fault(("stop.in_force",), stopped()),
    Fault(("stop.in_force",), stopped("unit", "north")),
    Fault(("stop.in_force",), stopped("purpose", "churn")),
    Fault(("stop.in_force",), stopped("dpia", "d")),
    Fault(("plan.author_unknown",), replace(good(), author_known=False)),
    Fault(("plan.initial_model_withdrawn",), replace(good(), initial_model_withdrawn=True)),
    Fault(("contract.unknown",), replace(good(), contract=None)),
    Fault(("contract.unknown",), replace(good(), contract=contract(version=2))),
    Fault(("contract.field_unknown",), replace(good(), plan=plan(features=features("shoe_size")))),
    Fault(("contract.sensitive_input",), replace(good(), plan=plan(features=features("religion")))),
    Fault(("contract.purpose_unknown",), replace(good(), plan=plan(purpose="survey"))),
    Fault(("plan.absence_unsaid",), replace(good(), plan=plan(features=features("calls")))),
    Fault(
        ("plan.absence_unfit",),
        replace(good(), plan=plan(features=features("calls", imputed(9.5)))),
    ),
    Fault(
        ("plan.absence_unfit",),
        replace(good(), plan=plan(features=features("tenure", "leave_out"))),
    ),
    Fault(("dpia.missing",), replace(good(), dpia=None, dpia_state=None)),
    Fault(("dpia.not_in_force",), replace(good(), dpia_state="advised")),
    Fault(("dpia.not_in_force",), replace(good(), dpia_state="suspended")),
    Fault(("dpia.expired",), replace(good(), dpia_state="expired")),
    Fault(("dpia.expired",), replace(good(), dpia=dpia(valid_until=NOW))),
    Fault(("dpia.task_differs",), replace(good(), dpia=dpia(bindings=bindings(task="response")))),
    Fault(
        ("dpia.contract_differs",),
        replace(good(), dpia=dpia(bindings=bindings(contract=plan().digest))),
    ),
    Fault(
        ("dpia.purpose_not_covered",),
        replace(good(), dpia=dpia(bindings=bindings(purposes=("survey",)))),
    ),
    Fault(
        ("dpia.feature_not_covered",),
        replace(good(), dpia=dpia(bindings=bindings(features=("religion",)))),
    ),
    Fault(("dpia.feature_not_covered",), replace(good(), dpia=reviewed("proxy"))),
    Fault(("dpia.feature_not_covered",), replace(good(), dpia=reviewed("forbidden"))),
    Fault(
        ("dpia.unit_not_covered",),
        replace(good(), dpia=dpia(bindings=bindings(units=("north",)))),
    ),
    Fault(
        ("dpia.epsilon_cap_exceeded",),
        replace(good(), plan=plan(privacy=privacy(noise_multiplier=1.0))),
    ),
    Fault(
        ("dpia.delta_cap_exceeded",),
        replace(good(), dpia=dpia(bindings=bindings(delta_cap=1e-6))),
    ),
    Fault(
        ("dpia.too_few_units",),
        replace(good(), dpia=dpia(bindings=bindings(minimum_units=3))),
    ),
    Fault(("unit.not_enrolled",), replace(good(), certificates={})),
    Fault(("unit.revoked",), replace(good(), revoked_units=frozenset({"north", "elsewhere"}))),
    Fault(("unit.public_n_differs",), replace(good(), certificates=certificates(band=512))),
]
by_code = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.codes[0])


def codes_of(facts):
    return tuple(code for code, _ in decide_permit(facts))


def test_good_facts_pass_every_rule():
    assert decide_permit(good()) == ()


@by_code
def test_one_bad_fact_refuses_with_its_code_and_a_way_out(fault):
    refusals = decide_permit(fault.facts)
    assert tuple(code for code, _ in refusals) == fault.codes
    assert all(sentence.endswith(".") for _, sentence in refusals)


def test_a_proxy_that_is_no_input_and_an_allowed_input_refuse_nothing():
    assert decide_permit(replace(good(), dpia=reviewed("allowed"))) == ()


def test_a_revoked_unit_that_is_not_of_the_plan_refuses_nothing():
    assert decide_permit(replace(good(), revoked_units=frozenset({"elsewhere"}))) == ()


@pytest.mark.parametrize("rule", ["leave_out", imputed(9)], ids=str)
def test_a_field_that_may_be_absent_is_an_input_once_the_plan_says_what_happens(rule):
    assert codes_of(replace(good(), plan=plan(features=features("calls", rule)))) == ()


def test_every_rule_but_one_has_a_fault_that_trips_it():
    tripped = {code for fault in FAULTS for code in codes_of(fault.facts)}
    # Those of continuations, evaluations, audits and training by groups have files of their own.
    others = (*CONTINUATION_RULES, *EVALUATION_RULES, *FAIRNESS_RULES, *MITIGATION_RULES)
    elsewhere = {rule.code for rule in others}
    rules = {rule.code for rule in RULES} - elsewhere
    # There is one privacy mode only, so that no valid DPIA can leave it out.
    assert rules - tripped == {"dpia.privacy_mode_not_covered"}


def test_every_rule_has_a_code_of_its_own_and_says_what_it_asks_for_and_who_asks():
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert all(rule.asks.endswith(".") for rule in RULES)
    assert all("Art. " in rule.asked_by or "nternal control" in rule.asked_by for rule in RULES)


def test_the_page_of_the_rules_is_the_one_that_the_rules_make():
    page = Path(__file__).parents[3] / "docs" / "reference" / "gate-rules.md"
    assert page.read_text(encoding="utf-8") == rules_page()


def test_the_version_of_the_rules_names_the_software_and_fits_its_column():
    assert RULE_VERSION.startswith(f"{VERSION}+")
    assert len(RULE_VERSION) <= 40


def test_a_stop_of_something_else_refuses_nothing():
    for scope, subject in (("unit", "west"), ("purpose", "survey"), ("dpia", "other")):
        assert codes_of(replace(good(), stops=(stop(scope, subject),))) == ()


def test_a_stopped_purpose_stops_all_below_it_and_nothing_above():
    tree = (
        Purpose(id="marketing", text="m", basis="consent"),
        Purpose(id="churn", text="c", basis="consent", parent="marketing"),
        Purpose(id="win_back", text="w", basis="consent", parent="churn"),
    )
    deep = contract(purposes=tree)
    facts = replace(
        good(),
        contract=deep,
        plan=plan(contract=deep.digest),
        dpia=dpia(bindings=bindings(contract=deep.digest)),
    )
    assert codes_of(facts) == ()
    assert codes_of(replace(facts, stops=(stop("purpose", "marketing"),))) == ("stop.in_force",)
    assert codes_of(replace(facts, stops=(stop("purpose", "win_back"),))) == ()


def worsened(facts, faults):
    """Return the facts with the bad parts of several faults."""
    for fault in faults:
        changed = {
            name: getattr(fault.facts, name)
            for name in facts.__dataclass_fields__
            if getattr(fault.facts, name) != getattr(good(), name)
        }
        facts = replace(facts, **changed)
    return facts


@given(st.lists(st.sampled_from(FAULTS), min_size=1, max_size=5))
def test_more_bad_facts_never_turn_a_refusal_into_a_yes(faults):
    facts = good()
    for fault in faults:
        facts = worsened(facts, [fault])
        assert decide_permit(facts) != ()


@given(st.floats(1.0, 20.0), st.floats(1.0, 20.0), st.integers(1, 20), st.integers(1, 20))
def test_less_noise_or_more_rounds_never_help(noise, other_noise, rounds, other_rounds):
    low, high = sorted((noise, other_noise))
    short, long = sorted((rounds, other_rounds))
    worse = replace(good(), plan=plan(privacy=privacy(noise_multiplier=low), rounds=long))
    better = replace(good(), plan=plan(privacy=privacy(noise_multiplier=high), rounds=short))
    if not decide_permit(worse):
        assert not decide_permit(better)


def test_a_run_at_exactly_its_cap_passes_and_a_hair_above_does_not():
    epsilon = run_epsilon(plan())
    at_cap = dpia(bindings=bindings(epsilon_cap=epsilon))
    below = dpia(bindings=bindings(epsilon_cap=epsilon * (1 - 1e-6)))
    assert codes_of(replace(good(), dpia=at_cap)) == ()
    assert codes_of(replace(good(), dpia=below)) == ("dpia.epsilon_cap_exceeded",)


def test_spare_rounds_count_towards_the_cap():
    assert run_epsilon(plan(rounds=2, spare_rounds=3)) == run_epsilon(plan(rounds=5))


def test_the_public_size_is_the_middle_of_the_declared_band():
    assert [public_n_of(band) for band in (2, 1024)] == [3, 1536]


def test_the_newest_dpia_in_force_is_chosen():
    old, new = dpia(version=1), dpia(version=2)
    assert choose_dpia(plan(), [(old, "in_force"), (new, "in_force")]) == (new, "in_force")
    assert choose_dpia(plan(), [(old, "in_force"), (new, "draft")]) == (old, "in_force")


def test_a_dpia_about_this_very_plan_is_named_rather_than_a_distant_one_in_force():
    distant = dpia(bindings=bindings(task="response"))
    close = dpia(version=2)
    chosen = choose_dpia(plan(), [(close, "suspended"), (distant, "in_force")])
    assert chosen == (close, "suspended")


def test_a_dpia_of_another_task_and_contract_is_no_candidate():
    other = dpia(bindings=bindings(task="response", contract=plan().digest))
    assert choose_dpia(plan(), [(other, "in_force")]) is None


def test_the_digest_of_the_facts_changes_with_each_fact():
    digests = {fault.facts.digest for fault in FAULTS} | {good().digest}
    assert len(digests) == len(FAULTS) + 1
    assert good().digest == good().digest
