"""Whether the server is well, as JSON on a loopback port."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket

State = Callable[[], Mapping[str, object]]


@contextmanager
def answering(listener: socket, state: State) -> Iterator[None]:
    """Answer `GET /healthz` on a listening socket while the block lasts.

    Guarantees: 200 when `state()["status"]` is `ok`, else 503; the body is `state()` as JSON.
    """
    handler = type("_Bound", (_Handler,), {"state": staticmethod(state)})
    server = ThreadingHTTPServer(listener.getsockname()[:2], handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    thread = threading.Thread(target=server.serve_forever, args=(0.2,), name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    state: State
    timeout = 5

    def do_GET(self) -> None:
        """Answer whether the server is well."""
        found = self.state() if self.path == "/healthz" else {"status": "unknown path"}
        status = {"ok": 200, "unknown path": 404}.get(str(found["status"]), 503)
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Write nothing: a probe every few seconds is not worth a line."""
