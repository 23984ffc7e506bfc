"""How guessing passwords is slowed down: pure, from the failures in a row and the time."""

from datetime import datetime, timedelta

# So many failures cost nothing: of one account, whose owner mistypes, and from one address, behind
# which a whole office may sit.
ACCOUNT_ALLOWANCE = 5
ADDRESS_ALLOWANCE = 30
FORGOTTEN_AFTER = timedelta(hours=24)
_FIRST_WAIT_S = 30
_LONGEST_WAIT_S = 900


def decide_wait(failures: int, last_at: datetime, allowance: int, now: datetime) -> timedelta:
    """Return how long no sign-in is tried any more: 30 s after the failure that exhausts the
    allowance, doubled with each one that follows, at most 15 minutes; zero when it may be tried.

    Guarantees: more failures never make the wait shorter, time never makes it longer.
    """
    beyond = failures - allowance
    if beyond < 0:
        return timedelta(0)
    wait_s = min(_FIRST_WAIT_S * 2 ** min(beyond, 10), _LONGEST_WAIT_S)
    return max(timedelta(0), last_at + timedelta(seconds=wait_s) - now)
