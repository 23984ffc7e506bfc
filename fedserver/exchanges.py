"""Named exchanges over Flower's Grid: who answered, with what, who refused and why, who is
missing.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedcore.errors import InvalidRecordError
from fedcore.wire import read_refusal

UNAVAILABLE = "node.unavailable"


@dataclass(frozen=True)
class Answers:
    """What came of one message to each node: a content, a reason code, or neither (no answer in
    time).
    """

    contents: Mapping[int, RecordDict]
    refusals: Mapping[int, str]


def exchange(
    grid: Grid,
    kind: str,
    contents: Mapping[int, RecordDict],
    group: str,
    limits: tuple[float, float],
) -> Answers:
    """Send each node its content and return what came back before the deadline.

    Args: `limits` are the deadline and the interval between looks, in seconds. Replies are told
    apart by the message that they answer, never by whom they claim to come from. A node that has
    gone since its id was read is `node.unavailable`; an answer after the deadline is never read.
    Raises: InvalidRecordError `wire.too_large` when the engine takes the messages for too large.
    """
    deadline_s, interval_s = limits
    nodes = sorted(contents)
    messages = [
        Message(contents[node], node, kind, ttl=deadline_s, group_id=group) for node in nodes
    ]
    numbers = list(grid.push_messages(messages))
    if len(numbers) != len(nodes):
        raise InvalidRecordError(
            "wire.too_large", "the round's messages are too large for the SuperLink"
        )
    waiting = {number: node for number, node in zip(numbers, nodes, strict=True) if number}
    found: dict[int, RecordDict] = {}
    refused = {node: UNAVAILABLE for node in nodes if node not in waiting.values()}
    end = time.monotonic() + deadline_s
    while waiting and time.monotonic() < end:
        for reply in grid.pull_messages(list(waiting)):
            node = waiting.pop(reply.metadata.reply_to_message_id, None)
            if node is not None:
                _sort(reply, node, found, refused)
        if waiting:
            time.sleep(interval_s)
    return Answers(contents=found, refusals=refused)


def _sort(reply: Message, node: int, found: dict[int, RecordDict], refused: dict[int, str]) -> None:
    if reply.has_error():
        refused[node] = read_refusal(reply).code
    else:
        found[node] = reply.content
