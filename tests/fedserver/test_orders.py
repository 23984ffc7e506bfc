"""What the server sends, counts and reports."""

from datetime import timedelta

import numpy as np
import pytest

from fedcore import canonical, wire
from fedcore.bulletins import LogPosition
from fedcore.errors import FedError
from fedcore.handovers import GovernanceKeys
from fedcore.record import Realm
from fedcore.rounds import Cosignature, Order, Receipt
from fedcore.signing import open_envelope, sign_record
from fedcore.trust import verify_order
from fedcore.trust_reports import verify_report_chain
from fedcore.weights import encode_weights
from fedserver import strategy
from fedserver.checkpoints import Checkpoint
from fedserver.orders import make_report, open_answer, open_orders, sign_orders, train_request
from fedserver.rollcall import Roll
from fedserver.session import Session

PRODUCTION = Realm.PRODUCTION
WEIGHTS = {"w": np.array([1.0, 2.0])}
SHAPES = {"w": (2,)}


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
        shapes=SHAPES,
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
    order = ordered[1]["north"]
    found = open_answer(session, reply_of(order), order, start)
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
    order = ordered[1]["north"]
    with pytest.raises(FedError) as error:
        open_answer(session, reply_of(order, **changes), order, start)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("seconds", "counts"), [(-121, False), (-120, True), (720, True), (721, False)]
)
def test_an_answer_must_be_of_the_time_since_its_order(
    session, ordered, reply_of, start, seconds, counts
):
    """It is ten minutes past the order; two minutes lie between honest clocks."""
    order, now = ordered[1]["north"], start + timedelta(minutes=10)
    reply = reply_of(order, answered_at=start + timedelta(seconds=seconds))
    if counts:
        assert open_answer(session, reply, order, now).receipt == reply.receipt
        return
    with pytest.raises(FedError, match=r"receipt\.out_of_time"):
        open_answer(session, reply, order, now)


def test_an_update_that_is_not_the_receipts_does_not_count(session, ordered, reply_of, start):
    order = ordered[1]["north"]
    other = encode_weights({"w": np.array([9.0, 9.0])})
    with pytest.raises(FedError, match=r"receipt\.update_mismatch"):
        open_answer(session, wire.TrainReply(reply_of(order).receipt, other), order, start)


def test_weights_of_another_shape_do_not_count(session, ordered, reply_of, start):
    order = ordered[1]["north"]
    with pytest.raises(FedError, match="weights"):
        open_answer(session, reply_of(order, update={"w": np.zeros(3)}), order, start)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e300])
def test_an_update_that_no_sum_can_hold_does_not_count(session, ordered, reply_of, start, value):
    order = ordered[1]["north"]
    with pytest.raises(FedError, match=r"weights\.(not_finite|out_of_bounds)"):
        open_answer(session, reply_of(order, update={"w": np.array([1.0, value])}), order, start)
    open_answer(session, reply_of(order, update={"w": np.array([1.0, 1e300])}), order, start)


def test_a_report_names_who_answered_who_was_asked_and_who_was_not_there(
    session, ordered, reply_of, start
):
    place, orders = ordered
    accepted = {unit: open_answer(session, reply_of(o), o, start) for unit, o in orders.items()}
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
    accepted = {"north": open_answer(session, reply_of(orders["north"]), orders["north"], start)}
    report = make_report(session, place, place.state, accepted, start)
    assert (report.status, report.unavailable) == ("void", ("south", "west"))
    verify_report_chain(report, None, canonical.digest(encode_weights(WEIGHTS)))
