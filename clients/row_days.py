"""How old a row is, by the public rule of the contract: its own cell, and today's day in UTC.

Guarantees: what becomes of a row depends on no other row.
"""

from datetime import date

import polars as pl

from fedcore.contracts import Contract

_TIME = r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)? ?(UTC|Z|[+-][0-9]{2}:?([0-9]{2})?)?)?"
_CELL = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}" + _TIME + r"\z"
Broken = tuple[str, str, pl.Series]


def split_by_age(
    frame: pl.DataFrame, contract: Contract, today: date
) -> tuple[pl.DataFrame, list[Broken], int]:
    """Return the rows that are not past retention, whose day is at fault, and how many are past.

    A row is past retention from the day on that is more than `retention_days` after its own. One
    whose day cannot be read, or is to come, is at fault: its age is not known. (Some calendars are
    a day ahead of UTC's; more than that is to come everywhere.) Without a rule for days all rows
    are returned, and none is at fault.

    Returns: rows; for each rule on days its column, its words and the rows that break it; a count.
    """
    if contract.row_day is None:
        return frame, [], 0
    column = contract.row_day.column
    cells = frame[column]
    written = cells.str.contains(_CELL).fill_null(value=False)
    days = cells.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    known = written & days.is_not_null()
    age_days = (pl.Series([today], dtype=pl.Date) - days).dt.total_days()
    past = known & (age_days > contract.retention_days).fill_null(value=False)
    future = known & (age_days < -1).fill_null(value=False)
    rules = (("empty", cells.is_null()), ("not a day", ~known & cells.is_not_null()))
    broken = [
        (column, rule, rows.filter(~past)) for rule, rows in (*rules, ("a day to come", future))
    ]
    return frame.filter(~past), broken, int(past.sum())
