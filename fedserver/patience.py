"""How long a run waits for others: a while, with growing pauses, and not for ever."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import structlog

from fedcore.errors import UnreachableError
from fedserver.runtime import Runtime

T = TypeVar("T")
LONGEST_PAUSE_S = 30.0

log = structlog.get_logger("fedpact.server")


def pauses(patience_s: float) -> Iterator[float]:
    """Yield pauses in seconds, each twice the one before up to `LONGEST_PAUSE_S`, that add up to
    `patience_s`.
    """
    left, pause = patience_s, 1.0
    while left > 0:
        yield min(pause, left)
        left, pause = left - pause, min(2 * pause, LONGEST_PAUSE_S)


def patiently(act: Callable[[], T], runtime: Runtime, patience_s: float) -> T:
    """Return what `act` returns, tried again while another party does not answer.

    Raises: UnreachableError after the patience is spent; what else `act` raises at once.
    """
    for pause in pauses(patience_s):
        try:
            return act()
        except UnreachableError as error:
            log.warning("waiting", code=error.code, seconds=pause)
        runtime.pause(pause)
    return act()
