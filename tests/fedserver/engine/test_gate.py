import asyncio
import io
import json
import zipfile
from typing import Any

import pytest
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.transport_pb2 import Scalar
from flwr.superlink.routers.control import router as control_router
from flwr.superlink.routers.fleet.router import router as fleet_router

from fedcore.errors import ForbiddenError
from fedserver.engine import gate
from fedserver.engine.bundle import bundle_hash
from fedserver.engine.gate import CONTROL, FLEET, RUNTIME, FleetDoor, LocalDoor, verify_start

PLAN, RUN_ID, SECRET = "sha256:" + "a" * 64, "run-1", "s" * 64
BEARER = [(b"authorization", b"Bearer " + SECRET.encode())]


class Application:
    """Reads each request to its end, and says what it read."""

    def __init__(self):
        self.seen = []
        self.left = False

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left = True
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.seen.append((scope["path"], body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def ask(door, path, chunks=(b"",), headers=()):
    """Return status and JSON of one request; None when nothing was answered."""
    parts, sent = list(chunks), []

    async def receive():
        if not parts:
            return {"type": "http.disconnect"}
        body = parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    asyncio.run(door(scope, receive, send))
    if not sent:
        return None
    body = sent[1]["body"]
    return sent[0]["status"], json.loads(body) if body else None


def start_bytes(**changes):
    request = gate.start_request(PLAN, RUN_ID)
    for name, value in changes.items():
        setattr(request, name, value)
    return request.SerializeToString()


def with_files(**files):
    """Return the bytes of a request whose bundle has these files, too."""
    request = gate.start_request(PLAN, RUN_ID)
    packed = io.BytesIO(request.fab.content)
    with zipfile.ZipFile(packed, "a") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/") + ".py", text)
    request.fab.content = packed.getvalue()
    return request.SerializeToString()


def configured(**config):
    request = gate.start_request(PLAN, RUN_ID)
    for name, value in config.items():
        request.override_config[name.replace("_", "-")].CopyFrom(Scalar(string=value))
    return request.SerializeToString()


def wished(name, value):
    request = gate.start_request(PLAN, RUN_ID)
    getattr(request, name).append(value)
    return request.SerializeToString()


HOSTILE = {
    "code beside": with_files(torch="print('here')"),
    "a clients package": with_files(clients__app="app = None"),
    "an app of the hub": start_bytes(app_spec="@stranger/app"),
    "another federation": start_bytes(federation="@none/other"),
    "a prompt": start_bytes(user_prompt="do this"),
    "a series": start_bytes(series_id=7),
    "a connector": wished("connector_refs", "mail"),
    "a connector by number": wished("connector_ids", 3),
    "further configuration": configured(colour="red"),
    "a plan that is no digest": configured(plan_digest="sha256:zz"),
    "a run id that is a path": configured(run_id="../../etc"),
    "a run id with a line after it": configured(run_id="run-1\n"),
    "an unknown field": start_bytes() + b"\xfa\x3f\x01x",
    "no request": b"\xff\xff",
    "nothing": b"",
    "only a hash": StartRunRequest(
        fab=Fab(hash_str=bundle_hash()),
        override_config=gate.start_request(PLAN, RUN_ID).override_config,
    ).SerializeToString(),
}


def test_our_own_start_is_taken():
    verify_start(start_bytes())


@pytest.mark.parametrize("name", HOSTILE)
def test_any_other_start_is_refused(name):
    with pytest.raises(ForbiddenError) as caught:
        verify_start(HOSTILE[name])
    assert caught.value.code == "bundle.foreign"


@pytest.mark.parametrize("path", sorted(FLEET))
def test_nodes_find_the_fleet_interface(path):
    inner = Application()
    assert ask(FleetDoor(inner), path, [b"ab", b"c"])[0] == 200
    assert inner.seen == [(path, b"abc")]


@pytest.mark.parametrize(
    "path",
    [
        *sorted(CONTROL | RUNTIME),
        "/health",
        "/docs",
        "/openapi.json",
        "/",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/start-run",
        "//v1/control/start-run",
        "/v1/runtime/responses",
    ],
)
def test_nodes_find_nothing_else_even_with_the_secret(path):
    inner = Application()
    status, told = ask(FleetDoor(inner), path, [start_bytes()], BEARER)
    assert (status, told["code"], inner.seen) == (404, "superlink.no_such_path", [])


def test_a_body_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(gate, "MAX_BODY_BYTES", 10)
    inner = Application()
    assert ask(FleetDoor(inner), "/v1/fleet/push-object", [b"x" * 6] * 3) is None
    assert inner.left
    assert ask(FleetDoor(inner), "/v1/fleet/push-object", [b"x" * 5] * 2)[0] == 200


@pytest.mark.parametrize("path", sorted(CONTROL))
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer " + b"t" * 64)],
        [(b"authorization", SECRET.encode())],
        [*BEARER, *BEARER],
        [(b"cookie", b"Bearer " + SECRET.encode())],
    ],
)
def test_no_command_is_taken_without_the_secret(path, headers):
    inner = Application()
    status, told = ask(LocalDoor(inner, SECRET), path, [start_bytes()], headers)
    assert (status, told["code"], inner.seen) == (403, "control.forbidden", [])


