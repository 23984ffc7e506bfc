"""The server's side: answers that do not hold are left out, rounds go on or end clearly."""

import base64
import dataclasses

import numpy as np
import pytest
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from safetensors.numpy import load, save
from structlog.testing import capture_logs

from fedcore import canonical, wire
from fedcore.bundle import read_bundle
from fedcore.errors import FedError, RefusedError
from fedcore.learning_rules import Median, NormBound
from fedcore.models import ModelVersion
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.record import Realm
from fedcore.rounds import Receipt
from fedcore.signing import SigningKey, sign_record
from fedcore.verify import verify_bundle

NORTH = 2


def train_replies(change, node=NORTH, times=1_000):
    """Return a tap that changes so many train replies of a node."""
    left = [times]

    def tap(to, _request, reply):
        message = message_from_proto(MessageProto.FromString(reply))
        if to != node or message.metadata.message_type != wire.TRAIN or message.has_error():
            return reply
        if left[0] == 0:
            return reply
        left[0] -= 1
        message.content = wire.train_reply_content(change(wire.read_train_reply(message.content)))
        return message_to_proto(message).SerializeToString()

    return tap


def one_bit_of_the_receipt(reply):
    data = bytearray(reply.receipt.payload_bytes)
    data[10] ^= 1
    payload = base64.b64encode(data).decode()
    return dataclasses.replace(reply, receipt=reply.receipt.model_copy(update={"payload": payload}))


def one_bit_of_the_update(reply):
    data = bytearray(reply.update)
    data[-1] ^= 1
    return dataclasses.replace(reply, update=bytes(data))


