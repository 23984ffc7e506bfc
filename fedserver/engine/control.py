"""Commands to the SuperLink from this machine: runs and nodes, by the server's secret."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

import httpx
from flwr.common.constant import Status
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

from fedcore.errors import (
    ConflictError,
    FedError,
    ForbiddenError,
    NotFoundError,
    UnreachableError,
)
from fedserver.engine.gate import start_request
from fedserver.engine.secret import load_secret
from fedserver.settings import ServerSettings

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
UNREGISTERED = "unregistered"
_SWEPT = 20


@dataclass(frozen=True)
class Node:
    """A node as the SuperLink knows it; `public_key` is PEM, `name` is the unit that it is of."""

    node_id: int
    name: str
    public_key: bytes
    status: str


class Control:
    """The SuperLink's Control interface.

    All methods raise UnreachableError `superlink.unreachable` when it does not answer, and
    ForbiddenError when it does not take the secret.
    """

    def __init__(self, client: ControlHttpClient) -> None:
        self._client = client

    @classmethod
    @contextmanager
    def connected(cls, settings: ServerSettings) -> Iterator[Self]:
        """Yield the interface of the server with these settings, on this machine.

        Raises: InvalidRecordError `key.unreadable`, `key.permissions` about the secret.
        """
        client = ControlHttpClient.from_server_address(
            server_address=f"{LOOPBACK}:{settings.control_port}",
            insecure=True,
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="fedpact server"),
                _Bearer(load_secret(settings.work_dir)),
            ],
        )
        try:
            yield cls(client)
        finally:
            client.close()

    def start_run(self, plan: str, run_id: str) -> int:
        """Start our run in a new Flower run and return Flower's number."""
        response = _answered(lambda: self._client.StartRun(start_request(plan, run_id)))
        return response.run_id

    def stop_run(self, number: int) -> bool:
        """Stop a Flower run; False when there was nothing to stop."""
        try:
            return _answered(lambda: self._client.StopRun(StopRunRequest(run_id=number))).success
        except (ConflictError, NotFoundError):
            return False

    def has_finished(self, number: int) -> bool:
        """Return whether a Flower run has ended, well or not, or was never there."""
        try:
            found = _answered(lambda: self._client.ListRuns(ListRunsRequest(run_id=number)))
        except NotFoundError:
            return True
        run = found.run_dict.get(number)
        return run is None or run.status.status == Status.FINISHED

    def sweep(self) -> None:
        """Let Flower remove the messages of finished runs, which it does when they are listed."""
        _answered(lambda: self._client.ListRuns(ListRunsRequest(limit=_SWEPT)))

    def nodes(self) -> list[Node]:
        """Return all nodes that are or were registered."""
        found = _answered(lambda: self._client.ListNodes(ListNodesRequest()))
        return [
            Node(info.node_id, info.name, info.public_key, info.status) for info in found.nodes_info
        ]

    def register_node(self, name: str, public_key: bytes) -> int:
        """Let the node with this key (PEM) connect, and return Flower's number of it.

        Raises: ConflictError `transport.used_before`: a key once unregistered stays so.
        """
        request = RegisterNodeRequest(public_key=public_key, name=name)
        try:
            return _answered(lambda: self._client.RegisterNode(request)).node_id
        except ConflictError as error:
            raise ConflictError(
                "transport.used_before",
                f"the transport key of {name} was unregistered once: rotate the node's keys",
                error.detail,
            ) from error

    def unregister_node(self, node_id: int) -> None:
        """Let a node connect no more; its next request is refused."""
        _answered(lambda: self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id)))


class _Bearer:
    """Gives each request the secret."""

    def __init__(self, secret: str) -> None:
        self._value = f"Bearer {secret}"

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        context.request.headers["authorization"] = self._value
        return call_next(context)


def _answered(call: Callable[[], T]) -> T:
    try:
        return call()
    except httpx.HTTPStatusError as error:
        raise _refused(error.response) from error
    except (httpx.HTTPError, ValueError) as error:
        raise UnreachableError(
            "superlink.unreachable",
            "the SuperLink does not answer: start it with `fedpact server start`",
            repr(error),
        ) from error


def _refused(response: httpx.Response) -> FedError:
    """Return what a refusal of ours or of Flower's means."""
    if response.status_code == httpx.codes.FORBIDDEN:
        try:
            value = json.loads(response.text)
            return ForbiddenError(str(value["code"]), str(value["detail"]))
        except (ValueError, KeyError, TypeError):
            pass
    kind = NotFoundError if response.status_code == httpx.codes.NOT_FOUND else ConflictError
    return kind(
        "superlink.refused",
        f"the SuperLink answered with status {response.status_code}: see its log",
        response.text[:1000],
    )
