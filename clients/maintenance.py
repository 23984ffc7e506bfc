"""The hours of the week in which a unit takes part in nothing: pure, in UTC."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FORM = re.compile(r"([A-Z][a-z]{2}) ([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_DAY_MIN = 24 * 60
_WEEK_MIN = 7 * _DAY_MIN


@dataclass(frozen=True)
class Window:
    """A part of every week: `start` in minutes since Monday 00:00 UTC, and its length."""

    start: int
    minutes: int

    def contains(self, now: datetime) -> bool:
        """Return whether a time, aware and UTC, lies in it; its end does not belong to it."""
        minute = now.weekday() * _DAY_MIN + now.hour * 60 + now.minute
        return (minute - self.start) % _WEEK_MIN < self.minutes


def parse_window(text: str) -> Window:
    """Return the window of a text such as `Sat 02:00-06:00`, or `Sat 22:00-04:00`, which ends on
    Sunday.

    Raises: ValueError that says the rule.
    """
    found = _FORM.fullmatch(text)
    if not found or found[1] not in _DAYS:
        raise ValueError(f"{text[:40]!r} is no window: write one like 'Sat 02:00-06:00', in UTC")
    start, end = (_minute(int(found[i]), int(found[i + 1])) for i in (2, 4))
    if start in {end, _DAY_MIN}:
        raise ValueError(f"{text} has no length: a whole day is '{found[1]} 00:00-24:00'")
    begins = _DAYS.index(found[1]) * _DAY_MIN + start
    return Window(start=begins, minutes=(end - start) % _DAY_MIN or _DAY_MIN)


def in_maintenance(windows: tuple[str, ...], now: datetime) -> bool:
    """Return whether a time, aware and UTC, lies in any of the windows."""
    return any(parse_window(text).contains(now) for text in windows)


def _minute(hour: int, minute: int) -> int:
    total = hour * 60 + minute
    if minute > 59 or total > _DAY_MIN:
        raise ValueError(f"{hour:02}:{minute:02} is no time of day: 00:00 to 24:00")
    return total


def _checked(text: str) -> str:
    parse_window(text)
    return text


WindowText = Annotated[str, AfterValidator(_checked)]
