"""What a ledger adds up to, part by part, and how often a run still fits: pure."""

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from clients.budget import WHOLE, Bound, Cap, Reserved, Scope, events_under
from fedcore.privacy.accounting import filter_share, pld_epsilon, renyi_epsilon

Every = Literal["day", "week", "month", "quarter", "year"]
_MONTHS: Mapping[str, int] = {"month": 1, "quarter": 3, "year": 12}
_DAYS: Mapping[str, int] = {"day": 1, "week": 7}
# Nobody plans further ahead; a run that still fits then fits for good, as far as this tells.
MOST_REPEATS = 1000


@dataclass(frozen=True)
class Part:
    """One part of the history: what is claimed for it, and its cap, if it has one.

    Attributes:
        claim: the bound of the filter.
        pld: by privacy loss distributions, if plans did not depend on outputs.
        cap: the least of the caps in force.
        used: the share of that cap that is used up, at the order at which its filter counts.
    """

    scope: Scope
    of: str
    claim: float
    pld: float
    cap: float | None
    used: float | None


@dataclass(frozen=True)
class Outlook:
    """What a run would do to one part of the history.

    Attributes:
        before: the claim now.
        after: the claim with the run.
        repeats: how often the run fits under this bound alone.
        refused_at: the day on which it first would not fit; None when that is not in sight.
    """

    bound: Bound
    before: float
    after: float
    repeats: int
    refused_at: date | None


def parts_of(reserved: Sequence[Reserved], cap: Cap, policy: Iterable[Bound]) -> list[Part]:
    """Return the whole history and each purpose, line and year in it or under a bound.

    Args: `policy` are bounds of the settings on parts.
    """
    bounds = {bound for one in reserved for bound in one.bounds} | set(policy)
    bounds.add(Bound("history", WHOLE, cap.epsilon))
    named: set[tuple[Scope, str]] = {(bound.scope, bound.of) for bound in bounds}
    for one in reserved:
        named |= {("purpose", name) for name in one.purposes or ()}
        named |= {("line", one.line)} if one.line else set()
        named |= {("year", str(year)) for year in range(one.years[0], one.years[1] + 1)}
    found = []
    for scope, of in sorted(named, key=lambda part: (_ORDER.index(part[0]), part[1])):
        least = min((b.epsilon for b in bounds if (b.scope, b.of) == (scope, of)), default=None)
        events = events_under(Bound(scope, of, 0.0), reserved)
        used = None if least is None else filter_share(events, least, cap.delta)
        claim, pld = renyi_epsilon(events, cap.delta), pld_epsilon(events, cap.delta)
        found.append(Part(scope, of, claim, pld, least, used))
    return found


_ORDER: Sequence[Scope] = ("history", "purpose", "line", "year")


def outlook_of(
    reserved: Sequence[Reserved],
    wish: Reserved,
    bounds: Iterable[Bound],
    delta: float,
    days: Sequence[date],
) -> list[Outlook]:
    """Return what a run would do under each bound, once and repeated.

    Args: `days` are those on which it would be repeated, from now on; a yearly cap is a fresh one
    each year.
    """
    found = []
    for bound in bounds:
        events = events_under(bound, reserved)
        used = filter_share(events, bound.epsilon, delta)
        each = filter_share([wish.event], bound.epsilon, delta)
        is_yearly = bound.scope == "year"
        refused = _first_refused(used, each, days, is_yearly=is_yearly)
        found.append(
            Outlook(
                bound=bound,
                before=renyi_epsilon(events, delta),
                after=renyi_epsilon([*events, wish.event], delta),
                repeats=_repeats(used, each),
                refused_at=refused,
            )
        )
    return found


def _repeats(used: float, each: float) -> int:
    return sum(1 for count in range(1, MOST_REPEATS + 1) if used + count * each <= 1)


def _first_refused(
    used: float, each: float, days: Sequence[date], *, is_yearly: bool
) -> date | None:
    year, before, count = days[0].year, used, 0
    for day in days:
        if is_yearly and day.year != year:
            year, before, count = day.year, 0.0, 0
        count += 1
        if before + count * each > 1:
            return day
    return None


def days_of(first: date, every: Every) -> Iterator[date]:
    """Yield the first day and those that follow it; the 31st is the last of a shorter month."""
    for number in range(MOST_REPEATS):
        if every in _DAYS:
            yield first + timedelta(days=number * _DAYS[every])
            continue
        months = first.month - 1 + number * _MONTHS[every]
        year, month = first.year + months // 12, months % 12 + 1
        yield date(year, month, min(first.day, monthrange(year, month)[1]))
