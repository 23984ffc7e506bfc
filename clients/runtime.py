"""What a node takes from its surroundings: clock, randomness and the way to governance.

Production has one runtime, and no setting changes it. A simulation binds its own around each call;
a node whose settings say `production` refuses any but the production one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from clients.clock import Clock, SystemClock
from clients.settings import NodeSettings
from fedcore.gateway import NodeGateway
from fedcore.gateway_http import HttpGateway, open_client
from fedcore.privacy.noise import RandomSource, SystemNoise
from fedcore.seam import Seam


@dataclass(frozen=True)
class Runtime:
    """A node's surroundings."""

    clock: Clock
    noise: RandomSource
    gateway: Callable[[NodeSettings], NodeGateway]


def _production_gateway(settings: NodeSettings) -> NodeGateway:
    client = open_client(settings.governance_url, settings.governance_ca)
    # A node is opened for one message: it asks once, and leaves no line open that nobody closes.
    client.headers["Connection"] = "close"
    return HttpGateway(client)


PRODUCTION = Runtime(clock=SystemClock(), noise=SystemNoise(), gateway=_production_gateway)
SEAM = Seam("node", PRODUCTION)
