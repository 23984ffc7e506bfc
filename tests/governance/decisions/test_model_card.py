"""The card of facts as they may be recorded: each is shown, each that is missing is said to be."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcore.audit_lists import WidestGap
from fedcore.drivers import Driver, Drivers
from fedcore.evaluation_outcomes import SEEN_BY_CHECKS, Evaluation
from fedcore.fairness_audits import FairnessAudit
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.learning_rules import EarlyStopping
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


GOLDEN = Path(__file__).parents[2] / "golden"


def evaluated(kind=""):
    """A signed evaluation of two models, and what it has found of the first."""
    evaluation = Evaluation.from_bytes((GOLDEN / f"evaluation-1{kind}.json").read_bytes())
    return evaluation, evaluation.models[0]


def audited(kind="", *, number=1, **found):
    """A signed audit of hardly anybody in one group, or of segments."""
    audit = FairnessAudit.from_bytes((GOLDEN / f"fairness-audit-1{kind}.json").read_bytes())
    changes = {"number": number, "found": audit.found.model_copy(update=found)}
    return audit.model_copy(update=changes | ({"first": None} if number == 1 else {}))


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
        "evaluation": evaluated(),
        "audits": (audited(),),
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


def test_an_evaluation_is_shown_with_both_ends_of_each_interval():
    evaluation, outcome = evaluated()
    shown = sections()["Evaluation"]
    assert shown.table.rows == tuple(
        (one.name, f"{one.value:.4f}", f"{one.low:.4f}", f"{one.high:.4f}")
        for one in outcome.numbers
    )
    for said in (
        "Floors of the plan: roc_auc 0.8",
        f"Rows: {evaluation.rows_told}, at 1 units",
        f"Document: {evaluation.digest}",
        "Hidden by the noise: gain_10.",
    ):
        assert said in texts(shown), said
    whole = evaluation, outcome.model_copy(update={"hidden": ()})
    assert "Hidden" not in "".join(texts(sections(evaluation=whole)["Evaluation"]))
    missing = texts(sections(evaluation=None)["Evaluation"])
    assert f"An evaluation is {NOT_RECORDED}." in missing


def test_that_checks_have_seen_the_customers_is_said_of_the_evaluation_that_says_so_alone():
    """Also of a plan with early stopping: its checks see no rows of later days."""
    stopping = EarlyStopping(every=1, patience=2)
    plan = GATE.plan().model_copy(update={"early_stopping": stopping})
    seen = sections(plan=plan, evaluation=evaluated(".seen-by-checks"))
    assert SEEN_BY_CHECKS in texts(seen["Evaluation"])
    later = sections(plan=plan, evaluation=evaluated())
    assert evaluated()[0].rows == "out_of_time"
    assert SEEN_BY_CHECKS not in texts(later["Evaluation"])
    assert SEEN_BY_CHECKS not in texts(sections(plan=plan, evaluation=None)["Evaluation"])


def test_an_audit_is_shown_bound_by_bound_by_its_own_numbers():
    audit = audited()
    (bound,) = audit.found.bounds
    widest = WidestGap(group="m", rate="selection_rate", low=0.001, high=0.034)
    told = bound.model_copy(update={"widest": widest, "verdict": "PASS"})
    of_segments = audited(".shares").found.bounds[0]
    shown = sections(audits=(audited(bounds=(told, of_segments)),))["Fairness"]
    assert shown.table.rows == (
        (
            "sex",
            "demographic parity difference",
            "0.005",
            "0.001 to 0.034",
            "m, selection rate",
            "0.1",
            "PASS",
        ),
        (
            "gender",
            "segment share difference",
            "0.010",
            "0.000 to 0.050",
            "female, share of segment 5",
            "0.1",
            "PASS",
        ),
    )


def test_terms_of_an_audit_and_further_ones_stand_beside_the_verdict():
    shown = texts(sections()["Fairness"])
    for said in (
        "Verdict: INSUFFICIENT",
        "Audit: number 1 of this version, which decides",
        "Further audits, which move no verdict: none",
        "Selected from a score of: 0.5",
        "Alpha: 0.05",
        "Minimum size: 30 people on each side of a comparison",
        "PASS means: within the thresholds that this DPIA sets.",
    ):
        assert said in shown, said
    assert not [said for said in shown if NOT_RECORDED in said]
    further = (
        audited(number=2, verdict="PASS", threshold=0.25),
        audited(number=3, verdict="FAIL"),
    )
    shown = texts(sections(audits=(audited(), *further))["Fairness"])
    told = "2: number 2 PASS at a score of 0.25, number 3 FAIL at a score of 0.5"
    assert f"Further audits, which move no verdict: {told}" in shown
    assert "Verdict: INSUFFICIENT" in shown


def test_of_segments_no_score_is_told_and_further_audits_are():
    audits = (audited(".shares"), audited(".shares", number=2))
    shown = texts(sections(audits=audits)["Fairness"])
    assert "Further audits, which move no verdict: 1: number 2 PASS" in shown
    assert "a score" not in " ".join(shown)


def test_a_group_of_too_few_has_no_number_and_is_told_as_such():
    """The audit has a gap of 0.25 for it, which is noise for the greater part."""
    shown = sections(audits=(audited(),))["Fairness"]
    ((_, _, gap, interval, where, _, verdict),) = shown.table.rows
    assert (gap, where, verdict) == ("too few people", "unknown, selection rate", "INSUFFICIENT")
    assert interval == "0.000 to 0.750"
    said = " ".join(texts(shown))
    assert "1 of 3 comparisons may have fewer than 30 people on a side" in said
    assert "and show nothing either way: unknown." in said
    assert "no number of them is shown: sex unknown." in said
    assert audited().found.meaning in said
    numbers = set(re.findall(r"\d\.\d+", said))
    assert numbers == {"0.5", "0.05", "0.000", "0.750", "0.1"}


def test_a_gap_of_rates_of_nobody_is_not_known():
    (bound,) = audited().found.bounds
    *others, last = bound.compared
    unknown = last.model_copy(update={"gap": None, "outcome": "open"})
    changed = bound.model_copy(update={"compared": (*others, unknown)})
    shown = sections(audits=(audited(bounds=(changed,)),))["Fairness"]
    assert shown.table.rows[0][2] == "not known"
    assert "comparisons may have" not in " ".join(texts(shown))


def test_a_version_without_an_audit_has_none_recorded():
    shown = texts(sections(audits=())["Fairness"])
    assert shown == [f"A fairness audit is {NOT_RECORDED}."]


def test_what_the_gate_says_of_a_champion_is_where_it_stands():
    found = sections()
    standing = texts(found["Where it stands"])
    assert "Approved, on the evidence as it is now, by: emil, paul" in standing
    assert "No rule speaks against it as champion." in standing


def test_a_waiver_is_shown_with_its_people_its_end_and_its_reason():
    shown = texts(sections(promotion=PROMOTION.waived())["Fairness"])
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
