"""Checks of early stopping: the run ends when they say, and nobody can make them say otherwise."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from structlog.testing import capture_logs

from clients import runtime
from clients.settings import NodeSettings
from clients.subject_reports import make_report
from fedcore import canonical, wire
from fedcore.early_stopping import smallest_gain
from fedcore.errors import MismatchError
from fedcore.evaluation_outcomes import SEEN_BY_CHECKS
from fedcore.learning_rules import Algorithm, EarlyStopping
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.record import Realm
from fedcore.rounds import NoisedGain, Receipt
from fedcore.signing import sign_record
from fedcore.verify import verify_bundle

ONCE = Algorithm(local_learning_rate=0.5, average_decay=0.5)
STOPPING = {
    "algorithm": ONCE,
    "rounds": 9,
    "spare_rounds": 0,
    "holdout": 0.5,
    "early_stopping": EarlyStopping(every=1, patience=2),
}


@pytest.fixture
def plan(worlds):
    """Trains and checks by turns; nothing is seen through its noise by 40 customers."""
    return worlds.make_plan(("north", "south"), **STOPPING)


def test_a_run_ends_with_the_check_that_misses_for_the_last_time(build, plan):
    world = build(plan)
    world.run()
    told = [(r.round, r.released is not None, r.model_in == r.model_out) for r in world.reports]
    assert told == [(1, False, False), (2, False, True), (3, False, False), (4, True, True)]
    gains = [[answer.gain for answer in report.answered] for report in world.reports]
    assert gains[0] == gains[2] == [None, None]
    assert all(type(gain) is int for gain in gains[1] + gains[3])
    assert sum(gains[3]) < smallest_gain(plan, 2)
    found = verify_bundle(world.bundle(), world.federation.governance_key.public, Realm.SIMULATION)
    assert [check.name for check in found.checks if not check.ok] == []
    with world.unit("north").node() as node:
        (run,) = node.ledger.reservations()
    # Four exchanges of nine, and one that a restored disk could have forgotten.
    assert (run.closed, run.event.steps) == ("ended", 5 * plan.round_event().steps)


def test_whoever_reads_what_was_found_on_those_customers_is_told_of_the_checks(build, plan):
    world = build(plan)
    world.run()
    evaluation = world.federation.evaluate(world.evaluation_plan(), "evaluation-1")
    assert [model.seen_by_checks for model in evaluation.models] == [True]
    operator = world.federation.offices["compliance"]
    card = operator.fetch_card("churn", 1, "md")
    assert "4 accepted, 0 void; a check has ended the training, of at most 9" in card
    assert SEEN_BY_CHECKS.partition(":")[0] in card
    found = verify_bundle(world.bundle(), world.federation.governance_key.public, Realm.SIMULATION)
    assert [check.name for check in found.checks if not check.ok] == []
    reserved = f"at most {renyi_epsilon([plan.run_event()], plan.delta):.4f}"
    assert reserved in found.cannot_show[-1]
    assert reserved in card.replace("\\", "")


def test_what_is_left_of_a_run_that_ended_is_refused(build, plan, worlds):
    world = build(plan)
    world.run()
    last = world.reports[-1]
    server = worlds.Server(world)
    order = server.order("north", round=5, model=last.model_out, previous_report=last.digest)
    signed = sign_record(last, server.key, Realm.SIMULATION)
    request = server.request(order, previous_report=signed)
    assert server.train("north", request) == "order.report_mismatch"
    again = last.model_copy(update={"round": 5, "previous_report": last.digest, "answered": ()})
    with pytest.raises(MismatchError) as error:
        world.federation.offices["operator"].submit_round(
            sign_record(again, server.key, Realm.SIMULATION), []
        )
    assert error.value.code == "report.rounds_exceeded"


def test_a_better_model_is_seen_where_there_are_customers_enough_and_is_compared_with(
    build, worlds
):
    plan = worlds.make_plan(("north", "south"), **STOPPING | {"rounds": 5})
    rows = {unit: worlds.make_rows(unit, 3000) for unit in ("north", "south")}
    world = build(plan, rows=rows)
    world.run()
    assert [report.round for report in world.reports] == [1, 2, 3, 4, 5]
    first = world.reports[1]
    assert sum(answer.gain for answer in first.answered) > smallest_gain(plan, 2)
    compared = {r.round: r.compared for r in worlds.receipts_of(world.bundle())}
    assert compared == {1: None, 2: plan.initial_model, 3: None, 4: first.model_in, 5: None}


def test_a_run_that_is_interrupted_by_its_checks_goes_on_to_the_same_end(build, plan):
    whole = build(plan)
    whole.run()
    world = build(plan)

    def cut(report):
        if report.round in (1, 2, 3):
            raise SystemExit

    for _ in range(3):
        with pytest.raises(SystemExit):
            world.run(watch=cut)
    world.run()
    assert world.updates() == whole.updates()
    assert world.model() == whole.model()


def tapped(world, change):
    """Change the first answer of unit north to the check of round 2."""
    left = [1]

    def tap(to, _request, reply):
        message = message_from_proto(MessageProto.FromString(reply))
        is_check = len(world.reports) == 1 and message.metadata.message_type == wire.TRAIN
        if to != world.federation.node_id("north") or not is_check or not left[0]:
            return reply
        left[0] = 0
        message.content = wire.train_reply_content(change(wire.read_train_reply(message.content)))
        return message_to_proto(message).SerializeToString()

    world.federation.grid.tap = tap
    return world


def resigned(world, lie):
    """Return a change of the gain that the unit's own node signs."""

    def change(reply):
        gain = lie(NoisedGain.from_bytes(reply.update))
        receipt = Receipt.from_bytes(reply.receipt.payload_bytes)
        with world.unit("north").node() as node:
            signed = sign_record(
                receipt.model_copy(update={"update": gain.digest}), node.key, Realm.SIMULATION
            )
        return wire.TrainReply(signed, gain.to_bytes())

    return change


