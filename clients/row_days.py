"""How old a row is, by the public rule of the contract: its own cell, and today's day in UTC.

Guarantees: what becomes of a row depends on no other row.
"""

from dataclasses import dataclass
from datetime import date

import polars as pl

from fedcore.contracts import Contract
from fedcore.errors import MismatchError

_TIME = r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)? ?(UTC|Z|[+-][0-9]{2}:?([0-9]{2})?)?)?"
_CELL = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}" + _TIME + r"\z"
Broken = tuple[str, str, pl.Series]


@dataclass(frozen=True)
class Days:
    """The days of rows that are read: from `since` on, up to the day before `until`."""

    since: date | None = None
    until: date | None = None

    def lack(self, days: pl.Series) -> pl.Series:
        """Return which days are outside; one that is not known is not."""
        outside = pl.Series([False] * len(days), dtype=pl.Boolean)
        if self.since is not None:
            outside |= days < self.since
        if self.until is not None:
            outside |= days >= self.until
        return outside.fill_null(value=False)


ALL_DAYS = Days()


def split_by_age(
    frame: pl.DataFrame, contract: Contract, today: date, wanted: Days = ALL_DAYS
) -> tuple[pl.DataFrame, list[Broken], int]:
    """Return the rows that are not past retention, whose day is at fault, and how many are past.

    A row is past retention from the day on that is more than `retention_days` after its own. One
    whose day cannot be read, or is to come, is at fault: its age is not known. (Some calendars are
    a day ahead of UTC's; more than that is to come everywhere.) Without a rule for days all rows
    are returned, and none is at fault.

    Returns: rows; for each rule on days its column, its words and the rows that break it; a count.
    Raises: MismatchError `plan.undated` when days are wanted and rows have none.
    """
    if contract.row_day is None:
        if wanted != ALL_DAYS:
            raise MismatchError("plan.undated", "the contract gives rows no days to tell them by")
        return frame, [], 0
    column = contract.row_day.column
    cells = frame[column]
    written = cells.str.contains(_CELL).fill_null(value=False)
    days = cells.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    known = written & days.is_not_null()
    age_days = (pl.Series([today], dtype=pl.Date) - days).dt.total_days()
    past = known & (age_days > contract.retention_days).fill_null(value=False)
    future = known & (age_days < -1).fill_null(value=False)
    gone = past | (known & wanted.lack(days))
    rules = (("empty", cells.is_null()), ("not a day", ~known & cells.is_not_null()))
    broken = [
        (column, rule, rows.filter(~gone)) for rule, rows in (*rules, ("a day to come", future))
    ]
    return frame.filter(~gone), broken, int(past.sum())
