"""How long a SuperNode waits: short where something is going on, longer where nothing is."""

import os
import time
from contextlib import suppress

from clients.engine.files import EngineFiles

SHORTEST_POLL_S = 0.1
LONGEST_POLL_S = 3.0
REPLY_POLL_S = 0.02
PULSE_EVERY_S = 1.0
_IDLE_SHARE = 0.01


def decide_poll_interval(idle_s: float) -> float:
    """Return how long to wait before asking the federation server again.

    Guarantees: a hundredth of the time since the last message, hence never more than one percent
        longer than the server took itself; between 0.1 and 3 seconds.
    """
    return min(max(idle_s * _IDLE_SHARE, SHORTEST_POLL_S), LONGEST_POLL_S)


def is_wait_for_reply(seconds: float) -> bool:
    """Return whether Flower's loop, asking for so long a pause, waits for a reply of this node: it
    asks for 0.5 s then, and for 3 s between polls.
    """
    return seconds < 1


class Pace:
    """The clock of a SuperNode's loop: it waits, shows that the loop is alive, and rings.

    Args: `files` of the node that this SuperNode belongs to.
    """

    def __init__(self, files: EngineFiles) -> None:
        self._files = files
        self._last_message = time.monotonic()
        self._last_pulse = 0.0

    def sleep(self, seconds: float) -> None:
        """Wait in Flower's place, which asks for so many `seconds`."""
        now = time.monotonic()
        if now - self._last_pulse >= PULSE_EVERY_S:
            self._last_pulse = now
            with suppress(OSError):  # a full disk is no reason to stop
                self._files.pulse.touch()
        idle = now - self._last_message
        time.sleep(REPLY_POLL_S if is_wait_for_reply(seconds) else decide_poll_interval(idle))

    def message(self) -> None:
        """Note that a message came or went."""
        self._last_message = time.monotonic()

    def ring(self) -> None:
        """Tell the executor that there is a task; one that is not there will find it by itself."""
        with suppress(OSError):
            bell = os.open(self._files.bell, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(bell, b".")
            finally:
                os.close(bell)
