"""The card of facts as they may be recorded: each is shown, each that is missing is said to be."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcore.drivers import Driver, Drivers
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.mitigation import GroupWeight, Reweighing
from fedcore.model_decisions import ModelDecision
from governance.decisions.card_parts import NOT_RECORDED
from governance.decisions.model_card import CardFacts, make_card


def sibling(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module: Any = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


EVIDENCE, PROMOTION = sibling("test_promotion_evidence"), sibling("test_promotion")
GATE = sibling("test_gate")


def facts(**changes):
    values = {
        "model": EVIDENCE.version(),
        "promotion": PROMOTION.good(),
        "permit": EVIDENCE.permit(),
        "plan": GATE.plan(),
        "contract": GATE.contract(),
        "dpia": GATE.dpia(),
        "reports": (EVIDENCE.report(1), EVIDENCE.report(2)),
        "decisions": (),
        "moves": (),
        "aliases": ("champion",),
        "drivers": Drivers("mlp", (Driver("tenure", 1.5, "72", "0"),), 256, 2e-9),
    }
    return CardFacts(**{**values, **changes})


def sections(**changes):
    return {section.title: section for section in make_card(facts(**changes)).sections}


def texts(section):
    """All that a section says."""
    rows = section.table.rows if section.table else ()
    return [
        *(f"{name}: {value}" for name, value in section.facts),
        *(" | ".join(row) for row in rows),
        *section.notes,
    ]


def test_an_evaluation_and_an_audit_that_are_recorded_are_shown():
    found = sections()
    assert "roc_auc | 0.8300 | 0.8100" in texts(found["Evaluation"])
    assert "Floors of the plan: roc_auc 0.8" in texts(found["Evaluation"])
    assert "Verdict: PASS" in texts(found["Fairness"])
    assert not [said for said in texts(found["Fairness"]) if NOT_RECORDED in said]
    standing = texts(found["Where it stands"])
    assert "Approved, on the evidence as it is now, by: emil, paul" in standing
    assert "No rule speaks against it as champion." in standing


def test_a_waiver_is_shown_with_its_people_its_end_and_its_reason():
    shown = texts(sections(promotion=PROMOTION.waived())["Fairness"])
    assert "Verdict: FAIL" in shown
    assert "Waiver: paul, carla, until 2025-06-10 00:00 UTC: Too few people" in shown


def test_drivers_of_a_network_are_shown_with_what_their_sum_leaves():
    found = texts(sections()["What drives the score"])
    assert found[0] == "tenure | 1.5000 | 72 | 0"
    assert "at 256 points of a public grid" in found[1]
    assert "to within 2.0e-09." in found[1]
    assert texts(sections(drivers="Not told.")["What drives the score"]) == ["Not told."]


@pytest.mark.parametrize(
    ("missing", "title", "said"),
    [
        ({"plan": None}, "Inputs", f"The plan is {NOT_RECORDED}."),
        ({"plan": None}, "How it was trained", f"Kind: {NOT_RECORDED}"),
        ({"plan": None}, "Privacy of customers", f"Noise multiplier: {NOT_RECORDED}"),
        ({"contract": None}, "What it is for", f"What it predicts: {NOT_RECORDED}"),
        ({"contract": None}, "Inputs", f"tenure | scale | {NOT_RECORDED} | at every unit"),
        ({"permit": None}, "What it is for", f"Purpose: {NOT_RECORDED}"),
        ({"permit": None}, "How it was trained", f"Fewest units of a round: {NOT_RECORDED}"),
        ({"dpia": None}, "The version", f"DPIA: {NOT_RECORDED} ({EVIDENCE.digest(3)})"),
    ],
)
def test_what_is_missing_is_said_to_be_and_is_told_when_it_is_there(missing, title, said):
    assert said in texts(sections(**missing)[title])
    assert said not in texts(sections()[title])


def test_floors_that_a_plan_does_not_set_are_none_and_of_no_plan_not_recorded():
    none = sections(promotion=PROMOTION.good(floors={}))["Evaluation"]
    assert "Floors of the plan: none" in texts(none)
    unknown = sections(promotion=PROMOTION.good(floors=None))["Evaluation"]
    assert f"Floors of the plan: {NOT_RECORDED}" in texts(unknown)


def test_what_a_plan_does_with_a_sensitive_attribute_is_told_by_kind_and_name():
    attribute = SensitiveAttribute(name="gender", groups=("f", "m"))
    weights = (GroupWeight(group="f", positive=True, weight=2.0),)
    weighed = Reweighing(kind="reweighing", attribute=attribute, weights=weights)
    plan = GATE.plan().model_copy(update={"mitigation": weighed})
    (told,) = (
        line for line in texts(sections(plan=plan)["How it was trained"]) if "fedavg" in line
    )
    assert told.endswith(", reweighing by gender")
    assert "reweighing" not in "".join(texts(sections()["How it was trained"]))


def test_what_speaks_against_a_version_stands_before_everything_else():
    assert make_card(facts()).warnings == ()
    bad = PROMOTION.good(withdrawn=True, retrain_due=True)
    simulated = EVIDENCE.version(simulation=True)
    warnings = make_card(facts(promotion=bad, model=simulated)).warnings
    assert [warning.split(":")[0] for warning in warnings] == [
        "A simulation",
        "Withdrawn",
        "A decision in force says that this version is to be trained anew.",
    ]


def test_decisions_in_force_are_told_with_their_date():
    decision = ModelDecision(
        name="churn",
        version=1,
        model=EVIDENCE.digest(1),
        number=1,
        unit="north",
        up_to=7,
        outcome="retrain_due",
        due_at=EVIDENCE.NOW,
        reason="Seven objections.",
        decided_by="carla",
        decided_at=EVIDENCE.NOW,
    )
    said = "north, up to its opt-out 7: retrain due by 2025-06-01 00:00 UTC. Seven objections."
    assert said in texts(sections(decisions=(decision,))["Opt-outs"])
    assert said not in texts(sections()["Opt-outs"])


def test_rounds_that_a_unit_did_not_answer_are_not_counted_for_it():
    reports = (EVIDENCE.report(1, ("north",)), EVIDENCE.report(2))
    shown = texts(sections(reports=reports)["How it was trained"])
    assert {"north | 2 of 2", "south | 1 of 2"} <= set(shown)
    void = replace(facts(), reports=(EVIDENCE.report(1, status="void"), EVIDENCE.report(2)))
    trained = {section.title: section for section in make_card(void).sections}
    assert "Rounds: 1 accepted, 1 void" in texts(trained["How it was trained"])
