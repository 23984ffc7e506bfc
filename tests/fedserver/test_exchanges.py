import collections
import itertools

import httpx
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

from fedcore import wire
from fedcore.errors import InvalidRecordError
from fedserver.exchanges import exchange

LIMITS = (0.5, 0.01)


class Post(Grid):
    """Flower's grid, whose nodes answer as they were told: at which look, with what.

    It cannot deliver to nodes that are `gone`, and nothing at all when the letters are `too_large`.
    """

    def __init__(self, answers, gone=(), too_large=False):
        self.answers, self.sent, self.looks_at = answers, {}, collections.Counter[str]()
        self.gone, self.too_large = gone, too_large
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
        if self.too_large:
            return []
        return [
            "" if message.metadata.dst_node_id in self.gone else self.taken(message)
            for message in messages
        ]

    def taken(self, message):
        number = f"m{next(self.numbers)}"
        message.metadata.__dict__["_message_id"] = number
        self.sent[number] = message
        return number

    def pull_messages(self, message_ids):
        (number,) = message_ids
        self.looks_at[number] += 1
        return [
            reply
            for sent, message in self.sent.items()
            if sent == number or self.answers.get("unasked")
            for look, answer in self.answers[message.metadata.dst_node_id]
            if look == self.looks_at[number]
            for reply in [answer(message)]
        ]

    @property
    def looks(self):
        """How often the node that was slowest was looked for."""
        return max(self.looks_at.values(), default=0)

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError


def content(text):
    return RecordDict({"text": ConfigRecord({"text": text})})


def says(text):
    return lambda message: Message(content(text), reply_to=message)


def refuses(error):
    return lambda message: Message(error, reply_to=message)


def asked(post, nodes, limits=LIMITS):
    answers = exchange(
        post, wire.TRAIN, {node: content(f"to {node}") for node in nodes}, "g", limits
    )
    return {node: found["text"]["text"] for node, found in answers.contents.items()}, dict(
        answers.refusals
    )


def test_each_node_gets_its_own_content_with_kind_group_and_lifetime():
    post = Post({7: [(1, says("a"))], 2: [(1, says("b"))]})
    asked(post, [7, 2], (30.0, 0.01))
    letters = [
        (m.metadata.dst_node_id, m.content["text"]["text"], m.metadata.message_type)
        for m in post.sent.values()
    ]
    assert letters == [(2, "to 2", wire.TRAIN), (7, "to 7", wire.TRAIN)]
    assert {(m.metadata.group_id, m.metadata.ttl) for m in post.sent.values()} == {("g", 30.0)}


def test_contents_refusals_and_silence_are_told_apart():
    post = Post(
        {
            2: [(1, says("a"))],
            3: [(2, refuses(Error(code=1, reason="budget.exceeded")))],
            4: [(1, refuses(Error(code=5, reason="a traceback")))],
            5: [],
        }
    )
    found = asked(post, [2, 3, 4, 5], (0.1, 0.01))
    assert found == ({2: "a"}, {3: "budget.exceeded", 4: "node.unavailable"})


def test_it_ends_as_soon_as_all_have_answered():
    post = Post({2: [(1, says("a"))], 3: [(3, says("b"))]})
    assert asked(post, [2, 3], (3600.0, 0.001))[0] == {2: "a", 3: "b"}
    assert post.looks == 3


def test_an_answer_after_the_deadline_is_not_waited_for():
    post = Post({2: [(1, says("a"))], 3: [(10**9, says("late"))]})
    assert asked(post, [2, 3], (0.05, 0.01)) == ({2: "a"}, {})


def test_of_several_answers_to_one_message_the_first_counts():
    post = Post(
        {2: [(1, says("first")), (1, says("second")), (2, says("third"))], 3: [(2, says("b"))]}
    )
    post.answers["unasked"] = True
    assert asked(post, [2, 3])[0] == {2: "first", 3: "b"}


def test_an_answer_is_known_by_what_it_answers_and_not_by_who_it_claims_to_be_from():
    def as_node_3(message):
        reply = Message(content("from 2"), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = 3
        return reply

    post = Post({2: [(1, as_node_3)], 3: [(2, says("from 3"))]})
    assert asked(post, [2, 3])[0] == {2: "from 2", 3: "from 3"}


def test_an_answer_to_nothing_that_was_asked_is_ignored():
    def stray(message):
        reply = Message(content("stray"), reply_to=message)
        reply.metadata.__dict__["_reply_to_message_id"] = "m99"
        return reply

    post = Post({2: [(1, stray), (2, says("a"))]})
    assert asked(post, [2]) == ({2: "a"}, {})


def test_nobody_to_ask_is_no_exchange():
    post = Post({})
    assert asked(post, [], (3600.0, 0.01)) == ({}, {})
    assert post.looks == 0


@pytest.mark.parametrize("code", ["order.old", "permit.revoked"])
def test_a_refusal_keeps_its_code(code):
    post = Post({2: [(1, refuses(Error(code=1, reason=code)))]})
    assert asked(post, [2]) == ({}, {2: code})


def test_a_node_that_went_before_it_was_sent_to_is_unavailable_and_holds_nobody_up():
    post = Post({2: [(1, says("a"))], 3: [], 4: []}, gone=(3, 4))
    found = asked(post, [2, 3, 4], (3600.0, 0.001))
    assert found == ({2: "a"}, {3: "node.unavailable", 4: "node.unavailable"})
    assert post.looks == 1


def test_messages_that_the_engine_takes_for_too_large_are_named():
    with pytest.raises(InvalidRecordError, match=r"wire\.too_large"):
        asked(Post({2: []}, too_large=True), [2])


def test_a_node_that_answers_in_another_ones_name_takes_nothing_from_it():
    """What stands in a reply is its node's own word; the SuperLink knows whose it is."""

    def for_node_3(message):
        reply = Message(content("not mine to say"), reply_to=message)
        reply.metadata.__dict__["_reply_to_message_id"] = "m2"
        return reply

    post = Post({2: [(1, for_node_3)], 3: [(2, says("b"))]})
    assert asked(post, [2, 3], (0.1, 0.01)) == ({3: "b"}, {})


@pytest.mark.parametrize(
    "error", [ValueError, KeyError, TypeError, DecodeError, RecursionError, ZeroDivisionError]
)
def test_a_reply_that_cannot_be_read_is_its_nodes_own_loss(error):
    def unreadable(message):
        raise error("what the node sent")

    post = Post({2: [(1, unreadable)], 3: [(1, says("b"))], 4: [(2, says("c"))]})
    assert asked(post, [2, 3, 4]) == ({3: "b", 4: "c"}, {2: "wire.malformed"})


def test_a_broken_line_to_the_superlink_ends_the_exchange():
    def broken(message):
        raise httpx.ConnectError("gone")

    with pytest.raises(httpx.ConnectError):
        asked(Post({2: [(1, broken)]}), [2])
