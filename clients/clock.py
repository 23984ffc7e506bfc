"""Time as a node sees it: wall time, and time since boot that nobody can set."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """Return the wall time, aware, UTC."""

    def boot(self) -> tuple[str, float]:
        """Return the boot's identity and the seconds since it, suspended time included."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the wall time, aware, UTC."""
        return datetime.now(UTC)

    def boot(self) -> tuple[str, float]:
        """Return the boot's identity and the seconds since it, suspended time included.

        Where the system tells no boot identity every process counts as a boot of its own, so that a
        bulletin that an earlier process pulled is not trusted to be fresh.
        """
        try:
            boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            boot_id = f"process-{_PROCESS_START}"
        return boot_id, time.clock_gettime(_BOOT_CLOCK)


_PROCESS_START = time.time_ns()
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
