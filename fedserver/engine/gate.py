"""What of Flower's SuperLink is reachable, and for whom.

Flower 1.41 serves three interfaces on one port, and one of them, Control, takes commands from
everybody: register a node, run this code. Here they stand behind two doors. Nodes come in by the
first, under TLS, and find the Fleet interface only, which knows them by their keys. The second is
on loopback: Control for those who have the server's secret, Runtime for the server's own tasks.
Everything else does not exist.
"""

import hmac
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.transport_pb2 import Scalar
from google.protobuf.message import DecodeError

from fedcore import wire
from fedcore.errors import FedError, ForbiddenError, NotFoundError
from fedserver.engine.bundle import build_bundle, bundle_hash

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_START_BYTES = 1024 * 1024
HEALTH = "/health"
START_RUN = "/v1/control/start-run"
FLEET = frozenset(
    f"/v1/fleet/{name}"
    for name in (
        "register-node",
        "activate-node",
        "deactivate-node",
        "unregister-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
CONTROL = frozenset(
    f"/v1/control/{name}"
    for name in (
        "start-run",
        "stop-run",
        "list-runs",
        "register-node",
        "unregister-node",
        "list-nodes",
    )
)
RUNTIME = frozenset(
    f"/v1/runtime/{name}"
    for name in (
        "acquire-task",
        "send-task-heartbeat",
        "pull-task-input",
        "push-task-output",
        "push-object",
        "pull-object",
        "confirm-message-received",
        "push-logs",
        "push-messages",
        "pull-messages",
        "get-nodes",
    )
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RUN_ID = re.compile(r"[a-z0-9][a-z0-9_.\-]{0,79}")


class FleetDoor:
    """The nodes' door: Flower's Fleet interface and nothing else.

    Guarantees: every other path is 404 whatever it carries; no request body above
        `MAX_BODY_BYTES` is read.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's start and end."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
        elif scope["type"] != "http" or scope["path"] not in FLEET:
            await _refuse(scope, send, NotFoundError("superlink.no_such_path", "nothing is here"))
        else:
            await self._application(scope, _limited(receive, MAX_BODY_BYTES), send)


class LocalDoor:
    """This machine's door: Control by the secret, Runtime by Flower's own task tokens.

    Guarantees: without the secret no Control path does anything; a run is started only with the
        bundle without code, and with plan digest and run id as its only configuration.

    Args: `secret` is what `Authorization: Bearer` must carry.
    """

    def __init__(self, application: Application, secret: str) -> None:
        self._application = application
        self._expected = f"Bearer {secret}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        try:
            inner = await self._admitted(scope, receive)
        except FedError as error:
            await _refuse(scope, send, error)
        else:
            await self._application(scope, inner, send)

    async def _admitted(self, scope: Scope, receive: Receive) -> Receive:
        """Return from where the application reads the request. Raises: FedError."""
        path = scope["path"]
        if path in CONTROL:
            self._verify_secret(scope["headers"])
        elif path not in RUNTIME and path != HEALTH:
            raise NotFoundError("superlink.no_such_path", "nothing is here")
        if path != START_RUN:
            return _limited(receive, MAX_BODY_BYTES)
        body = await _read(receive, MAX_START_BYTES)
        verify_start(body)
        return _replayed(body)

    def _verify_secret(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        given = [value for name, value in headers if name.lower() == b"authorization"]
        if len(given) != 1 or not hmac.compare_digest(given[0], self._expected):
            raise ForbiddenError(
                "control.forbidden", "the Control interface needs the server's secret"
            )


def start_request(plan: str, run_id: str) -> StartRunRequest:
    """Return the one request that starts a run of this plan under this run id."""
    content = build_bundle()
    config: Mapping[str, str] = {wire.PLAN_DIGEST: plan, wire.RUN_ID: run_id}
    return StartRunRequest(
        fab=Fab(hash_str=bundle_hash(), content=content),
        override_config={name: Scalar(string=value) for name, value in config.items()},
    )


def verify_start(body: bytes) -> None:
    """Verify that a request starts a run as we do, to the byte.

    Guarantees: the bundle is ours; nothing of a hub, another federation, a simulation, a connector
        or a prompt comes along; the configuration is a plan digest and a run id.
    Raises: ForbiddenError `bundle.foreign`.
    """
    try:
        request = StartRunRequest.FromString(body)
    except DecodeError as error:
        raise _foreign() from error
    values = {name: scalar.string for name, scalar in request.override_config.items()}
    plan, run_id = values.get(wire.PLAN_DIGEST, ""), values.get(wire.RUN_ID, "")
    if not _DIGEST.fullmatch(plan) or not _RUN_ID.fullmatch(run_id):
        raise _foreign()
    ours = start_request(plan, run_id).SerializeToString(deterministic=True)
    if request.SerializeToString(deterministic=True) != ours:
        raise _foreign()


def _foreign() -> FedError:
    return ForbiddenError(
        "bundle.foreign",
        "runs are started with this software's own bundle, a plan digest and a run id only",
    )


def _limited(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that ends the request as if the caller had left, once it is too long."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > limit else message

    return limited


async def _read(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _foreign()
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > limit:
            raise _foreign()
        more = bool(message.get("more_body", False))
    return b"".join(parts)


def _replayed(body: bytes) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return replay


async def _refuse(scope: Scope, send: Send, error: FedError) -> None:
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008})
        return
    status = 404 if isinstance(error, NotFoundError) else 403
    body = json.dumps({"code": error.code, "detail": error.public}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
