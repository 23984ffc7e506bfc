"""What the server sends, counts and reports."""

from datetime import timedelta

import numpy as np
import pytest

from fedcore import canonical, wire
from fedcore.bulletins import LogPosition
from fedcore.errors import FedError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan, NoisedTables
from fedcore.handovers import GovernanceKeys
from fedcore.record import Realm
from fedcore.rounds import Cosignature, Order, Receipt
from fedcore.signing import open_envelope, sign_record
from fedcore.trust import verify_order
from fedcore.trust_reports import verify_report_chain
from fedcore.weights import encode_weights
from fedserver import strategy
from fedserver.checkpoints import Checkpoint
from fedserver.orders import (
    evaluate_request,
    make_report,
    open_answer,
    open_orders,
    open_tables,
    sign_orders,
    train_request,
)
from fedserver.rollcall import Roll
from fedserver.session import EvaluationSession, Session

PRODUCTION = Realm.PRODUCTION
WEIGHTS = {"w": np.array([1.0, 2.0])}


@pytest.fixture
def session(permit, plan, keys):
    return Session(
        permit_envelope=sign_record(permit, keys["stranger"], PRODUCTION),
        plan_envelope=sign_record(plan, keys["author"], PRODUCTION),
        permit=permit,
        plan=plan,
        keys=GovernanceKeys.of(keys["stranger"].public),
        key=keys["server"],
        initial=WEIGHTS,
    )


@pytest.fixture
def roll(keys, start):
    views = {
        unit: sign_record(
            Cosignature(unit=unit, log=LogPosition(size=1, root="00" * 32), seen_at=start),
            keys[unit],
            PRODUCTION,
        )
        for unit in ("south", "north")
    }
    return Roll(nodes={"south": 7, "north": 9}, cosignatures=views, refusals=())


@pytest.fixture
def place():
    return Checkpoint(round=1, attempt=1, state=strategy.start(WEIGHTS))


@pytest.fixture
def ordered(session, place, roll, start):
    """The place after its orders were signed, and the orders by unit."""
    orders = sign_orders(session, place, roll, start, start + timedelta(days=1))
    after = Checkpoint(round=1, attempt=1, state=place.state, orders=orders)
    return after, {order.unit: order for order in open_orders(session, after)}


@pytest.fixture
def reply_of(plan, permit, keys, start, digest):
    """A unit's honest answer to an order, with changes of its receipt."""

    def of(order, update=WEIGHTS, key=None, **changes):
        data = encode_weights(update)
        values = {
            "run_id": order.run_id,
            "realm": PRODUCTION,
            "unit": order.unit,
            "round": order.round,
            "attempt": order.attempt,
            "order": order.digest,
            "permit": permit.digest,
            "plan": plan.digest,
            "contract": plan.contract,
            "applied_epoch": 100,
            "bulletin": digest("bulletin"),
            "snapshot": "ab" * 32,
            "event": plan.round_event(),
            "noise_source": "float64-os",
            "ledger_sequence": 3,
            "ledger_hash": "cd" * 32,
            "log": LogPosition(size=1, root="00" * 32),
            "model_in": order.model,
            "update": canonical.digest(data),
            "software": "0.2.0",
            "answered_at": start,
        }
        receipt = Receipt(**{**values, **changes})
        return wire.TrainReply(sign_record(receipt, keys[key or order.unit], PRODUCTION), data)

    return of


def test_each_unit_that_is_there_gets_an_order_that_its_node_accepts(ordered, permit, plan, start):
    _, orders = ordered
    assert set(orders) == {"north", "south"}
    for unit, order in orders.items():
        verify_order(order, permit, unit, start)
        assert order.model == canonical.digest(encode_weights(WEIGHTS))
        assert order.deadline_at == start + timedelta(seconds=plan.round_deadline_s)


def test_no_order_outlasts_the_permits_window(session, place, roll, start):
    end = start + timedelta(seconds=10)
    orders = sign_orders(session, place, roll, start, end)
    opened = [open_envelope(o, Order, session.key.public, PRODUCTION) for o in orders]
    assert {order.deadline_at for order in opened} == {end - timedelta(seconds=1)}


def test_a_request_carries_the_cohorts_views_the_renewal_and_the_version(session, ordered, roll):
    place, _ = ordered
    request = train_request(session, place, roll, place.orders[0], place.orders[1])
    assert request.cosignatures == tuple(roll.cosignatures.values())
    assert (request.renewal, request.previous_report) == (place.orders[1], None)
    assert request.server_version
    assert wire.read_train(wire.train_content(request)) == request


