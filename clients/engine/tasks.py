"""One task of the SuperNode: its parts are fetched and its reply is handed over, unread.

What the server sent is taken apart in the task's own process only (`clients.engine.child`): here it
is bytes under their digests.
"""

import time
from dataclasses import dataclass
from typing import Any

from flwr.app import Message
from flwr.common.constant import SubStatus
from flwr.common.serde import message_from_proto
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity

from fedcore.errors import UnreachableError

RETRY_S = 0.02
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Work:
    """A task's input, still packed.

    Attributes:
        context: Flower's context, as protobuf.
        header: the message without its content.
        message_id: the digest under which `contents` holds the message.
        contents: packed objects by their digests.
    """

    context: Any
    header: Message
    message_id: str
    contents: dict[str, bytes]


@dataclass(frozen=True)
class PackedReply:
    """A reply, packed: Flower's request that announces it, and the objects it is made of."""

    announcement: bytes
    contents: dict[str, bytes]


class TaskConnection:
    """The line to the SuperNode for one task. Args: `client` carries the task's own token."""

    def __init__(self, client: RuntimeHttpClient) -> None:
        self._client = client

    def fetch(self) -> Work:
        """Return the task's input, having told the SuperNode that it arrived.

        Raises: UnreachableError `supernode.unreachable` when it does not come in time;
            httpx.HTTPError.
        """
        task = self._client.PullTaskInput(PullTaskInputRequest())
        TaskIdentity.task_id = task.task_id
        TaskIdentity.run_id = task.run.run_id
        TaskIdentity.node_id = task.context.node_id
        node, run_id = Node(node_id=task.context.node_id), task.context.run_id
        pulled = self._pull_message()
        tree = pulled.message_object_trees[0]
        pull = make_pull_object_fn_protobuf(self._client.PullObject, node, run_id)
        contents = {
            part.object_id: _when_there(pull, part.object_id) for part in iterate_object_tree(tree)
        }
        make_confirm_message_received_fn_protobuf(
            self._client.ConfirmMessageReceived, node, run_id
        )(tree.object_id)
        header = message_from_proto(pulled.messages_list[0])
        return Work(task.context, header, tree.object_id, contents)

    def deliver(self, reply: PackedReply) -> None:
        """Hand the reply over. Raises: httpx.HTTPError, flwr's ObjectPushError."""
        request = PushAppMessagesRequest.FromString(reply.announcement)
        answer = self._client.PushMessages(request)
        node = Node(node_id=TaskIdentity.node_id)
        push = make_push_object_fn_protobuf(
            self._client.PushObject, node, TaskIdentity.run_id, answer.session_id
        )
        for digest in answer.objects_to_push:
            push(digest, reply.contents[digest])

    def finish(self, *, answered: bool) -> None:
        """Tell that the task is over, and no more than that. Raises: httpx.HTTPError."""
        status = SubStatus.COMPLETED if answered else SubStatus.FAILED
        self._client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=""))

    def beat(self) -> bool:
        """Tell that the task is worked on. Returns: whether the SuperNode still wants it."""
        return bool(self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success)

    def close(self) -> None:
        """Close the line."""
        self._client.close()

    def _pull_message(self) -> PullAppMessagesResponse:
        # The SuperNode makes the task a moment before it stores the message.
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            pulled = self._client.PullMessages(PullAppMessagesRequest())
            if pulled.messages_list:
                return pulled
            time.sleep(RETRY_S)
        raise UnreachableError("supernode.unreachable", "the SuperNode has no message for its task")


def _when_there(pull: Any, digest: str) -> bytes:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            return bytes(pull(digest))
        except ObjectUnavailableError:
            time.sleep(RETRY_S)
    raise UnreachableError("supernode.unreachable", "a part of the message did not arrive")
