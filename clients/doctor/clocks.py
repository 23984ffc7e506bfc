"""Is this machine's clock right? Signed documents count by it."""

from collections.abc import Iterator
from datetime import timedelta

from clients.doctor.findings import Circumstances, Finding, failure, ok, warning
from fedcore.errors import FedError
from fedcore.trust import MAX_CLOCK_SKEW

_NOTABLE = timedelta(seconds=30)
_WAY_OUT = "let the machine keep time by NTP (chrony, systemd-timesyncd) or set its clock"


def check_clock(found: Circumstances) -> Iterator[Finding]:
    """Compare the wall clock with governance's, which may be off by half the answer's way."""
    if not found.has_state:
        return
    before = found.clock.now()
    about = found.about
    after = found.clock.now()
    if isinstance(about, FedError):
        yield warning("governance did not answer, so the clock was not compared", _WAY_OUT)
        return
    gap = max(about.now - after, before - about.now, timedelta(0))
    side = "behind" if about.now > after else "ahead of"
    sentence = f"the clock is {gap.total_seconds():.0f} s {side} governance's"
    if gap > MAX_CLOCK_SKEW:
        yield failure("clock.skewed", f"{sentence}; documents would be early or expired", _WAY_OUT)
    elif gap > _NOTABLE:
        yield warning(sentence, _WAY_OUT)
    else:
        yield ok("the clock agrees with governance's")