LIES_OF_A_UNIT = {
    "another gain than the receipt's": (
        lambda _: lambda reply: replace(reply, update=reply.update.replace(b"north", b"south")),
        "receipt.update_mismatch",
    ),
    "the gain of another round": (
        lambda w: resigned(w, lambda gain: gain.model_copy(update={"round": 4})),
        "check.other_gain",
    ),
    "the gain of another unit": (
        lambda w: resigned(w, lambda gain: gain.model_copy(update={"unit": "south"})),
        "check.other_gain",
    ),
}


@pytest.mark.parametrize("name", LIES_OF_A_UNIT)
def test_a_void_check_is_tried_again_and_counts_once(build, worlds, name):
    make, code = LIES_OF_A_UNIT[name]
    world = build(worlds.make_plan(("north", "south"), **STOPPING | {"spare_rounds": 2}))
    tapped(world, make(world))
    with capture_logs() as logs:
        world.run()
    assert code in {entry.get("code") for entry in logs}
    told = [(r.round, r.attempt, r.status, r.released is not None) for r in world.reports]
    assert told == [
        (1, 1, "accepted", False),
        (2, 1, "void", False),
        (2, 2, "accepted", False),
        (3, 1, "accepted", False),
        (4, 1, "accepted", True),
    ]
    found = verify_bundle(world.bundle(), world.federation.governance_key.public, Realm.SIMULATION)
    assert [check.name for check in found.checks if not check.ok] == []


def check_order(server, **changes):
    """Return a request of round 2, a check; `changes` are of the order, `sent` of the request."""
    first = server.report(("north", "south"))
    sent = changes.pop("sent", {})
    values = {
        "round": 2,
        "previous_report": first.digest,
        "compared": canonical.digest(server.initial),
    }
    signed = sign_record(first, server.key, Realm.SIMULATION)
    order = server.order("north", **values | changes)
    return server.request(order, previous_report=signed, **{"compared": server.initial} | sent)


LYING = {
    "a check that names no model": lambda s: check_order(s, compared=None),
    "a check that sends no model": lambda s: check_order(s, sent={"compared": None}),
    "a check that sends another model": lambda s: check_order(s, sent={"compared": b"x"}),
    "a round that names a model": lambda s: s.request(
        s.order("north", compared=canonical.digest(s.initial))
    ),
    "a round that sends a model": lambda s: s.request(s.order("north"), compared=s.initial),
    "a round that compares": lambda s: s.request(
        s.order("north", compared=canonical.digest(s.initial)), compared=s.initial
    ),
}


@pytest.mark.parametrize("name", LYING)
def test_a_node_compares_in_checks_only_and_with_the_model_that_the_order_names(
    build, worlds, plan, name
):
    server = worlds.Server(build(plan))
    assert server.train("north", LYING[name](server)) == "order.compared_mismatch"
    reply = server.train("north", check_order(server))
    assert isinstance(reply, wire.TrainReply)
    with server.world.unit("north").node() as node:
        assert [entry.kind for entry in node.ledger.entries()][1:] == ["reserve", "order", "reply"]


def test_a_compared_model_is_held_to_the_plan_as_any_other(build, worlds, plan):
    server = worlds.Server(build(plan))
    huge = server.initial.replace(bytes(8), b"\xff" * 8)
    request = check_order(server, compared=canonical.digest(huge), sent={"compared": huge})
    assert str(server.train("north", request)).startswith("weights.")


def test_a_customer_is_told_of_checks_and_rounds_apart_and_lists_are_kept_once(build, plan):
    world = build(plan)
    world.run()
    unit = world.unit("north")
    with runtime.SEAM.bound(world.federation.surroundings):
        settings = NodeSettings.load(unit.settings)
        reports = [make_report(settings, f"N{n:03d}", world.clock.now()) for n in range(12)]
    told = {tuple((x.check, x.customer, x.why) for x in r.runs[0].exchanges) for r in reports}
    trained, away = (False, "in", None), (True, "out", "other_side")
    aside, left = (True, "in", None), (False, "out", "other_side")
    assert told == {(trained, away) * 2, (left, aside) * 2}
    with closing(sqlite3.connect(unit.state_dir / "readings.db")) as connection:
        versions = connection.execute("SELECT version FROM readings ORDER BY round").fetchall()
        assert versions == [(1,), (2,), (1,), (2,)]
        assert connection.execute("SELECT COUNT(*) FROM marks").fetchone() == (2,)
