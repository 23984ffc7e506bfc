import itertools
from dataclasses import replace
from datetime import timedelta

import pytest
from flwr.app import Error, Message
from flwr.serverapp import Grid

from fedcore import wire
from fedcore.bulletins import LogPosition
from fedcore.record import Realm
from fedcore.rounds import Cosignature
from fedcore.signing import sign_record
from fedserver.rollcall import call_roll

LIMITS = (0.2, 0.01)


class Present(Grid):
    """Flower's grid, whose nodes answer at once with what they were told."""

    def __init__(self, answers):
        self.answers, self.asked, self.replies = answers, [], {}
        self.numbers = itertools.count(1)

    def set_run(self, run):
        raise NotImplementedError

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self.answers)

    def push_messages(self, messages):
        return [self.taken(message) for message in messages]

    def taken(self, message):
        number = f"m{next(self.numbers)}"
        message.metadata.__dict__["_message_id"] = number
        self.asked.append(message)
        answer = self.answers[message.metadata.dst_node_id]
        if answer is not None:
            self.replies[number] = Message(answer, reply_to=message)
        return number

    def pull_messages(self, message_ids):
        found = [self.replies.pop(number, None) for number in list(message_ids)]
        return [reply for reply in found if reply is not None]

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError


@pytest.fixture
def reply_of(keys, start):
    """A unit's signed answer, with changes."""

    def of(unit, key=None, realm=Realm.PRODUCTION, epoch=100, seen_s=0):
        log = LogPosition(size=1, root="00" * 32)
        seen_at = start + timedelta(seconds=seen_s)
        record = Cosignature(unit=unit, log=log, seen_at=seen_at)
        signed = sign_record(record, keys[key or unit], realm)
        return wire.RollCallReply(cosignature=signed, epoch=epoch)

    return of


@pytest.fixture
def request_(permit, plan, keys):
    return wire.RollCallRequest(
        permit=sign_record(permit, keys["server"], Realm.PRODUCTION),
        plan=sign_record(plan, keys["author"], Realm.PRODUCTION),
    )


@pytest.fixture
def roll(request_, permit):
    def of(answers, **options):
        grid = Present(
            {
                node: wire.roll_call_reply_content(answer)
                if isinstance(answer, wire.RollCallReply)
                else answer
                for node, answer in answers.items()
            }
        )
        return grid, call_roll(grid, request_, permit, LIMITS, **options)

    return of


def test_units_of_the_cohort_are_found_at_whatever_node_they_answer_from(roll, reply_of):
    answers = {7: reply_of("south"), 2: reply_of("north"), 9: None}
    _, found = roll(answers)
    assert dict(found.nodes) == {"south": 7, "north": 2}
    assert dict(found.cosignatures) == {
        unit: answers[node].cosignature for unit, node in found.nodes.items()
    }
    assert found.refusals == ()


def test_everybody_is_asked_the_same_under_the_named_kind(roll, reply_of, request_):
    for kind in (wire.ROLL_CALL, wire.WITNESS):
        grid, _ = roll({2: reply_of("north"), 3: reply_of("south")}, kind=kind)
        assert {message.metadata.message_type for message in grid.asked} == {kind}
        assert [wire.read_roll_call(message.content) for message in grid.asked] == [request_] * 2


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ({"unit": "north", "key": "stranger"}, "permit.other_node"),
        ({"unit": "north", "key": "south"}, "permit.other_node"),
        ({"unit": "east", "key": "stranger"}, "permit.other_node"),
        ({"unit": "north", "epoch": 99}, "permit.other_node"),
        ({"unit": "north", "realm": Realm.SIMULATION}, "signature.wrong_type"),
    ],
)
def test_an_answer_that_is_not_signed_by_a_unit_of_the_cohort_does_not_count(
    roll, reply_of, lie, code
):
    _, found = roll({2: reply_of(**lie), 3: reply_of("south")})
    assert dict(found.nodes) == {"south": 3}
    assert set(found.cosignatures) == {"south"}
    assert found.refusals == (code,)
    _, repaired = roll({2: reply_of("north"), 3: reply_of("south")})
    assert set(repaired.nodes) == {"north", "south"}


def test_an_altered_answer_does_not_count(roll, reply_of):
    sound, other = reply_of("north"), reply_of("south")
    altered = sound.cosignature.model_copy(update={"payload": other.cosignature.payload})
    _, found = roll({2: replace(sound, cosignature=altered), 3: other})
    assert dict(found.nodes) == {"south": 3}
    assert found.refusals == ("signature.invalid",)


def test_refusals_and_malformed_answers_are_kept_as_codes(roll, reply_of):
    _, found = roll(
        {
            2: Error(code=1, reason="bulletin.stale"),
            3: Error(code=5, reason="a traceback"),
            4: wire.train_reply_content(wire.TrainReply(reply_of("north").cosignature, b"x")),
            5: reply_of("south"),
        }
    )
    assert dict(found.nodes) == {"south": 5}
    assert sorted(found.refusals) == ["bulletin.stale", "node.unavailable", "wire.malformed"]


def test_nobody_there_is_an_empty_roll(roll):
    _, found = roll({})
    assert (dict(found.nodes), dict(found.cosignatures), found.refusals) == ({}, {}, ())


@pytest.mark.parametrize(("true_node", "false_node"), [(2, 5), (5, 2)])
def test_an_old_answer_that_another_node_passes_off_does_not_displace_the_unit(
    roll, reply_of, true_node, false_node
):
    """A cohort member has seen the other units' answers in the orders of the round before."""
    answers = {
        true_node: reply_of("north", seen_s=10),
        false_node: reply_of("north", seen_s=-60),
        3: reply_of("south", seen_s=9),
    }
    _, found = roll(answers)
    assert dict(found.nodes) == {"north": true_node, "south": 3}
    assert found.cosignatures["north"] == answers[true_node].cosignature


def test_an_answer_of_before_the_question_does_not_count(roll, reply_of, start):
    asked_at = start + timedelta(minutes=2)
    answers = {2: reply_of("north", seen_s=-1), 3: reply_of("south", seen_s=0)}
    _, found = roll(answers, asked_at=asked_at)
    assert dict(found.nodes) == {"south": 3}
    assert found.refusals == ("roll_call.replayed",)
    _, unasked = roll(answers)
    assert set(unasked.nodes) == {"north", "south"}
