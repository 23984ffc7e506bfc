"""What is asked of every request and added to every answer, before any route."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedcore.errors import InvalidRecordError
from governance import problems


class RequestLimits:
    """Middleware: bodies above `max_body_bytes` are refused, and answers carry security headers.

    Guarantees: no more than the limit is ever held in memory, also for bodies of unstated length.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in problems.SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        body = await self._read(scope, receive)
        if body is None:
            limit = f"the body has more than {self._max_body_bytes} bytes, or was broken off"
            error = InvalidRecordError("request.too_large", limit)
            response = problems.answer(error, scope, 413)
            await response(scope, receive, send_with_headers)
            return
        await self._app(scope, _Replay(body, receive), send_with_headers)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the whole body, or None when it is too large or the caller has gone."""
        stated = Headers(scope=scope).get("content-length", "0")
        if not stated.isdigit() or int(stated) > self._max_body_bytes:
            return None
        body = bytearray()
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if message["type"] != "http.request" or len(body) > self._max_body_bytes:
                return None
        return bytes(body)


class _Replay:
    """Gives a body that was read already, then whatever comes after it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
