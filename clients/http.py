"""The node's loopback interface: whether it is well."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

HOST = "127.0.0.1"
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


def health_app(health: Callable[[], Health]) -> Starlette:
    """Return the application that answers `GET /healthz`: 200 when the node is ok, else 503.

    Guarantees: nothing about customers, budget or runs; only callers that name this machine's own
        loopback are answered, so that no web page can read it.
    """

    def healthz(request: Request) -> JSONResponse:
        del request
        found = health()
        return JSONResponse(asdict(found), 200 if found.status == "ok" else 503)

    return Starlette(
        routes=[Route("/healthz", healthz)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


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
