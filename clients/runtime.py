"""What a node takes from its surroundings: clock, randomness and the way to governance.

Production has one runtime, and no setting changes it. A simulation binds its own around each call;
a node whose settings say `production` refuses any but the production one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import httpx

from clients.clock import Clock, SystemClock
from clients.settings import NodeSettings
from fedcore.errors import MismatchError
from fedcore.gateway import NodeGateway
from fedcore.gateway_http import HttpGateway
from fedcore.privacy.noise import RandomSource, SystemNoise
from fedcore.record import Realm


@dataclass(frozen=True)
class Runtime:
    """A node's surroundings."""

    clock: Clock
    noise: RandomSource
    gateway: Callable[[NodeSettings], NodeGateway]


def _production_gateway(settings: NodeSettings) -> NodeGateway:
    return HttpGateway(httpx.Client(base_url=settings.governance_url, timeout=30.0))


PRODUCTION = Runtime(clock=SystemClock(), noise=SystemNoise(), gateway=_production_gateway)
_bound: ContextVar[Runtime] = ContextVar("fedpact_node_runtime", default=PRODUCTION)


def current(realm: Realm) -> Runtime:
    """Return the runtime in force.

    Raises: MismatchError `node.simulation_runtime` for a production node inside a simulation.
    """
    runtime = _bound.get()
    if realm is Realm.PRODUCTION and runtime is not PRODUCTION:
        raise MismatchError(
            "node.simulation_runtime", "a production node cannot run in a simulation"
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
