"""The service on a port of this machine, over TLS where its settings have a certificate."""

import errno
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from functools import partial
from importlib import import_module
from threading import Event, Thread

import uvicorn

from fedcore.errors import ConflictError, FedError
from fedcore.tls import verify_server_credential
from fedcore.tomlfile import load_toml
from governance import journal
from governance.app import create_app
from governance.notice_settings import NoticeSettings
from governance.notices import notify, notify_until
from governance.office import Office
from governance.receivers import Receiver, open_receivers
from governance.settings import GovernanceSettings
from registry.database import Database, migrate

# How long an attempt that is being made may take before the service ends without it.
STOP_S = 15.0
_logger = logging.getLogger("uvicorn.error")


def serve_until_interrupted(settings: GovernanceSettings, clock: Callable[[], datetime]) -> None:
    """Bring the database to the newest schema and serve.

    Raises: ConflictError `port.in_use`, `port.unusable`; UnreachableError `governance.key_retired`
        when the key was handed over; FedError of key, certificate or notices. All of them before
        the first request is taken.
    """
    journal.write_to(sys.stderr)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        verify_server_credential(settings.tls_certificate, settings.tls_key, clock())
    notified = _notifying(settings, clock)
    with open_port(settings.host, settings.port) as opened:
        migrate(settings.database_url)
        app = create_app(settings, clock)
        import_module("fedcore.privacy.divergences")  # else the first permit would wait for it
        _verify_own_key(app.state.office)
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
        with notified:
            server.run(sockets=[opened])


def _verify_own_key(office: Office) -> None:
    """Refuse to start under a key that was handed over: it would be refused at every request."""
    try:
        with office.reading():
            pass
    except FedError:
        office.close()  # as the application's end would, which does not come now
        raise


def _notifying(
    settings: GovernanceSettings, clock: Callable[[], datetime]
) -> AbstractContextManager[None]:
    """Return what tells people while it is open; its settings and secrets are read at once."""
    if settings.notices is None:
        return nullcontext()
    wishes = load_toml(settings.notices, NoticeSettings)
    return telling(settings.database_url, wishes, open_receivers(wishes), clock)


@contextmanager
def telling(
    url: str, wishes: NoticeSettings, receivers: tuple[Receiver, ...], clock: Callable[[], datetime]
) -> Iterator[None]:
    """Make passes over the notices in a thread of its own, until the end of the block."""
    stop, database = Event(), Database(url)
    one_pass = partial(notify, database, wishes.terms, receivers, clock)
    thread = Thread(
        target=notify_until, args=(stop, one_pass, wishes.interval_s), name="notices", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_S)
        database.close()


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
