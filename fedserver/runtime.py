"""What the server takes from its surroundings: clock, the way to governance, and who watches a
run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from fedcore.errors import MismatchError
from fedcore.gateway import ServerGateway
from fedcore.gateway_http import HttpGateway
from fedcore.record import Realm
from fedcore.rounds import RoundReport
from fedserver.settings import ServerSettings

Watcher = Callable[[RoundReport, bytes], None]


@dataclass(frozen=True)
class Runtime:
    """The server's surroundings.

    `watch` is told each report and the model (safetensors) after it.
    """

    now: Callable[[], datetime]
    gateway: Callable[[ServerSettings], ServerGateway]
    watch: Watcher


def _production_gateway(settings: ServerSettings) -> ServerGateway:
    api_key = settings.api_key_file.read_text(encoding="ascii").strip()
    return HttpGateway(httpx.Client(base_url=settings.governance_url, timeout=60.0), api_key)


def _nobody(report: RoundReport, model: bytes) -> None:
    del report, model


PRODUCTION = Runtime(now=lambda: datetime.now(UTC), gateway=_production_gateway, watch=_nobody)
_bound: ContextVar[Runtime] = ContextVar("fedpact_server_runtime", default=PRODUCTION)


def current(realm: Realm) -> Runtime:
    """Return the runtime in force.

    Raises: MismatchError `server.simulation_runtime` for a production server inside a simulation.
    """
    runtime = _bound.get()
    if realm is Realm.PRODUCTION and runtime is not PRODUCTION:
        raise MismatchError(
            "server.simulation_runtime", "a production server cannot run in a simulation"
        )
    return runtime


@contextmanager
def bound(runtime: Runtime) -> Iterator[None]:
    """Use this runtime inside the block. For `simulations` only."""
    token = _bound.set(runtime)
    try:
        yield
    finally:
        _bound.reset(token)