@pytest.mark.parametrize("path", sorted(CONTROL))
def test_commands_are_taken_with_the_secret(path):
    inner = Application()
    body = start_bytes()
    assert ask(LocalDoor(inner, SECRET), path, [body[:10], body[10:]], BEARER)[0] == 200
    assert inner.seen == [(path, body)]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_foreign_bundle_is_refused_even_with_the_secret(name):
    inner = Application()
    status, told = ask(LocalDoor(inner, SECRET), gate.START_RUN, [HOSTILE[name]], BEARER)
    assert (status, told["code"], inner.seen) == (403, "bundle.foreign", [])


def test_a_start_that_is_too_long_or_torn_is_refused(monkeypatch):
    inner = Application()
    door = LocalDoor(inner, SECRET)
    long = [b"x" * gate.MAX_START_BYTES, b"x"]
    assert ask(door, gate.START_RUN, long, BEARER)[1]["code"] == "bundle.foreign"
    assert ask(door, gate.START_RUN, [], BEARER)[1]["code"] == "bundle.foreign"
    assert inner.seen == []


@pytest.mark.parametrize("path", sorted(RUNTIME | {gate.HEALTH}))
def test_tasks_and_health_pass_by_flowers_own_tokens(path):
    inner = Application()
    assert ask(LocalDoor(inner, SECRET), path)[0] == 200
    assert inner.seen == [(path, b"")]


@pytest.mark.parametrize(
    "path",
    [
        *sorted(FLEET),
        "/v1/control/add-app",
        "/v1/control/create-federation",
        "/v1/control/start-automation",
        "/v1/control/pull-artifacts",
        "/v1/runtime/create-task",
        "/v1/runtime/start-automation",
        "/v1/runtime/responses",
        "/v1/runtime/get-connector",
        "/docs",
    ],
)
def test_nothing_else_of_flower_is_reachable_here_either(path):
    inner = Application()
    status, told = ask(LocalDoor(inner, SECRET), path, [b""], BEARER)
    assert (status, told["code"], inner.seen) == (404, "superlink.no_such_path", [])


def test_every_path_that_is_let_through_is_one_of_flowers():
    routes: Any = (*fleet_router.routes, *control_router.routes)
    paths = {route.path for route in routes}
    assert paths >= FLEET | CONTROL


@pytest.mark.parametrize("make", [FleetDoor, lambda inner: LocalDoor(inner, SECRET)])
def test_a_websocket_leads_nowhere(make):
    inner, sent = Application(), []

    async def send(message):
        sent.append(message["type"])

    scope = {"type": "websocket", "path": "/v1/fleet/get-run", "headers": BEARER}
    asyncio.run(make(inner)(scope, None, send))
    assert inner.seen == []
    assert sent in ([], ["websocket.close"])
