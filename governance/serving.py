"""The service on a port of this machine, over TLS where its settings have a certificate."""

import errno
import logging
import socket
import sys
from collections.abc import Callable
from datetime import datetime

import uvicorn

from fedcore.errors import ConflictError
from fedcore.tls import verify_server_credential
from governance import journal
from governance.app import create_app
from governance.settings import GovernanceSettings
from registry.database import migrate

_logger = logging.getLogger("uvicorn.error")


def serve_until_interrupted(settings: GovernanceSettings, clock: Callable[[], datetime]) -> None:
    """Bring the database to the newest schema and serve.

    Raises: ConflictError `port.in_use`, `port.unusable`; UnreachableError `governance.key_retired`
        when the key was handed over; FedError of key or certificate. All of them before the first
        request is taken.
    """
    journal.write_to(sys.stderr)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        verify_server_credential(settings.tls_certificate, settings.tls_key, clock())
    with open_port(settings.host, settings.port) as opened:
        migrate(settings.database_url)
        app = create_app(settings, clock)
        with app.state.office.reading():
            pass  # a key that was handed over would be refused at every request
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                server_header=False,
                ws="none",
                # Paths hold names; the journal has a line for each request without them.
                access_log=False,
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
            )
        )
        scheme = "http" if settings.tls_certificate is None else "https"
        _logger.info("serving %s on %s port %s", scheme, settings.host, settings.port)
        server.run(sockets=[opened])


def open_port(host: str, port: int) -> socket.socket:
    """Return a socket that this process alone listens on.

    Raises: ConflictError `port.in_use`, `port.unusable`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                "port.in_use",
                f"port {port} of {host} is in use: end the program that has it, or set another "
                "`port` in the settings",
                str(error),
            ) from error
        raise ConflictError(
            "port.unusable",
            f"this machine cannot listen on port {port} of {host}: mend `host` and `port` in the "
            "settings",
            str(error),
        ) from error
