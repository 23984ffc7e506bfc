"""What is derived from the units' tables, and which tables are taken for theirs."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedcore.errors import MismatchError, NotFoundError, RefusedError
from fedcore.evaluation_outcomes import DIFFERENCE, Evaluation, table_epsilon
from fedcore.evaluations import NoisedTables
from fedcore.gateway_http import HttpGateway
from fedcore.metrics import measures, noised_sum
from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record
from registry import documents, permits
from registry.database import Database

UNITS = ("north", "south")


@pytest.fixture
def answered(evaluating):
    """An evaluation of two models whose accepted report is recorded, and the units' tables."""
    plan, permit = evaluating.permitted()
    return evaluating, plan, evaluating.answered(plan, permit)


def submit(evaluating, tables, run_id="eval-1", signer="operator"):
    gateway = evaluating.world.gateway("operator")
    envelope = gateway.submit_tables(run_id, evaluating.signed(tables, signer))
    return evaluating.world.open(envelope, Evaluation)


def log_size(evaluating):
    return evaluating.world.bulletin("north").log.size


def numbers_of(model):
    return {number.name: number for number in model.numbers}


def test_an_evaluation_says_what_the_sum_of_the_tables_says_and_where_it_comes_from(answered):
    evaluating, plan, tables = answered
    found = submit(evaluating, tables)
    for place, model in enumerate(found.models):
        expected = measures(
            noised_sum([each.tables[place] for each in tables], table_epsilon(plan)), (0.5,)
        )
        said = numbers_of(model)
        assert {name for name, each in expected.items() if each} == set(said)
        assert {name for name, each in expected.items() if not each} == set(model.hidden)
        for name, number in said.items():
            known = expected[name]
            assert known is not None
            assert (number.value, number.low, number.high) == (known.value, known.low, known.high)
            assert number.low <= number.value <= number.high
    assert [(model.name, model.version) for model in found.models] == [("churn", 1), ("churn", 2)]
    assert [model.artifact for model in found.models] == [m.artifact for m in plan.models]
    assert (found.units, found.rows, found.level) == (2, "holdout", 0.95)
    assert found.table_epsilon == plan.epsilon / 2
    assert found.tables == tuple(each.digest for each in tables)
    assert (found.plan, found.simulation) == (plan.digest, True)


def test_the_first_models_area_without_the_seconds_has_an_interval_of_its_own(answered):
    evaluating, _, tables = answered
    found = submit(evaluating, tables)
    first, second = (numbers_of(model)["roc_auc"] for model in found.models)
    difference = found.difference
    assert difference.name == DIFFERENCE
    assert difference.value == pytest.approx(first.value - second.value, abs=1e-12)
    assert difference.low > 0  # the first model is the better one by far
    assert difference.noise_sd == pytest.approx(math.hypot(first.noise_sd, second.noise_sd))
    assert difference.high - difference.low < first.high - first.low + second.high - second.low


def test_an_evaluation_of_one_model_has_no_difference(evaluating):
    plan, permit = evaluating.permitted("run-2")
    found = submit(evaluating, evaluating.answered(plan, permit))
    assert (len(found.models), found.difference) == (1, None)
    assert found.models[0].version == 2


def test_what_is_charged_is_recomputed_from_the_receipts_and_counts_void_attempts(evaluating):
    plan, permit = evaluating.permitted()
    tables = [evaluating.tables(plan, unit) for unit in UNITS]
    first = evaluating.receipt(plan, permit, tables[0])
    void = evaluating.report([first], status="void", unavailable=("south",))
    evaluating.world.submit(void, [first])
    again = [evaluating.receipt(plan, permit, each, attempt=2) for each in tables]
    evaluating.world.submit(evaluating.report(again, void), again)
    claims = {claim.unit: claim for claim in submit(evaluating, tables).epsilon}
    for unit, times in (("north", 2), ("south", 1)):
        events = [plan.exchange_event()] * times
        assert claims[unit].claim == pytest.approx(renyi_epsilon(events, plan.delta))
        assert claims[unit].pld == pytest.approx(pld_epsilon(events, plan.delta))
    granted = {grant.unit: grant.epsilon for grant in permit.cohort}
    assert all(claims[unit].claim <= granted[unit] for unit in UNITS)


