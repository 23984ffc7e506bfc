from datetime import UTC, datetime

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as MessageProto

from clients.runtime import Runtime
from fedcore import wire
from simulations.clock import ManualClock
from simulations.grid import InProcessGrid
from simulations.noise import SeededNoise


@pytest.fixture
def grid(tmp_path):
    clock = ManualClock(datetime(2026, 3, 2, 9, 0, tzinfo=UTC))
    surroundings = Runtime(clock, SeededNoise(1), lambda settings: pytest.fail("nobody is there"))
    nodes = {number: tmp_path / f"node-{number}.toml" for number in (4, 2, 3)}
    return InProcessGrid(nodes, surroundings)


def message(node, value=1):
    content = RecordDict({"config": ConfigRecord({"value": value})})
    return Message(content, node, wire.ROLL_CALL, ttl=60, group_id="1")


def plain(data):
    return message_from_proto(MessageProto.FromString(data))


def test_connected_nodes_are_told_in_the_order_of_their_ids(grid):
    assert list(grid.get_node_ids()) == [2, 3, 4]
    grid.down.add(3)
    assert list(grid.get_node_ids()) == [2, 4]


def test_each_message_has_an_id_of_its_own_and_its_reply_comes_once(grid):
    numbers = list(grid.push_messages([message(4), message(2)]))
    assert len(set(numbers)) == 2
    replies = list(grid.pull_messages(numbers))
    assert [r.metadata.reply_to_message_id for r in replies] == numbers
    assert [r.metadata.src_node_id for r in replies] == [4, 2]
    assert list(grid.pull_messages(numbers)) == []


def test_a_node_that_is_not_there_never_answers(grid):
    grid.down.add(2)
    numbers = list(grid.push_messages([message(2), message(9), message(3)]))
    assert len(list(grid.pull_messages(numbers))) == 1


def test_a_real_node_answers_and_a_missing_one_is_only_unavailable(grid):
    """The node's settings do not exist: the real ClientApp says so by its one code."""
    (reply,) = grid.send_and_receive([message(2)])
    assert reply.has_error()
    assert wire.read_refusal(reply).code in {"node.unavailable", "wire.malformed"}


def test_the_tap_sees_bytes_in_order_and_decides_what_arrives(grid):
    seen = []

    def tap(node, request, reply):
        seen.append((node, plain(request).content["config"]["value"], plain(reply).has_error()))
        return reply

    grid.tap = tap
    list(grid.send_and_receive([message(3, 30), message(2, 20)]))
    assert seen == [(3, 30, True), (2, 20, True)]


def test_what_the_sender_holds_and_what_the_node_gets_are_two_objects(grid):
    """One content for all nodes, as Flower's strategies send it, is copied through bytes."""
    array = Array(dtype="uint8", shape=(3,), stype="safetensors", data=b"abc")
    content = RecordDict({"model": ArrayRecord({"model": array})})
    got = []

    def tap(_node, request, reply):
        got.append(plain(request).content)
        return reply

    grid.tap = tap
    messages = [Message(content, node, wire.TRAIN, ttl=60, group_id="1") for node in (2, 3)]
    list(grid.push_messages(messages))
    assert got[0] is not got[1] is not content
    assert [c["model"]["model"].data for c in got] == [b"abc", b"abc"]
