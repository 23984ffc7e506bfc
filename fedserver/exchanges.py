"""Named exchanges over Flower's Grid: who answered, with what, who refused and why, who is
missing.

Each reply is asked for by itself. The SuperLink knows which message a reply answers, for it gave
that message to that node; what stands in the reply is the node's own word, and so is every byte of
it: a node could name another node's message, or send what cannot be read.
"""

import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

from fedcore.errors import InvalidRecordError
from fedcore.wire import read_refusal

UNAVAILABLE = "node.unavailable"
MALFORMED = "wire.malformed"
# What Flower raises when the bytes of a reply are not those of a message.
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    DecodeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)

log = structlog.get_logger("fedpact.server")


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

    Guarantees: an answer is that of the node that was sent the message, whatever it says of itself;
        one that cannot be read is `wire.malformed` and disturbs no other; a node that has gone
        since its id was read is `node.unavailable`; an answer after the deadline is never read.
    Args: `limits` are the deadline and the interval between looks, in seconds.
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
        for number, node in list(waiting.items()):
            if _take(grid, number, node, (found, refused)):
                del waiting[number]
        if waiting:
            time.sleep(interval_s)
    return Answers(contents=found, refusals=refused)


def _take(
    grid: Grid, number: str, node: int, places: tuple[dict[int, RecordDict], dict[int, str]]
) -> bool:
    """Put a node's reply where it belongs, if it is there, and return whether it was."""
    found, refused = places
    try:
        replies = list(grid.pull_messages([number]))
        reply = next((r for r in replies if r.metadata.reply_to_message_id == number), None)
        if reply is None:
            return False
        if reply.has_error():
            refused[node] = read_refusal(reply).code
        else:
            found[node] = reply.content
    except _UNREADABLE as error:
        log.warning("reply.unreadable", node=node, kind=type(error).__name__)
        refused[node] = MALFORMED
    return True