def test_an_honest_answer_counts(session, ordered, reply_of, start):
    place, order = ordered[0], ordered[1]["north"]
    found = open_answer(session, place, reply_of(order), order, start)
    assert found.update["w"].tolist() == [1.0, 2.0]
    assert found.receipt == reply_of(order).receipt


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": "south"}, "signature.wrong_key"),
        ({"unit": "south", "key": "north"}, "receipt.other_order"),
        ({"round": 2}, "receipt.other_order"),
        ({"software": "0.0.9"}, "permit.version_not_accepted"),
        ({"applied_epoch": 99}, "receipt.opt_outs_missing"),
        ({"noise_source": "seeded-simulation"}, "receipt.noise_not_allowed"),
    ],
    ids=str,
)
def test_an_answer_that_does_not_hold_does_not_count(
    session, ordered, reply_of, start, changes, code
):
    place, order = ordered[0], ordered[1]["north"]
    with pytest.raises(FedError) as error:
        open_answer(session, place, reply_of(order, **changes), order, start)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("seconds", "counts"), [(-121, False), (-120, True), (720, True), (721, False)]
)
def test_an_answer_must_be_of_the_time_since_its_order(
    session, ordered, reply_of, start, seconds, counts
):
    """It is ten minutes past the order; two minutes lie between honest clocks."""
    place, order, now = ordered[0], ordered[1]["north"], start + timedelta(minutes=10)
    reply = reply_of(order, answered_at=start + timedelta(seconds=seconds))
    if counts:
        assert open_answer(session, place, reply, order, now).receipt == reply.receipt
        return
    with pytest.raises(FedError, match=r"receipt\.out_of_time"):
        open_answer(session, place, reply, order, now)


def test_an_update_that_is_not_the_receipts_does_not_count(session, ordered, reply_of, start):
    place, order = ordered[0], ordered[1]["north"]
    other = encode_weights({"w": np.array([9.0, 9.0])})
    with pytest.raises(FedError, match=r"receipt\.update_mismatch"):
        open_answer(session, place, wire.TrainReply(reply_of(order).receipt, other), order, start)


def test_weights_of_another_shape_do_not_count(session, ordered, reply_of, start):
    place, order = ordered[0], ordered[1]["north"]
    with pytest.raises(FedError, match="weights"):
        open_answer(session, place, reply_of(order, update={"w": np.zeros(3)}), order, start)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e300])
def test_an_update_that_no_sum_can_hold_does_not_count(session, ordered, reply_of, start, value):
    place, order = ordered[0], ordered[1]["north"]
    with pytest.raises(FedError, match=r"weights\.(not_finite|out_of_bounds)"):
        open_answer(
            session, place, reply_of(order, update={"w": np.array([1.0, value])}), order, start
        )
    open_answer(session, place, reply_of(order, update={"w": np.array([1.0, 1e300])}), order, start)


def test_a_report_names_who_answered_who_was_asked_and_who_was_not_there(
    session, ordered, reply_of, start
):
    place, orders = ordered
    accepted = {
        unit: open_answer(session, place, reply_of(o), o, start) for unit, o in orders.items()
    }
    updates = {unit: found.update for unit, found in accepted.items()}
    state = strategy.apply_round(place.state, session.plan, 1, updates)
    report = make_report(session, place, state, accepted, start)
    assert (report.status, report.asked) == ("accepted", ("north", "south"))
    assert [answer.unit for answer in report.answered] == ["north", "south"]
    assert report.unavailable == ("west",)
    assert report.released is None
    assert report.model_out == canonical.digest(encode_weights(state.model))


def test_a_report_of_too_few_answers_is_void_and_leaves_the_model(
    session, ordered, reply_of, start
):
    place, orders = ordered
    accepted = {
        "north": open_answer(session, place, reply_of(orders["north"]), orders["north"], start)
    }
    report = make_report(session, place, place.state, accepted, start)
    assert (report.status, report.unavailable) == ("void", ("south", "west"))
    verify_report_chain(report, None, canonical.digest(encode_weights(WEIGHTS)))


