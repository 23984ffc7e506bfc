"""What the server takes from its surroundings: clock, the way to governance, and who watches a
run.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from fedcore.gateway import ServerGateway
from fedcore.gateway_http import HttpGateway, open_client
from fedcore.keyfiles import read_api_key
from fedcore.rounds import RoundReport
from fedcore.seam import Seam
from fedserver.settings import ServerSettings

Watcher = Callable[[RoundReport, bytes], None]


@dataclass(frozen=True)
class Runtime:
    """The server's surroundings.

    `watch` is told each report and the model (safetensors) after it: a run that goes on tells the
    last one once more. `pause` lets seconds pass.
    """

    now: Callable[[], datetime]
    gateway: Callable[[ServerSettings], ServerGateway]
    watch: Watcher
    pause: Callable[[float], None] = time.sleep


def _production_gateway(settings: ServerSettings) -> ServerGateway:
    api_key = read_api_key(settings.api_key_file)
    return HttpGateway(open_client(settings.governance_url, settings.governance_ca), api_key)


def _nobody(report: RoundReport, model: bytes) -> None:
    del report, model


PRODUCTION = Runtime(now=lambda: datetime.now(UTC), gateway=_production_gateway, watch=_nobody)
SEAM = Seam("server", PRODUCTION)
