"""Evaluation plans and their permits, and what becomes of a round that evaluates."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from fedcore.canonical import digest
from fedcore.errors import (
    ConflictError,
    MismatchError,
    NotFoundError,
    RefusedError,
    SignatureError,
)
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.ledgers import LedgerHistory, LedgerRequest
from fedcore.model_decisions import DecisionRequest
from fedcore.permits import Permit
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.record import Realm
from fedcore.signing import SigningKey, open_envelope, sign_record
from fedcore.trust import verify_evaluation_permit

UNITS = ("north", "south")


def refused(call, *arguments):
    with pytest.raises(RefusedError) as caught:
        call(*arguments)
    return caught.value.codes


def receipts_of(evaluating, asked, permit, **changes):
    tables = [evaluating.tables(asked, unit, permit.run_id) for unit in UNITS]
    return [evaluating.receipt(asked, permit, each, **changes) for each in tables]


def test_an_evaluation_plan_is_handed_out_as_its_author_signed_it(evaluating):
    world, plan = evaluating.world, evaluating.plan()
    assert evaluating.register(plan) == plan.digest
    assert evaluating.register(plan) == plan.digest
    envelope = world.gateway("operator").fetch_evaluation_plan(plan.digest)
    author = world.keys["author"].public
    assert open_envelope(envelope, EvaluationPlan, author, Realm.SIMULATION) == plan
    with pytest.raises(NotFoundError, match=r"evaluation-plan\.unknown"):
        world.gateway("operator").fetch_evaluation_plan(world.plan().digest)


def test_an_evaluation_plan_is_registered_only_under_the_callers_own_key_and_realm(evaluating):
    world, plan = evaluating.world, evaluating.plan()
    gateway = world.gateway("author")
    with pytest.raises(SignatureError, match=r"signature\.wrong_key"):
        gateway.register_evaluation_plan(world.sign(plan, "operator"))
    foreign = sign_record(plan, world.keys["author"], Realm.PRODUCTION)
    with pytest.raises(SignatureError, match=r"signature\.wrong_type"):
        gateway.register_evaluation_plan(foreign)
    with pytest.raises(SignatureError, match=r"signature\.wrong_type"):
        gateway.register_plan(world.sign(plan, "author"))
    evaluating.register(plan)


def test_an_evaluation_plan_belongs_to_the_author_who_registered_it_first(evaluating):
    world, plan = evaluating.world, evaluating.plan()
    evaluating.register(plan)
    key = world.keys["second"] = SigningKey.generate()
    world.api_keys["second"] = world.gateway("admin").create_account("bert", "author", key.public)
    with pytest.raises(ConflictError, match=r"plan\.other_author"):
        evaluating.register(plan, "second")
    evaluating.register(evaluating.plan(title="Mine"), "second")


def test_only_registered_versions_of_the_named_plan_are_evaluated(evaluating):
    first, second = evaluating.trained.values()
    strange = EvaluatedModel(artifact=digest(b"never registered"), plan=first.plan)
    swapped = EvaluatedModel(artifact=first.artifact, plan=second.plan)
    for model in (strange, swapped):
        plan = evaluating.plan(models=(model,))
        assert refused(evaluating.register, plan) == ("evaluation.model_unknown",)
    plan = evaluating.plan(models=(first,))
    assert evaluating.register(plan) == plan.digest


def test_a_permit_to_evaluate_says_what_the_evaluation_charges(evaluating):
    plan, permit = evaluating.permitted()
    plans = [evaluating.training_plan(run) for run in evaluating.trained]
    verify_evaluation_permit(permit, plan, plans, "eval-1", Realm.SIMULATION)
    assert (permit.kind, permit.plan, permit.rounds) == ("evaluate", plan.digest, 1)
    assert (permit.exchanges, permit.attempts, permit.delta) == (2, 2, plan.delta)
    assert permit.author_key == evaluating.world.keys["author"].public
    needed = renyi_epsilon([plan.exchange_event()] * 2, plan.delta)
    assert {grant.unit for grant in permit.cohort} == set(UNITS)
    assert all(needed <= grant.epsilon <= needed + 1e-8 for grant in permit.cohort)
    assert evaluating.permit(plan) == permit


def test_a_permit_serves_the_kind_of_its_plan_and_no_other(evaluating):
    world, plan = evaluating.world, evaluating.plan()
    evaluating.register(plan)
    gateway = world.gateway("operator")
    for asked, kind in ((plan, "train"), (plan, "score"), (world.plan(), "evaluate")):
        codes = refused(gateway.request_permit, asked.digest, "eval-1", kind)
        assert codes == ("permit.kind_not_served",)
    kept = world.get("/v1/permits/eval-1/decisions", "auditor")["decisions"]
    assert [each["plan"] for each in kept] == [plan.digest, plan.digest, world.plan().digest]
    evaluating.permit(plan)
    with pytest.raises(ConflictError, match=r"permit\.run_known"):
        gateway.request_permit(world.plan().digest, "eval-1")


def test_a_plan_that_nobody_has_registered_gets_no_permit_of_either_kind(evaluating):
    plan = evaluating.plan()
    for kind in ("train", "evaluate"):
        with pytest.raises(NotFoundError, match=r"plan\.unknown"):
            evaluating.world.gateway("operator").request_permit(plan.digest, "eval-1", kind)
    evaluating.register(plan)
    evaluating.permit(plan)


def test_a_model_trained_on_all_rows_is_not_evaluated_on_them(evaluating, model_bytes):
    evaluating.train("run-3", model_bytes, holdout=None)
    bare, held = evaluating.plan("run-3"), evaluating.plan("run-1")
    for plan in (bare, held):
        evaluating.register(plan)
    assert refused(evaluating.permit, bare) == ("evaluation.not_held_out",)
    assert evaluating.permit(held).kind == "evaluate"


def test_a_special_category_is_counted_only_with_a_condition_in_the_dpia(evaluating, model_bytes):
    """Trained anew each time: what an audit holds a model to was bound before."""
    world = evaluating.world
    refusals = []
    for version, condition in enumerate((None, "Explicit consent, Art. 9(2)(a)"), start=2):
        world.take_into_force(evaluating.audited_dpia(version, condition))
        evaluating.train(f"run-{version + 1}", model_bytes)
        plan = evaluating.plan(f"run-{version + 1}", fairness=evaluating.layout)
        evaluating.register(plan)
        try:
            evaluating.permit(plan, f"eval-{version}")
        except RefusedError as error:
            refusals.append((version, error.codes))
    assert refusals == [(2, ("fairness.no_basis",))]


def test_no_audit_by_what_a_dpia_binds_after_the_model_was_trained(evaluating):
    world = evaluating.world
    world.take_into_force(evaluating.audited_dpia(2))
    plan = evaluating.plan("run-1", fairness=evaluating.layout)
    evaluating.register(plan)
    assert refused(evaluating.permit, plan) == ("fairness.bound_later",)
    [kept] = world.get("/v1/permits/eval-1/decisions", "auditor")["decisions"]
    assert kept["codes"] == ["fairness.bound_later"]


def test_withdrawing_a_model_ends_its_evaluations_and_lets_none_begin(evaluating):
    world = evaluating.world
    world.gateway().submit_opt_out(world.sign(world.opt_out("north", 1), "north"))
    plan, permit = evaluating.permitted()
    other = evaluating.plan("run-1")
    evaluating.register(other)
    evaluating.permit(other, "eval-2")
    receipts = receipts_of(evaluating, plan, permit)
    decision = DecisionRequest(unit="north", up_to=1, outcome="withdrawn", reason="r")
    world.gateway("dpo").decide_model("churn", 2, decision, "*")
    assert world.bulletin("south").revoked_runs == ("eval-1",)
    with pytest.raises(RefusedError, match=r"permit\.revoked"):
        world.submit(evaluating.report(receipts), receipts)
    with pytest.raises(RefusedError) as caught:
        evaluating.permit(plan, "eval-3")
    assert caught.value.codes == ("evaluation.model_withdrawn",)
    assert evaluating.permit(other, "eval-4").kind == "evaluate"


def test_withdrawing_what_either_model_rests_on_ends_an_evaluation(evaluating):
    world, below = evaluating.world, evaluating.trained["run-1"].artifact
    evaluating.train("run-3", save({"w": np.full(2, 3.0)}), initial_model=below)
    world.gateway().submit_opt_out(world.sign(world.opt_out("north", 1), "north"))
    both, alone = evaluating.plan("run-2", "run-3"), evaluating.plan("run-2")
    for plan, run_id in ((both, "eval-1"), (alone, "eval-2")):
        evaluating.register(plan)
        evaluating.permit(plan, run_id)
    decision = DecisionRequest(unit="north", up_to=1, outcome="withdrawn", reason="r")
    world.gateway("dpo").decide_model("churn", 1, decision, "*")
    assert world.bulletin("south").revoked_runs == ("eval-1",)
    assert refused(evaluating.permit, both, "eval-3") == ("plan.initial_model_withdrawn",)
    assert evaluating.permit(alone, "eval-4").kind == "evaluate"


def test_a_stop_of_the_task_ends_an_evaluation(evaluating):
    world = evaluating.world
    plan, _ = evaluating.permitted()
    world.gateway("dpo").stop("task", "churn", "r")
    assert "eval-1" in world.bulletin("south").revoked_runs
    assert refused(evaluating.permit, plan, "eval-2") == ("stop.in_force",)


def test_a_round_of_an_evaluation_is_recorded_once_and_ends_the_run(evaluating):
    plan, permit = evaluating.permitted()
    receipts = receipts_of(evaluating, plan, permit)
    report = evaluating.report(receipts)
    evaluating.world.submit(report, receipts)
    size = evaluating.world.bulletin("north").log.size
    evaluating.world.submit(report, receipts)
    assert evaluating.world.bulletin("north").log.size == size
    again = receipts_of(evaluating, plan, permit, attempt=2)
    with pytest.raises(MismatchError, match=r"report\.rounds_exceeded"):
        evaluating.world.submit(evaluating.report(again, report), again)


def test_a_void_attempt_is_repeated_as_often_as_the_plan_has_spare_exchanges(evaluating):
    plan, permit = evaluating.permitted()
    previous = None
    for attempt in (1, 2, 3):
        receipts = receipts_of(evaluating, plan, permit, attempt=attempt)[:1]
        void = evaluating.report(receipts, previous, status="void", unavailable=("south",))
        if attempt == 3:
            with pytest.raises(MismatchError, match=r"report\.rounds_exceeded"):
                evaluating.world.submit(void, receipts)
        else:
            evaluating.world.submit(void, receipts)
        previous = void


WRONG_REPORTS: dict[str, dict[str, Any]] = {
    "report.model_changed": {"model_out": digest(b"another")},
    "report.released_early": {"released": digest(b"another")},
    "report.rounds_exceeded": {"round": 2},
    "report.chain_broken": {"model_in": digest(b"another"), "model_out": digest(b"another")},
}


@pytest.mark.parametrize("code", WRONG_REPORTS)
def test_a_wrong_report_of_an_evaluation_leaves_nothing_and_the_right_one_is_recorded(
    evaluating, code
):
    plan, permit = evaluating.permitted()
    receipts = receipts_of(evaluating, plan, permit)
    size = evaluating.world.bulletin("north").log.size
    with pytest.raises(MismatchError) as caught:
        evaluating.world.submit(evaluating.report(receipts, **WRONG_REPORTS[code]), receipts)
    assert caught.value.code == code
    assert evaluating.world.bulletin("north").log.size == size
    evaluating.world.submit(evaluating.report(receipts), receipts)


WRONG_RECEIPTS = {
    "receipt.event_mismatch": lambda world, plan: {"event": world.plan().round_event()},
    "receipt.terms_differ": lambda world, plan: {"plan": plan.models[0].plan},
    "receipt.report_differs": lambda world, plan: {"model_in": plan.models[1].artifact},
}


@pytest.mark.parametrize("code", WRONG_RECEIPTS)
def test_a_receipt_of_an_evaluation_is_about_its_plan_its_event_and_its_first_model(
    evaluating, code
):
    world = evaluating.world
    plan, permit = evaluating.permitted()
    good = receipts_of(evaluating, plan, permit)
    wrong = receipts_of(evaluating, plan, permit, **WRONG_RECEIPTS[code](world, plan))
    mixed = [good[0], wrong[1]]
    with pytest.raises(MismatchError) as caught:
        world.submit(evaluating.report(mixed), mixed)
    assert caught.value.code == code
    world.submit(evaluating.report(good), good)


def test_a_run_that_trains_takes_no_receipt_of_an_evaluation(evaluating):
    world, plan = evaluating.world, evaluating.plan()
    permit = world.permit("run-3")
    good = [world.receipt(permit, unit, 1) for unit in UNITS]
    wrong = world.receipt(permit, "south", 1, event=plan.exchange_event())
    with pytest.raises(MismatchError, match=r"receipt\.event_mismatch"):
        world.submit(world.report([good[0], wrong]), [good[0], wrong])
    other = world.receipt(permit, "south", 1, plan=plan.digest)
    with pytest.raises(MismatchError, match=r"receipt\.terms_differ"):
        world.submit(world.report([good[0], other]), [good[0], other])
    world.submit(world.report(good), good)


def test_no_model_comes_out_of_an_evaluation(evaluating, model_bytes):
    plan, permit = evaluating.permitted()
    evaluating.answered(plan, permit)
    gateway = evaluating.world.gateway("operator")
    codes = refused(gateway.register_model, "eval-1", "churn", model_bytes)
    assert codes == ("model.not_trained",)


def test_receipts_of_an_evaluation_count_as_processing_under_opt_outs(evaluating):
    world = evaluating.world
    world.clock.tick(minutes=1)
    world.gateway().submit_opt_out(world.sign(world.opt_out("north", 1), "north"))
    plan, permit = evaluating.permitted()
    evaluating.answered(plan, permit)
    status = world.gateway("dpo").fetch_opt_out("north", 1)
    assert status.enforced_since.run_id == "eval-1"


def test_a_permit_to_evaluate_is_renewed_until_its_round_is_accepted(make_world, ready, evaluating):
    world = evaluating.world
    plan, permit = evaluating.permitted()
    world.clock.tick(seconds=0.6 * (permit.expires_at - permit.issued_at).total_seconds())
    renewed = world.gateway("operator").renew_permit("eval-1")
    assert renewed == world.gateway("operator").renew_permit("eval-1")
    evaluating.answered(plan, permit)
    assert refused(world.gateway("operator").renew_permit, "eval-1") == ("permit.run_finished",)


def test_decisions_about_evaluations_are_decided_once_more_alike(evaluating):
    world, plan = evaluating.world, evaluating.plan()
    evaluating.register(plan)
    world.gateway("dpo").stop("all", None, "r")
    refused(evaluating.permit, plan)
    [listed] = world.get("/v1/stops", "auditor")["stops"]
    world.gateway("compliance").lift_stop(listed["stop"], "closed")
    evaluating.permit(plan)
    world.gateway("operator").renew_permit("eval-1")
    world.gateway("dpo").act_on_dpia(world.dpia().digest, "suspend", "a new risk")
    world.clock.tick(days=400)
    replays = world.get("/v1/permits/eval-1/replays", "auditor")["replays"]
    assert [each["codes_today"] for each in replays] == [["stop.in_force"], [], []]
    assert {each["agrees"] for each in replays} == {True}


def test_the_history_of_a_ledger_holds_the_plans_of_evaluations(evaluating):
    world = evaluating.world
    plan, _ = evaluating.permitted()
    request = LedgerRequest(unit="north", nonce="ab" * 32, requested_at=world.clock.now)
    answer = world.gateway().fetch_ledger_history(world.sign(request, "north"))
    history = world.open(answer, LedgerHistory)
    permits = {world.open(each, Permit).run_id: each for each in history.permits}
    assert set(permits) == {"run-1", "run-2", "eval-1"}
    kinds = {each.digest: each.payload_type for each in history.plans}
    assert "evaluation-plan" in kinds[plan.digest]
    assert {model.plan for model in plan.models} < set(kinds)


def test_a_revoked_evaluation_accepts_no_round(evaluating):
    world = evaluating.world
    plan, permit = evaluating.permitted()
    receipts = receipts_of(evaluating, plan, permit)
    world.gateway("dpo").revoke_permit("eval-1", "complaint")
    with pytest.raises(RefusedError, match=r"permit\.revoked"):
        world.submit(evaluating.report(receipts), receipts)


def test_a_permit_to_evaluate_ends_with_its_dpia_at_the_latest(evaluating):
    world = evaluating.world
    plan = evaluating.plan()
    evaluating.register(plan)
    world.clock.tick(days=300, hours=-1)
    permit = evaluating.permit(plan)
    assert permit.expires_at == world.dpia().valid_until
    assert permit.expires_at - permit.issued_at == timedelta(hours=1)
