"""Flower's Grid in one process: every message is copied through bytes and handed to the
ClientApp.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from clients import runtime
from clients.app import app

SERVER_NODE = 1
Tap = Callable[[int, bytes, bytes], bytes]


class InProcessGrid(Grid):
    """A Grid whose nodes are called one after the other, in the order of their ids.

    Attributes:
        down: nodes that are not connected.
        tap: sees each exchange as (node, request bytes, reply bytes) and returns the reply that
            arrives; how transcripts are recorded and how a wire can lie.
    """

    def __init__(
        self, nodes: Mapping[int, Path], surroundings: runtime.Runtime, tap: Tap | None = None
    ) -> None:
        self._nodes = dict(nodes)
        self._surroundings = surroundings
        self._replies: dict[str, Message] = {}
        self._numbers = itertools.count(1)
        self._run = Run.create_empty(1)
        self.down: set[int] = set()
        self.tap: Tap = tap or (lambda _node, _request, reply: reply)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SERVER_NODE

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the connected nodes."""
        return sorted(set(self._nodes) - self.down)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver each message and keep its reply. Returns: the messages' ids, in order."""
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, each once."""
        found = [self._replies.pop(number, None) for number in list(message_ids)]
        return [reply for reply in found if reply is not None]

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002 - part of Flower's signature
    ) -> Iterable[Message]:
        """Deliver the messages and return their replies."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> str:
        number = str(next(self._numbers))
        message.metadata.__dict__["_message_id"] = number
        node = message.metadata.dst_node_id
        if node in self._nodes and node not in self.down:
            request = _to_bytes(message)
            reply = self.tap(node, request, self._answer(node, request))
            self._replies[number] = _from_bytes(reply)
        return number

    def _answer(self, node: int, request: bytes) -> bytes:
        context = Context(
            run_id=self._run.run_id,
            node_id=node,
            node_config={"settings": str(self._nodes[node])},
            state=RecordDict({"empty": ConfigRecord()}),
            run_config={},
        )
        with runtime.SEAM.bound(self._surroundings):
            reply = app(_from_bytes(request), context)
        reply.metadata.__dict__["_message_id"] = f"reply-{next(self._numbers)}"
        return _to_bytes(reply)


def _to_bytes(message: Message) -> bytes:
    data: bytes = message_to_proto(message).SerializeToString(deterministic=True)
    return data


def _from_bytes(data: bytes) -> Message:
    return message_from_proto(MessageProto.FromString(data))
