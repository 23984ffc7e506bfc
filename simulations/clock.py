"""A clock that stands still until it is told to move."""

from datetime import datetime, timedelta


class ManualClock:
    """Wall time and boot time of a simulated world, the same for everybody in it."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._now = start
        self._boot_s = 1000.0

    def now(self) -> datetime:
        """Return the wall time, aware, UTC."""
        return self._now

    def boot(self) -> tuple[str, float]:
        """Return the boot's identity and the seconds since it."""
        return "simulation", self._boot_s

    def tick(self, step: timedelta) -> None:
        """Let time pass."""
        self._now += step
        self._boot_s += step.total_seconds()

    def set_wall(self, moment: datetime) -> None:
        """Set the wall time without letting time pass, as an operator could."""
        self._now = moment
