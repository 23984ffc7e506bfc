"""The node's loopback interface: whether it is well, and what the unit's own systems hand in."""

import asyncio
import hmac
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

HOST = "127.0.0.1"
MAX_BODY = 8192
_STOP_S = 5.0


@dataclass(frozen=True)
class Health:
    """How a running node is.

    Attributes:
        status: `ok` when an order would be answered now, else `unwell`.
        unit: the unit's name.
        supernode: `connected`, `connecting` to the federation server, or `down`.
        executor: `ready`, `starting` or `down`.
        version: of this software.
    """

    status: str
    unit: str
    supernode: str
    executor: str
    version: str


@dataclass(frozen=True)
class Intake:
    """How the unit's own systems hand in what customers say.

    Attributes:
        token: that they send as a bearer token.
        take: what is done with a body; returns status and answer.
    """

    token: str
    take: Callable[[bytes], tuple[int, dict[str, object]]]


def node_app(health: Callable[[], Health], intake: Intake | None = None) -> Starlette:
    """Return the application that answers `GET /healthz`: 200 when the node is ok, else 503; and,
    with an intake, `POST /opt-outs`.

    Guarantees: nothing about customers, budget or runs is told; only callers that name this
        machine's own loopback are answered, so that no web page can read it; nothing is taken in
        without the token, above 8 KiB, or from a form of a web page.
    """

    def healthz(request: Request) -> JSONResponse:
        del request
        found = health()
        return JSONResponse(asdict(found), 200 if found.status == "ok" else 503)

    routes = [Route("/healthz", healthz)]
    if intake is not None:
        routes.append(Route("/opt-outs", _intake_endpoint(intake), methods=["POST"]))
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


def _intake_endpoint(intake: Intake) -> Callable[[Request], Awaitable[JSONResponse]]:
    one_at_a_time = asyncio.Lock()
    expected = f"Bearer {intake.token}".encode()

    async def opt_outs(request: Request) -> JSONResponse:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, expected):
            return _refusal(401, "intake.token_wrong", "send the token of intake.token as Bearer")
        if request.headers.get("content-type") != "application/json":
            return _refusal(415, "intake.not_json", "send application/json")
        body = await _bounded_body(request)
        if body is None:
            return _refusal(413, "intake.too_large", f"send at most {MAX_BODY} bytes")
        async with one_at_a_time:
            status, answer = await run_in_threadpool(intake.take, body)
        return JSONResponse(answer, status)

    return opt_outs


async def _bounded_body(request: Request) -> bytes | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return body


def _refusal(status: int, code: str, detail: str) -> JSONResponse:
    return JSONResponse({"code": code, "detail": detail}, status)


@contextmanager
def served(app: Starlette, port: int) -> Iterator[None]:
    """Serve an application on this loopback port while the block runs."""
    server = uvicorn.Server(
        uvicorn.Config(app, host=HOST, port=port, log_level="warning", access_log=False, ws="none")
    )
    thread = threading.Thread(target=server.run, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(_STOP_S)