@pytest.fixture
def evaluating(session, plan, permit, keys, digest):
    """A session of an evaluation under the same names, and the place of its orders."""
    evaluation = EvaluationPlan(
        title="A test",
        models=(EvaluatedModel(artifact=digest("model"), plan=plan.digest),),
        rows="holdout",
        epsilon=1.0,
        delta=1e-5,
        minimum_units=2,
        deadline_s=45,
    )
    terms = {"kind": "evaluate", "plan": evaluation.digest, "rounds": 1, "exchanges": 1}
    evaluated = permit.model_copy(update=terms)
    return EvaluationSession(
        permit_envelope=sign_record(evaluated, keys["stranger"], PRODUCTION),
        plan_envelope=sign_record(evaluation, keys["author"], PRODUCTION),
        permit=evaluated,
        keys=session.keys,
        key=session.key,
        plan=evaluation,
        training=(session.plan_envelope,),
        models=(encode_weights(WEIGHTS),),
    )


@pytest.fixture
def counted(evaluating, reply_of, place, roll, start, keys):
    """North's order to evaluate, and its answer with these tables and changes of its receipt."""
    (signed, _) = sign_orders(evaluating, place, roll, start, start + timedelta(days=1))
    order = open_envelope(signed, Order, evaluating.key.public, PRODUCTION)

    def of(tables=((1, -2, 3),), run_id="run-1", unit="north", key="north", **changes):
        data = NoisedTables(run_id=run_id, unit=unit, tables=tables).to_bytes()
        terms = {
            "permit": evaluating.permit.digest,
            "plan": evaluating.plan.digest,
            "event": evaluating.plan.exchange_event(),
            "update": canonical.digest(data),
        }
        of_round = Receipt.from_bytes(reply_of(order).receipt.payload_bytes)
        receipt = of_round.model_copy(update={**terms, **changes})
        return order, wire.EvaluateReply(sign_record(receipt, keys[key], PRODUCTION), data)

    return of


def test_an_order_to_evaluate_says_so_and_keeps_to_the_plans_deadline(evaluating, counted, start):
    order, _ = counted()
    assert order.exchange == "evaluate"
    assert order.deadline_at == start + timedelta(seconds=evaluating.plan.deadline_s)
    verify_order(order, evaluating.permit, "north", start)


def test_a_request_to_evaluate_carries_the_models_and_what_they_were_trained_by(
    evaluating, place, roll, start
):
    orders = sign_orders(evaluating, place, roll, start, start + timedelta(days=1))
    request = evaluate_request(evaluating, place, roll, orders[0], orders[1])
    assert (request.models, request.training) == (evaluating.models, evaluating.training)
    assert wire.read_evaluate(wire.evaluate_content(request)) == request


def test_honest_tables_count_and_are_kept_as_they_came(evaluating, counted, start):
    order, reply = counted()
    found = open_tables(evaluating, reply, order, start)
    assert (found.receipt, found.tables) == (reply.receipt, reply.tables)
    assert found.update_digest == canonical.digest(reply.tables)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": "south"}, "signature.wrong_key"),
        ({"update": "sha256:" + "0" * 64}, "receipt.update_mismatch"),
        ({"run_id": "run-2"}, "evaluation.other_tables"),
        ({"unit": "south"}, "evaluation.other_tables"),
        ({"tables": ((1,), (2,))}, "evaluation.other_tables"),
    ],
)
def test_tables_that_were_not_ordered_or_not_signed_for_are_refused(
    evaluating, counted, changes, code, start
):
    order, reply = counted(**changes)
    with pytest.raises(FedError) as error:
        open_tables(evaluating, reply, order, start)
    assert error.value.code == code


def test_tables_made_before_they_were_ordered_are_refused(evaluating, counted, start):
    order, reply = counted()
    with pytest.raises(FedError) as error:
        open_tables(evaluating, reply, order, start - timedelta(hours=1))
    assert error.value.code == "receipt.out_of_time"


def test_a_receipt_of_a_round_is_none_of_an_evaluation(evaluating, counted, plan, start):
    order, reply = counted(event=plan.round_event())
    with pytest.raises(FedError) as error:
        open_tables(evaluating, reply, order, start)
    assert error.value.code == "receipt.event_mismatch"


def test_the_report_of_an_evaluation_hands_on_the_model_and_releases_none(
    evaluating, counted, place, roll, start
):
    orders = sign_orders(evaluating, place, roll, start, start + timedelta(days=1))
    asked = Checkpoint(round=1, attempt=1, state=place.state, orders=orders)
    order, reply = counted()
    one = open_tables(evaluating, reply, order, start)
    for accepted, status in (({"north": one}, "void"), ({"north": one, "south": one}, "accepted")):
        report = make_report(evaluating, asked, place.state, accepted, start)
        assert (report.status, report.released) == (status, None)
        assert report.model_in == report.model_out == order.model
