"""A permit to evaluate, and the training plans of its models: each rule both ways."""

import pytest
from pydantic import ValidationError

from fedcore import trust
from fedcore.errors import MismatchError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_tables import TableLayout
from fedcore.permits import Permit
from fedcore.plans import ModelSpec, TrainingPlan
from fedcore.privacy.accounting import pld_epsilon
from fedcore.record import Realm
from fedcore.rounds import Order, Receipt
from fedcore.segments.groups import SegmentLayout

GENDER = SensitiveAttribute(name="gender", groups=("female", "male"))
HELD_OUT = {"holdout": 0.2}
DATED = {"train_until": "2026-01-01"}


@pytest.fixture(scope="module")
def trained(evidence):
    """The plan of the documents, with customers set aside; and one of another title like it."""
    found = TrainingPlan.from_bytes(evidence.plan.payload_bytes)

    def of(**changes):
        return TrainingPlan.from_json({**found.to_json(), **HELD_OUT, **changes})

    return of


def plan_of(*training, **changes):
    named = [
        EvaluatedModel(artifact=f"sha256:{place:064d}", plan=plan.digest)
        for place, plan in enumerate(training)
    ]
    values = {
        "title": "A test",
        "models": tuple(named),
        "rows": "holdout",
        "epsilon": 1.0,
        "delta": 1e-6,
        "minimum_units": 2,
        "spare_exchanges": 1,
    }
    return EvaluationPlan(**{**values, **changes})


@pytest.fixture(scope="module")
def permit_for(evidence):
    found = Permit.from_bytes(evidence.permit.payload_bytes)

    def of(plan, **changes):
        terms = {
            "kind": "evaluate",
            "plan": plan.digest,
            "rounds": 1,
            "exchanges": 2,
            "attempts": 2,
            "delta": plan.delta,
        }
        return found.model_copy(update={**terms, **changes})

    return of


def code_of(rule, *arguments):
    try:
        rule(*arguments)
    except MismatchError as error:
        return error.code
    return None


def test_plans_that_set_the_same_rows_aside_are_evaluated_together(trained):
    one, other = trained(), trained(title="B")
    assert code_of(trust.verify_evaluated, plan_of(one), [one]) is None
    assert code_of(trust.verify_evaluated, plan_of(one, other), [one, other]) is None
    dated = [trained(**DATED), trained(title="B", **DATED)]
    later = plan_of(*dated, rows="out_of_time")
    assert code_of(trust.verify_evaluated, later, dated) is None


@pytest.mark.parametrize(
    ("rows", "changes", "code"),
    [
        ("holdout", {"holdout": 0.3}, "evaluation.not_held_out"),
        ("holdout", {"holdout": None}, "evaluation.not_held_out"),
        ("out_of_time", {}, "evaluation.not_held_out"),
        ("out_of_time", {"train_until": "2026-01-02"}, "evaluation.not_held_out"),
        ("holdout", {"purpose": "other"}, "evaluation.terms_differ"),
        ("holdout", {"task": "response"}, "evaluation.terms_differ"),
        ("holdout", {"contract": "sha256:" + "0" * 64}, "evaluation.terms_differ"),
    ],
)
def test_models_that_differ_in_what_they_were_trained_for_or_on_are_refused(
    trained, rows, changes, code
):
    one = trained(**(DATED if rows == "out_of_time" else {}))
    other = trained(title="B", **changes)
    plans = [one, other]
    assert code_of(trust.verify_evaluated, plan_of(*plans, rows=rows), plans) == code
    same = TrainingPlan.from_json({**one.to_json(), "title": "B"})
    assert code_of(trust.verify_evaluated, plan_of(one, same, rows=rows), [one, same]) is None


LAYOUT = SegmentLayout(segments=(2, 1))


def test_a_plan_counts_scores_of_models_or_the_segments_of_one(trained):
    """All rows for segments alone, and groups in the one table."""
    one, other = trained(), trained(title="B")
    by_score = TableLayout(attributes=(GENDER,), threshold=0.5)
    by_segment = SegmentLayout(attributes=(GENDER,), segments=(2, 1))
    sizes, grouped = plan_of(one, segments=LAYOUT), plan_of(one, segments=by_segment, rows="all")
    assert (sizes.groups, sizes.group_fields, sizes.tables) == (None, (), 1)
    assert (grouped.groups, grouped.group_fields, grouped.tables) == (by_segment, ("gender",), 1)
    assert plan_of(one, fairness=by_score).groups == by_score
    assert sizes.exchange_event() == plan_of(one).exchange_event()
    for plans, changes in (
        ((one,), {"rows": "all"}),
        ((one, other), {"segments": LAYOUT}),
        ((one,), {"segments": LAYOUT, "fairness": by_score}),
    ):
        with pytest.raises(ValidationError):
            plan_of(*plans, **changes)


def test_what_is_counted_is_what_the_models_have(trained, documents):
    scoring = trained()
    plain = documents.segmentation_plan_of(documents.contract_of())
    aside = TrainingPlan.from_json({**plain.to_json(), "holdout": 0.2})
    for plan, rows, code in (
        (aside, "holdout", None),
        (aside, "all", None),
        (plain, "all", None),
        (plain, "holdout", "evaluation.not_held_out"),
        (scoring, "all", "evaluation.no_segments"),
        (scoring, "holdout", "evaluation.no_segments"),
    ):
        asked = plan_of(plan, segments=LAYOUT, rows=rows)
        assert code_of(trust.verify_evaluated, asked, [plan]) == code
    assert code_of(trust.verify_evaluated, plan_of(aside), [aside]) == "evaluation.no_scores"
    assert code_of(trust.verify_evaluated, plan_of(scoring), [scoring]) is None
    for ids, code in (
        ((2, 1), None),
        ((1, 2), "evaluation.other_segments"),
        ((2,), "evaluation.other_segments"),
    ):
        assert code_of(trust.verify_segments_counted, ids, LAYOUT.segments) == code


