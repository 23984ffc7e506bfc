"""The production HTTP client against an application in this very process, without a socket."""

from contextlib import ExitStack

import httpx
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette


class AsgiTransport(httpx.BaseTransport):
    """Runs an application, and its lifespan, on one event loop in a thread of its own.

    Guarantees: may be used from any thread, also at the same time; a defect of the application
        answers with status 500 as it would over the network; `close` ends lifespan and thread.

    Args:
        app: the application, which belongs to this transport from now on.
    """

    def __init__(self, app: Starlette) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal("asyncio"))
            lifespan = app.router.lifespan_context(app)
            stack.enter_context(self._portal.wrap_async_context_manager(lifespan))
            self._running = stack.pop_all()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the application's answer, read to its end."""
        request.read()
        return self._portal.call(self._answer, request)

    def close(self) -> None:
        """End the application's lifespan and the thread; a second time does nothing."""
        self._running.close()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)
