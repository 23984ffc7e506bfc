"""Each rule of promotion beside its repaired twin, the gate as a whole, and the papers it reads."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.stops import Stop
from fedcore.version import VERSION
from governance.decisions.promotion import PEOPLE, RULE_VERSION, RULES, decide_promotion, weigh
from governance.decisions.promotion_facts import (
    ApprovalFacts,
    EvaluationFacts,
    EvidenceFacts,
    FairnessFacts,
    Metric,
    PromotionFacts,
    WaiverFacts,
)
from governance.decisions.stops import Reach

NOW = datetime(2025, 6, 1, tzinfo=UTC)
MODEL = "sha256:" + "1a" * 32
OTHER = "sha256:" + "2b" * 32
REACH = Reach(frozenset({"north"}), frozenset({"churn", "marketing"}), "d", "churn")


def document(number):
    return f"sha256:{number:064x}"


def evaluation(low=0.81, model=MODEL, **more):
    metrics = {"roc_auc": Metric(0.83, low), **more}
    return EvaluationFacts(document(1), model, metrics)


def waiver(**changes):
    facts = WaiverFacts(document(3), ("paul", "carla"), "Too few people", NOW + timedelta(days=9))
    return replace(facts, **changes)


def fairness(verdict="PASS", model=MODEL, given=None):
    return FairnessFacts(document(2), model, verdict, given)


def approved(facts, *people):
    """The facts with approvals of the evidence that they have."""
    found = tuple(
        ApprovalFacts(document(10 + place), person, facts.seen)
        for place, person in enumerate(people)
    )
    return replace(facts, approvals=found)


def good(**changes):
    """Facts that every rule lets pass, approved by two as they are."""
    facts = PromotionFacts(
        name="churn",
        version=3,
        model=MODEL,
        alias="champion",
        person="paul",
        simulation=False,
        plan_author="anna",
        evidence=EvidenceFacts(),
        reach=REACH,
        dpia_state="in_force",
        withdrawn=False,
        retrain_due=False,
        now=NOW,
        floors={"roc_auc": 0.8},
        evaluation=evaluation(),
        fairness=fairness(),
    )
    return approved(replace(facts, **changes), "paul", "emil")


def stop(scope="all", subject=None):
    return Stop(
        sequence=1, scope=scope, subject=subject, reason="r", stopped_by="dora", stopped_at=NOW
    )


def papers(**changes):
    return good(evidence=EvidenceFacts(**changes))


def waived(**changes):
    return good(fairness=fairness("FAIL", given=waiver(**changes)))


@dataclass(frozen=True)
class Fault:
    """A change of good facts, and the codes that follow from it."""

    codes: tuple[str, ...]
    facts: PromotionFacts


FAULTS = [
    Fault(("promotion.simulation",), good(simulation=True)),
    Fault(("promotion.withdrawn",), good(withdrawn=True)),
    Fault(("promotion.basis_withdrawn",), good(withdrawn_bases=(("places", 1),))),
    Fault(("promotion.retrain_due",), good(retrain_due=True)),
    Fault(("promotion.stopped",), good(stops=(stop(),))),
    Fault(("promotion.stopped",), good(stops=(stop("unit", "north"),))),
    Fault(("promotion.stopped",), good(stops=(stop("purpose", "marketing"),))),
    Fault(("promotion.stopped",), good(stops=(stop("unit", "elsewhere"),), reach=None)),
    Fault(("promotion.evidence_missing",), good(evidence=None)),
    Fault(("promotion.evidence_missing",), papers(missing=frozenset({"plan"}))),
    Fault(("promotion.permit_revoked",), papers(permit_revoked=True)),
    Fault(("promotion.rounds_incomplete",), papers(open_rounds=frozenset({2}))),
    Fault(("promotion.rounds_incomplete",), papers(thin_rounds=frozenset({2, 10}))),
    Fault(("promotion.rounds_incomplete",), papers(other_artifact=True)),
    Fault(
        ("promotion.receipts_missing",),
        papers(unreceipted=frozenset((number, "north") for number in range(7))),
    ),
    Fault(("promotion.opt_outs_unapplied",), papers(stale_units=frozenset({"north"}))),
    Fault(("promotion.not_logged",), papers(unlogged=frozenset({"receipt"}))),
    Fault(("promotion.dpia_not_in_force",), good(dpia_state="suspended")),
    Fault(("promotion.dpia_not_in_force",), good(dpia_state=None)),
    Fault(("promotion.author_unknown",), good(plan_author=None)),
    Fault(("promotion.own_plan",), good(person="anna")),
    Fault(("promotion.evaluation_missing",), good(evaluation=None, floors={})),
    Fault(
        ("promotion.evaluation_missing", "promotion.floor_missed"),
        good(evaluation=None),
    ),
    Fault(("promotion.evaluation_missing",), good(evaluation=evaluation(model=OTHER))),
    Fault(("promotion.floor_missed",), good(evaluation=evaluation(low=0.79))),
    Fault(("promotion.floor_missed",), good(evaluation=evaluation(low=float("nan")))),
    Fault(("promotion.floor_missed",), good(floors={"roc_auc": 0.8, "lift": 2.0})),
    Fault(("promotion.floor_missed",), good(floors=None)),
    Fault(("promotion.fairness_missing",), good(fairness=None)),
    Fault(("promotion.fairness_missing",), good(fairness=fairness(model=OTHER))),
    Fault(("promotion.fairness_not_passed",), good(fairness=fairness("FAIL"))),
    Fault(("promotion.fairness_not_passed",), good(fairness=fairness("INSUFFICIENT"))),
    Fault(("promotion.waiver_void",), waived(people=("paul",))),
    Fault(("promotion.waiver_void",), waived(people=("paul", "paul"))),
    Fault(("promotion.waiver_void",), waived(people=("paul", "anna"))),
    Fault(("promotion.waiver_void",), waived(reason=" ")),
    Fault(("promotion.waiver_void",), waived(expires_at=NOW)),
    Fault(("promotion.approvals_missing",), replace(good(), approvals=())),
    Fault(("promotion.approvals_missing",), approved(good(), "paul")),
    Fault(("promotion.approvals_missing",), approved(good(), "paul", "paul")),
    Fault(("promotion.approvals_missing",), approved(good(), "paul", "anna")),
]
by_code = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.codes[-1])


def codes_of(facts):
    return tuple(code for code, _ in decide_promotion(facts))


def test_good_facts_pass_every_rule_for_each_alias():
    assert decide_promotion(good()) == ()
    assert decide_promotion(good(alias="challenger")) == ()


@by_code
def test_one_bad_fact_refuses_with_its_code_and_a_way_out(fault):
    refusals = decide_promotion(fault.facts)
    assert tuple(code for code, _ in refusals) == fault.codes
    assert all(sentence.endswith(".") for _, sentence in refusals)


def test_every_rule_has_a_fault_that_trips_it():
    assert {code for fault in FAULTS for code in codes_of(fault.facts)} == {
        rule.code for rule in RULES
    }


@by_code
def test_a_challenger_is_held_to_the_rules_that_say_so_and_to_no_other(fault):
    asked = {rule.code for rule in RULES if rule.of_challenger}
    held = codes_of(replace(fault.facts, alias="challenger"))
    assert held == tuple(code for code in fault.codes if code in asked)


def test_a_waiver_of_two_people_lets_a_failed_audit_pass_until_it_expires():
    for verdict in ("FAIL", "INSUFFICIENT"):
        facts = good(fairness=fairness(verdict, given=waiver()))
        assert codes_of(facts) == ()
        expired = replace(facts, now=NOW + timedelta(days=9))
        assert codes_of(expired) == ("promotion.waiver_void",)
    # Beside a PASS nobody asks for it.
    assert codes_of(good(fairness=fairness("PASS", given=waiver(people=())))) == ()


def test_an_approval_of_other_evidence_counts_no_more_and_a_new_one_does():
    before = good(evaluation=None, fairness=None)
    now = replace(good(), approvals=before.approvals)
    assert codes_of(now) == ("promotion.approvals_missing",)
    assert codes_of(approved(now, "paul", "emil")) == ()
    for facts in (
        replace(good(), evaluation=replace(evaluation(), document=document(7))),
        replace(good(), fairness=replace(fairness(), document=document(7))),
        replace(good(), fairness=fairness(given=waiver())),
    ):
        assert codes_of(facts) == ("promotion.approvals_missing",)


def test_a_stop_of_something_else_refuses_nothing():
    for scope, subject in (("unit", "west"), ("purpose", "survey"), ("dpia", "o"), ("task", "t")):
        assert codes_of(good(stops=(stop(scope, subject),))) == ()


def test_a_floor_is_reached_by_the_lower_end_of_the_interval():
    assert codes_of(good(evaluation=evaluation(low=0.8))) == ()
    refused = decide_promotion(good(evaluation=evaluation(low=0.7999)))
    assert refused[0][1].startswith("Below the plan's floor: roc_auc 0.7999, 0.8.")
    assert codes_of(good(floors={})) == ()


def test_all_rules_are_shown_with_what_speaks_against_each():
    shown = weigh(good(withdrawn=True))
    assert [rule.code for rule, _ in shown] == [rule.code for rule in RULES]
    assert {rule.code for rule, said in shown if said} == {"promotion.withdrawn"}
    assert len(weigh(good(alias="challenger"))) == sum(rule.of_challenger for rule in RULES)


def test_every_rule_has_a_code_of_its_own_and_says_what_it_asks_for_and_who_asks():
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert all(rule.asks.endswith(".") for rule in RULES)
    assert all("Art. " in rule.asked_by or "nternal control" in rule.asked_by for rule in RULES)


def test_the_version_of_the_rules_names_the_software_and_fits_its_column():
    assert RULE_VERSION.startswith(f"{VERSION}+")
    assert len(RULE_VERSION) <= 40


def worsened(facts, faults):
    """Return the facts with the bad parts of several faults."""
    plain = good()
    for fault in faults:
        changed = {
            name: getattr(fault.facts, name)
            for name in vars(plain)
            if getattr(fault.facts, name) != getattr(plain, name)
        }
        facts = replace(facts, **changed)
    return facts


@pytest.mark.parametrize("alias", ["challenger", "champion"])
@given(st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4))
def test_more_bad_facts_never_turn_a_refusal_into_a_yes(alias, faults):
    first = replace(faults[0].facts, alias=alias)
    facts = worsened(first, faults[1:])
    if codes_of(first):
        assert codes_of(facts)


PARTS = ("missing", "open_rounds", "thin_rounds", "unreceipted", "stale_units", "unlogged")
SAMPLES = {
    "missing": "plan",
    "open_rounds": 1,
    "thin_rounds": 2,
    "unreceipted": (1, "north"),
    "stale_units": "north",
    "unlogged": "permit",
}


def test_every_pair_of_faults_in_the_papers_is_named_as_both():
    for pair in combinations(PARTS, 2):
        facts = papers(**{part: frozenset({SAMPLES[part]}) for part in pair})
        single = {
            code for part in pair for code in codes_of(papers(**{part: frozenset({SAMPLES[part]})}))
        }
        assert set(codes_of(facts)) == single


def test_every_fact_is_kept_with_the_answer():
    """The digest of the facts is another one after each change that a rule looks at."""
    plain = good().document
    for fault in FAULTS:
        assert fault.facts.document != plain, fault.codes
    assert PEOPLE == 2
