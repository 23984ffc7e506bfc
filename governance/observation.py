"""Every request gets an identifier, a line in the journal and a place in the figures."""

import re
import secrets
import time
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from governance.journal import journal
from governance.metrics import UNMATCHED, Metrics

HEADER = "X-Request-Id"
# Where problems leave their reason codes for the journal, and find the request's identifier.
CODES = "fedpact.codes"
IDENTIFIER = "fedpact.request_id"
_FORM = re.compile(r"[A-Za-z0-9._\-]{1,64}")


class Observation:
    """Middleware: takes or makes the request's identifier, and writes down what was answered.

    Guarantees: a caller's identifier is taken when it has the form of one, else a random one is
        made; the answer names it in `X-Request-Id`, a problem also in `request_id`.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        scope[IDENTIFIER] = given if _FORM.fullmatch(given) else secrets.token_hex(16)
        begun = time.perf_counter()
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = scope[IDENTIFIER]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        finally:
            self._write_down(scope, status, time.perf_counter() - begun)

    def _write_down(self, scope: Scope, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        template = UNMATCHED if route is None else route.path
        codes = scope.get(CODES, ())
        self._metrics.observe(scope["method"], template, status, seconds, codes)
        journal.info(
            "answered",
            request_id=scope[IDENTIFIER],
            method=scope["method"],
            route=template,
            status=status,
            codes=list(codes),
            seconds=round(seconds, 6),
        )
