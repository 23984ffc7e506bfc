"""A task's own process: what the server sent is taken apart and answered here, and nowhere else.

It is a copy of the executor, which has everything imported and nothing done: no start of Python, no
import of torch, and nothing is left of one task when the next one comes.
"""

import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

import structlog
from flwr.app import Context, Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import context_from_proto, message_to_proto
from flwr.proto.runtime_pb2 import PushAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from clients.engine.processes import die_with
from clients.engine.tasks import PackedReply, Work
from fedcore.errors import InvalidRecordError

App = Callable[[Message, Context], Message]
_LENGTH = struct.Struct(">Q")
_DIGEST_CHARACTERS = 64

log = structlog.get_logger("fedpact.node")


def fork_task(app: App, work: Work) -> tuple[int, int]:
    """Start a process that answers a task. Returns: its id, and where its packed reply comes out.

    Guarantees: a process that fails writes no whole reply, and nothing else either; it ends with
        its parent, also when that is killed.
    """
    parent = os.getpid()
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    code = 1
    try:
        os.close(reading)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with(parent, signal.SIGKILL)
        with os.fdopen(writing, "wb") as out:
            write_reply(out, pack_reply(app(_message(work), context_from_proto(work.context))))
        code = 0
    finally:
        # The kind of an error may be told to the operator; its text may hold what came in.
        if code:
            kind = sys.exc_info()[0]
            log.error("task.failed", kind=kind.__name__ if kind else "")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def pack_reply(reply: Message) -> PackedReply:
    """Return a reply as Flower carries it."""
    reply.metadata.__dict__["_message_id"] = reply.object_id
    announced = message_to_proto(remove_content_from_message(reply))
    with no_object_id_recompute():
        announcement = PushAppMessagesRequest(
            messages_list=[announced], message_object_trees=[get_object_tree(reply)]
        )
        contents = {
            digest: part.deflate() for digest, part in get_all_nested_objects(reply).items()
        }
    return PackedReply(announcement.SerializeToString(), contents)


def write_reply(out: BinaryIO, reply: PackedReply) -> None:
    """Write a packed reply, each part after its length, and an end."""
    for part in (reply.announcement, *(k.encode() + v for k, v in reply.contents.items()), b""):
        out.write(_LENGTH.pack(len(part)))
        out.write(part)


def read_reply(data: bytes) -> PackedReply:
    """Return the packed reply of these bytes. Raises: InvalidRecordError unless it is whole."""
    parts: list[bytes] = []
    rest = memoryview(data)
    while len(rest) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(rest)
        part = bytes(rest[_LENGTH.size : _LENGTH.size + length])
        rest = rest[_LENGTH.size + length :]
        if not part and not rest and len(parts) > 1:
            named = {p[:_DIGEST_CHARACTERS].decode(): p[_DIGEST_CHARACTERS:] for p in parts[1:]}
            return PackedReply(parts[0], named)
        parts.append(part)
    raise InvalidRecordError(
        "wire.malformed", "the task's process ended before its reply was whole"
    )


def _message(work: Work) -> Message:
    message = inflate_object_from_contents(work.message_id, work.contents)
    if not isinstance(message, Message):
        raise InvalidRecordError("wire.malformed", "the server's message is none")
    # A packed message does not hold its own digest.
    message.metadata.__dict__["_message_id"] = work.message_id
    return message
