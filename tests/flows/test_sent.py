"""The journal of what left the site, held against what came out of it."""

import httpx
import pytest
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as MessageProto

from clients.sent import journal_path, load_departures
from fedcore import wire
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.events import PrivacyEvent
from fedcore.rounds import Receipt


def departures(world, unit):
    path = journal_path(world.unit(unit).state_dir)
    return [line.departure for line in load_departures(path)]


def tapped(world):
    """Return a list that every reply goes to, as (unit, kind of request, reply)."""
    seen, names = [], list(world.federation.units)

    def tap(node, request, reply):
        asked = message_from_proto(MessageProto.FromString(request)).metadata.message_type
        seen.append((names[node - 2], asked, message_from_proto(MessageProto.FromString(reply))))
        return reply

    world.federation.grid.tap = tap
    return seen


def requests_of(world, monkeypatch):
    """Return a list that every request of a node to governance goes to."""
    seen, gateway = [], world.federation._node_gateway

    def watched():
        made = gateway()

        def note(request: httpx.Request) -> None:
            seen.append((request.method, request.url.path))

        made._client.event_hooks["request"].append(note)
        return made

    monkeypatch.setattr(world.federation, "_node_gateway", watched)
    return seen


def test_the_journal_is_what_the_wire_saw_no_more_and_no_less(build, pair, monkeypatch):
    world = build(pair)
    replies, requests = tapped(world), requests_of(world, monkeypatch)
    before = {unit: len(departures(world, unit)) for unit in ("north", "south")}
    world.unit("north").opt_out("N001", "churn-prediction")
    world.run()
    kinds = {
        wire.ROLL_CALL: "roll call answer",
        wire.WITNESS: "cosignature",
        wire.TRAIN: "train answer",
    }
    listed = []
    for unit in ("north", "south"):
        found = departures(world, unit)[before[unit] :]
        left = [(kind, reply) for name, kind, reply in replies if name == unit]
        to_server = [line for line in found if line.recipient == "server"]
        assert [line.kind for line in to_server] == [kinds[kind] for kind, _ in left]
        for line, (_, reply) in zip(to_server, left, strict=True):
            assert line.run_id == "run-1"
            assert line.size == sum(record.count_bytes() for record in reply.content.values())
        listed += [line.kind for line in found if line.recipient == "governance"]
    made = {"/v1/opt-outs": "opt-out", "/v1/bulletins": "bulletin request"}
    asked = [made.get(path, "contract request") for _, path in requests]
    assert sorted(listed) == sorted(asked)
    assert {"opt-out", "bulletin request"} <= set(listed)


def test_a_train_answer_is_listed_with_its_receipt_and_what_it_released(build, pair):
    world = build(pair)
    replies = tapped(world)
    world.run()
    answers = [line for line in departures(world, "north") if line.kind == "train answer"]
    receipts = [
        wire.read_train_reply(reply.content).receipt
        for unit, kind, reply in replies
        if (unit, kind) == ("north", wire.TRAIN)
    ]
    assert [line.digest for line in answers] == [receipt.digest for receipt in receipts]
    assert [line.round for line in answers] == [1, 2]
    for line, receipt in zip(answers, receipts, strict=True):
        event = PrivacyEvent.model_validate_json(line.event)
        assert event == Receipt.from_bytes(receipt.payload_bytes).event
        assert renyi_epsilon([event], 1e-5) > 0


def test_a_refusal_is_listed_with_its_code_and_the_run_that_was_asked_for(server):
    assert server.train("north", server.request(server.order("south"))) == "order.other_unit"
    assert server.call_roll("north", plan=server.permit_envelope) == "signature.wrong_type"
    first, second = [
        line for line in departures(server.world, "north") if line.recipient == "server"
    ]
    assert (first.kind, first.run_id, first.round) == ("refusal order.other_unit", "run-1", 1)
    assert (second.kind, second.run_id) == ("refusal signature.wrong_type", "run-1")
    assert (first.digest, first.event) == (None, None)


def test_a_repeat_is_listed_again_under_the_same_digest(server):
    request = server.request(server.order("north"))
    first, again = server.train("north", request), server.train("north", request)
    assert first.receipt == again.receipt
    answers = [line for line in departures(server.world, "north") if line.kind == "train answer"]
    assert [line.digest for line in answers] == [first.receipt.digest] * 2


def test_no_customer_is_in_the_journal(build, pair):
    world = build(pair)
    world.unit("north").opt_out("N001", "churn-prediction")
    with world.unit("north").node() as node:
        pseudonyms = [event.pseudonym for event in node.opt_outs.events()]
    world.run()
    state = world.unit("north").state_dir
    stored = b"".join(path.read_bytes() for path in state.glob("sent.db*"))
    assert b"bulletin request" in stored
    assert not [word for word in ("N001", *pseudonyms) if word.encode() in stored]


def test_where_nothing_can_be_listed_nothing_leaves_but_one_constant(server, monkeypatch):
    world = server.world
    requests = requests_of(world, monkeypatch)
    journal = journal_path(world.unit("north").state_dir)
    kept = journal.read_bytes()
    journal.unlink()
    journal.mkdir()
    replies = tapped(world)
    assert server.call_roll("north") == "node.unavailable"
    assert server.train("north") == "node.unavailable"
    assert server.train("north", server.request(server.order("south"))) == "node.unavailable"
    assert requests == []
    assert {(reply.error.code, reply.error.reason) for _, _, reply in replies} == {
        (1, "node.unavailable")
    }
    journal.rmdir()
    journal.write_bytes(kept)
    assert server.call_roll("north") == "present"
    assert server.train("north", server.request(server.order("south"))) == "order.other_unit"
    assert requests != []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_journal_that_fails_late_holds_back_an_answer_that_is_ready(server, monkeypatch, when):
    import clients.outgoing

    order = server.request(server.order("north"))

    def broken(*_):
        raise OSError("the device has gone")

    if when == "before":
        monkeypatch.setattr(clients.outgoing, "record_departure", broken)
        assert server.train("north", order) == "node.unavailable"
        monkeypatch.undo()
    # It was charged and stored: the repeat, which can be listed, gets it.
    assert server.train("north", order).receipt is not None
    answers = [line for line in departures(server.world, "north") if line.kind == "train answer"]
    assert len(answers) == 1