def test_a_model_alone_that_has_seen_everybody_is_refused(trained):
    plan = TrainingPlan.from_json({k: v for k, v in trained().to_json().items() if k != "holdout"})
    assert code_of(trust.verify_evaluated, plan_of(plan), [plan]) == "evaluation.not_held_out"


def test_segments_score_nobody_and_are_not_evaluated(documents, trained):
    segments = documents.segmentation_plan_of(documents.contract_of())
    segments = segments.model_copy(update={"holdout": 0.2})
    assert code_of(trust.verify_evaluated, plan_of(segments), [segments]) == "evaluation.no_scores"
    model = ModelSpec(kind="autoencoder", embedding=2)
    encoder = trained().model_copy(update={"model": model})
    assert code_of(trust.verify_evaluated, plan_of(encoder), [encoder]) == "evaluation.no_scores"
    assert code_of(trust.verify_evaluated, plan_of(trained()), [trained()]) is None


@pytest.mark.parametrize("given", [(), ("B",), ("A", "A"), ("B", "A")])
def test_the_training_plans_are_those_that_are_named_in_their_order(trained, given):
    plans = {"A": trained(title="A"), "B": trained(title="B")}
    plan = plan_of(plans["A"], plans["B"])
    other = [plans[name] for name in given]
    assert code_of(trust.verify_evaluated, plan, other) == "evaluation.other_training"
    assert code_of(trust.verify_evaluated, plan, [plans["A"], plans["B"]]) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"kind": "train"}, "permit.other_kind"),
        ({"kind": "score"}, "permit.other_kind"),
        ({"run_id": "run-2"}, "permit.other_run"),
        ({"plan": "sha256:" + "0" * 64}, "permit.other_plan"),
        ({"rounds": 2}, "permit.terms_differ"),
        ({"exchanges": 3}, "permit.terms_differ"),
        ({"attempts": 1}, "permit.terms_differ"),
        ({"delta": 1e-5}, "permit.terms_differ"),
        ({"purpose": "other"}, "permit.terms_differ"),
        ({"task": "response"}, "permit.terms_differ"),
        ({"minimum_cohort": 1}, "permit.terms_differ"),
        ({"contract": "sha256:" + "0" * 64}, "permit.terms_differ"),
    ],
)
def test_a_permit_to_evaluate_has_the_evaluations_terms(trained, permit_for, changes, code):
    one = trained()
    plan = plan_of(one)
    permit = permit_for(plan)
    rule = trust.verify_evaluation_permit
    bent = permit.model_copy(update=changes)
    assert code_of(rule, bent, plan, [one], permit.run_id, permit.realm) == code
    assert code_of(rule, permit, plan, [one], permit.run_id, permit.realm) is None
    assert code_of(rule, permit, plan, [one], permit.run_id, Realm.SIMULATION) == (
        "permit.other_realm"
    )


def test_every_unit_of_the_cohort_is_one_of_each_models_plan(trained, permit_for):
    one = trained()
    fewer = trained(title="B", units=[t.model_dump(exclude_none=True) for t in one.units[1:]])
    plan = plan_of(one, fewer)
    permit = permit_for(plan)
    rule = trust.verify_evaluation_permit
    told = code_of(rule, permit, plan, [one, fewer], permit.run_id, permit.realm)
    assert told == "permit.terms_differ"
    same = trained(title="B")
    again = plan_of(one, same)
    permit = permit_for(again)
    assert code_of(rule, permit, again, [one, same], permit.run_id, permit.realm) is None


def test_an_order_asks_for_what_its_permit_is_for(trained, permit_for, documents):
    plan = plan_of(trained())
    permit = permit_for(plan)
    values = {
        "run_id": permit.run_id,
        "realm": permit.realm,
        "unit": "north",
        "round": 1,
        "attempt": 1,
        "permit": permit.digest,
        "plan": plan.digest,
        "model": plan.initial_model,
        "issued_at": documents.at(35),
        "deadline_at": documents.at(45),
    }
    to_evaluate, to_train = Order(**values, exchange="evaluate"), Order(**values)
    now = documents.at(36)
    assert code_of(trust.verify_order, to_train, permit, "north", now) == "permit.other_kind"
    assert code_of(trust.verify_order, to_evaluate, permit, "north", now) is None
    trust.verify_order_model(to_evaluate, None, plan.initial_model)


def test_a_receipt_of_an_evaluation_states_what_its_tables_charge(trained, permit_for, evidence):
    plan = plan_of(trained())
    permit = permit_for(plan)
    found = Receipt.from_bytes(evidence.receipts[0].payload_bytes)
    named = {"permit": permit.digest, "plan": plan.digest, "contract": permit.contract}
    right = found.model_copy(update={**named, "event": plan.exchange_event()})
    trust.verify_receipt_terms(right, permit, plan)
    for wrong in (plan.run_event(), trained().round_event()):
        bent = right.model_copy(update={"event": wrong})
        assert code_of(trust.verify_receipt_terms, bent, permit, plan) == "receipt.event_mismatch"


def test_epsilon_is_the_most_that_one_exchange_reveals_over_all_its_tables(trained):
    one, other = trained(), trained(title="B")
    for plan in (plan_of(one), plan_of(one, other)):
        assert pld_epsilon([plan.exchange_event()], 1e-12) == pytest.approx(1.0, abs=2e-3)
        assert plan.run_event().steps == 2 * plan.tables