def test_the_same_tables_again_get_the_same_evaluation_and_the_log_does_not_grow(answered):
    evaluating, _, tables = answered
    size = log_size(evaluating)
    first = submit(evaluating, tables)
    assert log_size(evaluating) == size + 3  # the evaluation, and what each unit has answered
    evaluating.world.clock.tick(minutes=5)
    assert submit(evaluating, tables[::-1]) == first
    assert log_size(evaluating) == size + 3


def test_the_tables_are_kept_as_the_server_signed_them(answered):
    evaluating, _, tables = answered
    found = submit(evaluating, tables)
    database = Database(evaluating.world.settings.database_url)
    with database.reading() as session:
        kept = documents.find_named(session, NoisedTables, found.tables)
        is_open = "eval-1" in {each.run_id for each in permits.list_open(session)}
    database.close()
    assert {each.signer for each in kept.values()} == {evaluating.world.keys["operator"].public}
    assert {each.digest for each in kept.values()} == set(found.tables)
    assert not is_open


@pytest.mark.databases
def test_tables_that_come_many_times_at_once_get_one_evaluation(answered):
    evaluating, _, tables = answered
    size = log_size(evaluating)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: submit(evaluating, tables), range(8)))
    assert len({each.digest for each in found}) == 1
    assert log_size(evaluating) == size + 3


def altered(evaluating, plan, tables):
    north, south = tables
    better = [list(table) for table in north.tables]
    better[0][-1] += 100
    return [north.model_copy(update={"tables": tuple(map(tuple, better))}), south]


LIES = {
    "tables.receipt_differs": altered,
    "tables.missing": lambda evaluating, plan, tables: tables[:1],
    "tables.surplus": lambda evaluating, plan, tables: [
        *tables,
        evaluating.tables(plan, "west"),
    ],
    "tables.other_run": lambda evaluating, plan, tables: [
        tables[0],
        evaluating.tables(plan, "south", "eval-2"),
    ],
}


@pytest.mark.parametrize("code", LIES)
def test_a_lying_server_gets_nothing_derived_and_the_right_tables_are_taken(answered, code):
    evaluating, plan, tables = answered
    size = log_size(evaluating)
    with pytest.raises(MismatchError) as caught:
        submit(evaluating, LIES[code](evaluating, plan, tables))
    assert (caught.value.code, log_size(evaluating)) == (code, size)
    with pytest.raises(NotFoundError, match=r"evaluation\.unknown"):
        evaluating.world.gateway("auditor").fetch_evaluation("eval-1")
    assert submit(evaluating, tables).units == 2


def test_a_unit_counts_once_however_often_its_tables_are_sent(answered):
    evaluating, _, tables = answered
    with pytest.raises(MismatchError, match=r"tables\.surplus"):
        submit(evaluating, [*tables, tables[0]])
    assert submit(evaluating, tables).units == 2


def test_tables_of_another_run_are_not_taken_though_a_receipt_there_names_them(answered):
    evaluating, plan, tables = answered
    other = evaluating.permit(plan, "eval-2")
    of_other = evaluating.answered(plan, other)
    with pytest.raises(MismatchError, match=r"tables\.other_run"):
        submit(evaluating, of_other)
    renamed = [each.model_copy(update={"run_id": "eval-1"}) for each in of_other]
    with pytest.raises(MismatchError, match=r"tables\.receipt_differs"):
        submit(evaluating, renamed)
    first, second = submit(evaluating, tables), submit(evaluating, of_other, "eval-2")
    assert first.models != second.models


def test_an_answer_that_did_not_count_is_left_out(evaluating):
    plan, permit = evaluating.permitted()
    tables = [evaluating.tables(plan, unit) for unit in UNITS]
    first = evaluating.receipt(plan, permit, tables[0])
    void = evaluating.report([first], status="void", unavailable=("south",))
    evaluating.world.submit(void, [first])
    with pytest.raises(RefusedError, match=r"evaluation\.run_incomplete"):
        submit(evaluating, tables[:1])
    fresh = [
        evaluating.tables(plan, unit, tables=evaluating.tables(plan, unit, "again").tables)
        for unit in UNITS
    ]
    again = [evaluating.receipt(plan, permit, each, attempt=2) for each in fresh]
    evaluating.world.submit(evaluating.report(again, void), again)
    with pytest.raises(MismatchError, match=r"tables\.receipt_differs"):
        submit(evaluating, [tables[0], fresh[1]])
    assert submit(evaluating, fresh).tables == tuple(each.digest for each in fresh)