def half_an_update(reply):
    return dataclasses.replace(reply, update=reply.update[: len(reply.update) // 2])


def receipt_by_a_stranger(reply):
    receipt = Receipt.from_bytes(reply.receipt.payload_bytes)
    return dataclasses.replace(
        reply, receipt=sign_record(receipt, SigningKey.generate(), Realm.SIMULATION)
    )


LIES = {
    one_bit_of_the_receipt: "signature.invalid",
    one_bit_of_the_update: "receipt.update_mismatch|weights.unreadable",
    half_an_update: "weights.unreadable",
    receipt_by_a_stranger: "signature.wrong_key",
}


def refused(logs):
    return {(line["unit"], line["code"]) for line in logs if line["event"] == "answer.refused"}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_an_answer_that_does_not_hold_is_left_out_and_the_round_goes_on(build, worlds, lie):
    world = build(worlds.make_plan(rounds=2))
    world.federation.grid.tap = train_replies(lie, times=1)
    with capture_logs() as logs:
        world.run()
    assert {unit for unit, _ in refused(logs)} == {"north"}
    assert {code for _, code in refused(logs)} <= set(LIES[lie].split("|"))
    assert [report.status for report in world.reports] == ["accepted", "accepted"]
    first, second = world.reports
    assert {answer.unit for answer in first.answered} == {"south", "west"}
    assert first.unavailable == ("north",)
    assert {answer.unit for answer in second.answered} == {"north", "south", "west"}
    key = world.federation.governance_key.public
    assert verify_bundle(world.bundle(), key, Realm.SIMULATION).ok


LOWER = {
    "noise": lambda r: r.model_copy(
        update={"event": r.event.model_copy(update={"noise_multiplier": 1.0})}
    ),
    "steps": lambda r: r.model_copy(update={"event": r.event.model_copy(update={"steps": 2})}),
    "epoch": lambda r: r.model_copy(update={"applied_epoch": 0}),
    "permit": lambda r: r.model_copy(update={"permit": r.plan}),
    "round": lambda r: r.model_copy(update={"round": 2}),
    "model": lambda r: r.model_copy(update={"model_in": r.update}),
    "unit": lambda r: r.model_copy(update={"unit": "south"}),
}
CODES = {
    "noise": "receipt.event_mismatch",
    "steps": "receipt.event_mismatch",
    "epoch": "receipt.opt_outs_missing",
    "permit": "receipt.terms_differ",
    "round": "receipt.other_order",
    "model": "receipt.other_order",
    "unit": "receipt.other_order",
}


@pytest.mark.parametrize("name", LOWER)
def test_a_receipt_of_other_terms_is_refused_although_the_node_signed_it(build, worlds, name):
    world = build(worlds.make_plan(rounds=1, algorithm=once(worlds)))
    with world.unit("north").node() as node:
        key = node.key

    def lie(reply):
        receipt = LOWER[name](Receipt.from_bytes(reply.receipt.payload_bytes))
        return dataclasses.replace(reply, receipt=sign_record(receipt, key, Realm.SIMULATION))

    world.federation.grid.tap = train_replies(lie)
    with capture_logs() as logs:
        world.run()
    assert refused(logs) == {("north", CODES[name])}
    assert world.reports[0].unavailable == ("north",)


def under_its_own_signature(world, sent, lie):
    """Return a tap under which north signs a lie in the place of its update; `sent` gets all."""
    with world.unit("north").node() as node:
        key = node.key

    def tap(to, request, reply):
        def change(honest):
            if to != NORTH:
                sent.append(load(honest.update))
                return honest
            update = save({name: lie(value) for name, value in load(honest.update).items()})
            receipt = Receipt.from_bytes(honest.receipt.payload_bytes)
            told = receipt.model_copy(update={"update": canonical.digest(update)})
            return wire.TrainReply(sign_record(told, key, Realm.SIMULATION), update)

        return train_replies(change, node=to)(to, request, reply)

    return tap


def moved(world, worlds):
    first, last = load(worlds.first_model(world.plan)), load(read_bundle(world.bundle()).artifact)
    return {name: last[name] - first[name] for name in first}


LARGE = 1e300


@pytest.mark.parametrize(
    "lie",
    [lambda v: np.full_like(v, LARGE), lambda v: np.full_like(v, -LARGE), lambda v: -100 * v],
    ids=["huge", "hugely negative", "sign-flipped"],
)
def test_a_unit_that_lies_under_its_own_signature_is_outvoted_in_each_coordinate(
    build, worlds, lie
):
    algorithm = once(worlds).model_copy(update={"robust": Median(kind="median")})
    world = build(worlds.make_plan(rounds=1, minimum_units=3, algorithm=algorithm))
    sent: list[dict[str, np.ndarray]] = []
    world.federation.grid.tap = under_its_own_signature(world, sent, lie)
    world.run()
    assert {answer.unit for answer in world.reports[0].answered} == {"north", "south", "west"}
    for name, change in moved(world, worlds).items():
        south, west = (update[name] for update in sent)
        assert (np.minimum(south, west) <= change + 1e-12).all()
        assert (change - 1e-12 <= np.maximum(south, west)).all()


def test_a_bound_holds_a_liar_to_its_share_of_it_and_what_is_not_finite_does_not_count(
    build, worlds
):
    bound = 0.25
    robust = NormBound(kind="norm_bound", l2_bound=bound)
    algorithm = once(worlds).model_copy(update={"robust": robust})
    for lie, answered in (
        (lambda v: np.full_like(v, LARGE), 3),
        (lambda v: np.full_like(v, np.nan), 2),
    ):
        world = build(worlds.make_plan(rounds=1, algorithm=algorithm))
        world.federation.grid.tap = under_its_own_signature(world, [], lie)
        with capture_logs() as logs:
            world.run()
        assert len(world.reports[0].answered) == answered
        assert refused(logs) == ({("north", "weights.not_finite")} if answered == 2 else set())
        length = np.sqrt(sum(np.square(change).sum() for change in moved(world, worlds).values()))
        assert length <= bound * (1 + 1e-9)


def test_answers_of_a_void_round_are_reported_and_their_epsilon_is_stated(build, worlds):
    """Their noised updates have left the units, whether the round counted or not."""
    units = ("north", "south", "west")
    plan = worlds.make_plan(rounds=2, minimum_units=3, spare_rounds=1, attempts=2)
    world = build(plan)
    world.federation.grid.tap = train_replies(one_bit_of_the_receipt, times=1)
    world.run()
    assert [report.status for report in world.reports] == ["void", "accepted", "accepted"]
    assert {answer.unit for answer in world.reports[0].answered} == {"south", "west"}
    assert world.reports[0].unavailable == ("north",)
    model = ModelVersion.from_bytes(read_bundle(world.bundle()).model_version.payload_bytes)
    stated = {claim.unit: claim.claim for claim in model.epsilon}
    times = {"north": 2, "south": 3, "west": 3}
    for unit in units:
        spent = renyi_epsilon([plan.round_event()] * times[unit], plan.privacy.delta)
        assert stated[unit] == pytest.approx(spent, abs=1e-6)
    key = world.federation.governance_key.public
    assert verify_bundle(world.bundle(), key, Realm.SIMULATION).ok


def once(worlds):
    return worlds.make_plan().algorithm.model_copy(update={"average_last": 1})


def test_swapped_receipts_are_refused_for_both_units_and_the_next_attempt_succeeds(build, worlds):
    """Two of three are swapped: too few are left, the round is void and done again."""
    world = build(worlds.make_plan(rounds=1, algorithm=once(worlds)))
    kept: dict[int, wire.TrainReply] = {}

    def tap(to, _request, reply):
        message = message_from_proto(MessageProto.FromString(reply))
        if message.metadata.message_type != wire.TRAIN or len(kept) == 2:
            return reply
        mine = wire.read_train_reply(message.content)
        kept[to] = mine
        other = kept.get(5 - to, dataclasses.replace(mine, receipt=foreign))
        message.content = wire.train_reply_content(dataclasses.replace(mine, receipt=other.receipt))
        return message_to_proto(message).SerializeToString()

    # The first answer is swapped for one of the same unit in another world.
    elsewhere = worlds.Server(build(world.plan))
    foreign = elsewhere.train("south").receipt
    world.federation.grid.tap = tap
    with capture_logs() as logs:
        world.run()
    assert {unit for unit, _ in refused(logs)} == {"north", "south"}
    assert {code for _, code in refused(logs)} == {"signature.wrong_key"}
    assert [(r.status, r.attempt) for r in world.reports] == [("void", 1), ("accepted", 2)]


def test_a_unit_that_is_not_connected_is_left_out_and_comes_back(build, worlds):
    world = build()
    grid = world.federation.grid
    grid.down.add(world.federation.node_id("west"))

    def watch(report):
        if report.round == 2:
            grid.down.clear()

    world.run(watch=watch)
    answered = [{answer.unit for answer in report.answered} for report in world.reports]
    assert answered == [{"north", "south"}, {"north", "south"}, {"north", "south", "west"}]
    with world.unit("west").node() as node:
        assert [e.kind for e in node.ledger.entries()].count("order") == 1


def meanwhile(world, act):
    """Do something while the server waits: whenever it lets time pass."""
    tick = world.clock.tick

    def ticking(delta):
        act()
        tick(delta)

    world.clock.tick = ticking


def test_a_unit_that_comes_while_the_server_waits_for_it_is_in_the_round(build, worlds, pair):
    world = build(pair)
    grid = world.federation.grid
    grid.down.add(world.federation.node_id("south"))
    meanwhile(world, grid.down.clear)
    world.run()
    assert [(r.round, r.attempt, r.status) for r in world.reports] == [
        (1, 1, "accepted"),
        (2, 1, "accepted"),
    ]


def test_a_round_does_not_begin_with_too_few_units_and_the_run_can_be_resumed(build, worlds, pair):
    """Waiting spends no attempt, and asking again goes on at the very same one."""
    world = build(pair)
    world.federation.grid.down.add(world.federation.node_id("south"))
    began = world.clock.now()
    for _ in range(3):
        with pytest.raises(RefusedError, match="Round 1 has not begun") as error:
            world.run()
        assert error.value.codes == ("run.too_few_units",)
    assert (world.clock.now() - began).total_seconds() == 3 * 300
    assert world.reports == []
    with pytest.raises(FedError):
        world.bundle()
    world.federation.grid.down.clear()
    world.run()
    assert [(r.round, r.attempt, r.status) for r in world.reports] == [
        (1, 1, "accepted"),
        (2, 1, "accepted"),
    ]


def test_a_round_that_stays_void_ends_the_run_with_a_sentence(build, worlds, pair):
    world = build(pair)
    world.federation.grid.tap = train_replies(one_bit_of_the_receipt)
    with pytest.raises(RefusedError, match="Round 1 stayed void") as error:
        world.run()
    assert error.value.codes == ("signature.invalid",)
    assert [(r.attempt, r.status) for r in world.reports] == [(1, "void"), (2, "void")]
    with pytest.raises(FedError):
        world.bundle()
    # Resumed, it says the same, and nobody is asked for an attempt that no permit allows.
    world.federation.grid.tap = lambda _node, _request, reply: pytest.fail("a node was asked")
    with pytest.raises(RefusedError, match="Round 1 stayed void"):
        world.run()
    assert len(world.reports) == 2


def test_a_permit_revoked_in_mid_run_acts_in_the_next_round(build, worlds, pair):
    world = build(pair)

    def revoke(report):
        world.federation.offices["compliance"].revoke_permit("run-1", "The DPO stopped it.")

    with pytest.raises(RefusedError) as error:
        world.run(watch=revoke)
    assert error.value.code == "permit.revoked"
    assert [report.round for report in world.reports] == [1]
    for unit in ("north", "south"):
        with world.unit(unit).node() as node:
            assert [e.kind for e in node.ledger.entries()].count("reply") == 1
    # Another run of the same plan has a permit of its own.
    world.run("run-2")
    assert [report.run_id for report in world.reports[1:]] == ["run-2", "run-2"]


class _CrashError(Exception):
    """The server process ends."""


@pytest.mark.parametrize("after", [1, 2])
def test_a_run_goes_on_at_the_next_round_with_the_model_of_an_unbroken_one(build, after):
    broken, whole = build(), build()

    def crash(report):
        if report.round == after:
            raise _CrashError

    with pytest.raises(_CrashError):
        broken.run(watch=crash)
    broken.run()
    whole.run()
    assert [report.round for report in broken.reports] == [1, 2, 3]
    assert broken.updates() == whole.updates()
    assert broken.model() == whole.model()
    with broken.unit("north").node() as node:
        assert [e.kind for e in node.ledger.entries()].count("order") == 3


def test_a_finished_run_may_be_asked_for_again_and_nothing_is_spent(build, pair):
    world = build(pair)
    world.run()
    bundle = world.bundle()
    world.run()
    assert len(world.reports) == 2
    with world.unit("north").node() as node:
        assert [e.kind for e in node.ledger.entries()].count("order") == 2
    assert world.federation.offices["compliance"].fetch_evidence("churn", 1)
    assert bundle
    with pytest.raises(FedError):
        world.federation.offices["compliance"].fetch_evidence("churn", 2)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"round": 1}', b"\xff"])
def test_a_damaged_checkpoint_is_named_and_a_new_start_is_refused_or_right(build, pair, content):
    world = build(pair)

    def crash(report):
        raise _CrashError

    with pytest.raises(_CrashError):
        world.run(watch=crash)
    path = world.federation.root / "server" / "runs" / "run-1.json"
    kept = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(FedError) as error:
        world.run()
    assert error.value.code == "checkpoint.corrupt"
    path.write_bytes(kept)
    world.run()
    assert [report.round for report in world.reports] == [1, 2]