def test_tables_of_other_sizes_than_the_plans_are_not_taken_though_the_unit_answered_so(
    evaluating,
):
    plan, permit = evaluating.permitted()
    short = [
        evaluating.tables(plan, unit, tables=evaluating.tables(plan, unit).tables[:1])
        for unit in UNITS
    ]
    receipts = [evaluating.receipt(plan, permit, each) for each in short]
    evaluating.world.submit(evaluating.report(receipts), receipts)
    with pytest.raises(MismatchError, match=r"tables\.sizes_differ"):
        submit(evaluating, short)
    again = evaluating.permit(plan, "eval-2")
    assert submit(evaluating, evaluating.answered(plan, again), "eval-2").units == 2


def test_only_the_server_of_the_permit_hands_tables_over(answered):
    evaluating, _, tables = answered
    world, key = evaluating.world, SigningKey.generate()
    stranger = world.gateway("admin").create_account("second", "operator", key.public)
    world.keys["stranger"] = key
    signed = evaluating.signed(tables, "stranger")
    with pytest.raises(RefusedError, match=r"permit\.other_server"):
        HttpGateway(world.client, stranger).submit_tables("eval-1", signed)
    foreign = [sign_record(each, world.keys["operator"], Realm.PRODUCTION) for each in tables]
    for envelopes, code in ((signed, "signature.wrong_key"), (foreign, "signature.wrong_type")):
        with pytest.raises(Exception, match=code.replace(".", r"\.")):
            world.gateway("operator").submit_tables("eval-1", envelopes)
    assert submit(evaluating, tables).units == 2


def test_a_run_that_trains_has_no_tables(answered):
    evaluating, _, tables = answered
    with pytest.raises(RefusedError, match=r"permit\.other_kind"):
        submit(evaluating, tables, "run-1")
    with pytest.raises(NotFoundError, match=r"permit\.unknown"):
        submit(evaluating, tables, "run-9")
    submit(evaluating, tables)


def test_a_revoked_run_is_not_evaluated_but_one_evaluated_before_stays(answered):
    evaluating, plan, tables = answered
    world = evaluating.world
    world.gateway("dpo").revoke_permit("eval-1", "complaint")
    with pytest.raises(RefusedError, match=r"permit\.revoked"):
        submit(evaluating, tables)
    of_second = evaluating.answered(plan, evaluating.permit(plan, "eval-2"))
    found = submit(evaluating, of_second, "eval-2")
    world.gateway("dpo").revoke_permit("eval-2", "later complaint")
    assert submit(evaluating, of_second, "eval-2") == found


def test_an_evaluation_that_is_over_is_not_revoked_by_a_stop(answered):
    evaluating, plan, tables = answered
    evaluating.permit(plan, "eval-2")
    submit(evaluating, tables)
    evaluating.world.gateway("dpo").stop("task", "churn", "r")
    assert evaluating.world.bulletin("north").revoked_runs == ("eval-2",)


def test_evaluations_are_listed_and_read_by_all_whom_they_concern(answered):
    evaluating, plan, tables = answered
    found = submit(evaluating, tables)
    for role in ("auditor", "author", "unit_operator"):
        gateway = evaluating.world.gateway(role)
        [listed] = gateway.list_evaluations()
        assert (listed.run_id, listed.document) == ("eval-1", found.digest)
        assert listed.artifacts == tuple(model.artifact for model in plan.models)
        assert evaluating.world.open(gateway.fetch_evaluation("eval-1"), Evaluation) == found


def test_a_plan_cannot_ask_for_no_noise(evaluating):
    with pytest.raises(ValueError, match="epsilon"):
        evaluating.plan(epsilon=0.0)
