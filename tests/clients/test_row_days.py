"""No row past retention is read: whatever the other rows are, wherever the rows lie."""

import sqlite3
from contextlib import closing
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.data import Faults, Inputs, check_source, load_examples, refuse_faults
from clients.mapping import ColumnMapping
from clients.settings import SqlSource
from clients.sources import Source
from fedcore.contracts import DayRule
from fedcore.errors import DataError

DAY = "last_seen"
TODAY = date(2026, 3, 2)
COLUMNS = ("customer_id", "tenure", "charges", "plan", "gender", "churn", DAY)
DATED = {"row_day": DayRule(column=DAY, rule="iso-day/1")}


@pytest.fixture(scope="module")
def dated(contract):
    """The contract with a day for each row; its retention is 365 days."""
    return contract.model_copy(update=DATED)


@pytest.fixture(scope="module")
def read(dated, features, pseudonymiser):
    def of(source, today=TODAY):
        nobody = frozenset().__contains__
        return load_examples(source, dated, Inputs(features), pseudonymiser, nobody, today)

    return of


@pytest.fixture(scope="module")
def check(dated, pseudonymiser):
    return lambda source, today=TODAY: check_source(source, dated, pseudonymiser, today)


@pytest.fixture(scope="module")
def readers(read, check):
    return read, check


def seen(rows, *cells):
    """Rows with these days, the last one for all further rows."""
    days = [*cells, *[cells[-1]] * (len(rows) - len(cells))]
    return [{**row, DAY: cell} for row, cell in zip(rows, days, strict=True)]


def ago(days, today=TODAY):
    return (today - timedelta(days=days)).isoformat()


def content(examples):
    return examples.features.tobytes(), examples.labels.tobytes()


@pytest.mark.parametrize(
    ("today", "day", "past"),
    [
        (TODAY, ago(0), 0),
        (TODAY, ago(365), 0),
        (TODAY, ago(366), 1),
        (TODAY, "0001-01-01", 1),
        (date(2025, 2, 28), "2024-02-29", 0),
        (date(2025, 2, 28), "2024-02-28", 1),
        (date(2024, 2, 29), "2023-03-01", 0),
        (date(2024, 2, 29), "2023-02-28", 1),
        (TODAY, f"{ago(365)}T00:00:00Z", 0),
        (TODAY, f"{ago(366)} 23:59:59.999+02:00", 1),
    ],
)
def test_the_last_day_of_retention_is_read_and_the_next_is_not(
    rows, written, readers, today, day, past
):
    (read, check), path = readers, written(seen(rows, day, ago(1, today)), COLUMNS)
    assert len(read(Source(path), today).labels) == len(rows) - past
    assert check(Source(path), today) == Faults((), past)


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        ("", "empty"),
        ("yesterday", "not a day"),
        ("2025-02-29", "not a day"),
        ("2025-13-01", "not a day"),
        ("02.03.2026", "not a day"),
        ("2026-03-01x", "not a day"),
        ("2026-03-01\n2026", "not a day"),
        ("20260301", "not a day"),
        ("1772409600", "not a day"),
        ("٢٠٢٦-03-01", "not a day"),
        (ago(-2), "a day to come"),
        ("9999-12-31", "a day to come"),
    ],
)
def test_a_row_whose_day_is_not_known_is_a_faulty_row_and_changes_nobody_else(
    rows, written, read, check, cell, rule
):
    found = seen(rows, cell, ago(1))
    path = written(found, COLUMNS, ".parquet")
    assert check(Source(path)).counts == ((DAY, rule, 1),)
    with pytest.raises(DataError, match=f"{DAY}: {rule}"):
        refuse_faults(check(Source(path)))
    assert content(read(Source(path))) == content(read(Source(written(found[1:], COLUMNS))))


def test_calendars_a_day_ahead_of_utc_are_not_to_come(rows, written, check):
    assert check(Source(written(seen(rows, ago(-1)), COLUMNS))) == Faults(())


def test_a_row_past_retention_is_as_if_it_were_not_there(rows, written, read, check):
    """Not even as a second row of its customer, or as a broken one."""
    current = seen(rows, ago(1))
    old = [{**current[0], DAY: ago(400)}, {**current[1], "tenure": "many", DAY: ago(400)}]
    path = written(current + old, COLUMNS)
    assert check(Source(path)) == Faults((), 2)
    assert content(read(Source(path))) == content(read(Source(written(current, COLUMNS))))


def test_a_source_of_which_all_is_past_retention_has_no_rows(rows, written, read, check):
    path = written(seen(rows, ago(400)), COLUMNS)
    with pytest.raises(DataError, match="no rows within retention") as error:
        check(Source(path))
    assert error.value.code == "data.empty"
    assert read(Source(path)).labels.size == 0


def test_a_source_without_the_column_is_refused(rows, written, check):
    with pytest.raises(DataError, match=DAY) as error:
        check(Source(written(rows)))
    assert error.value.code == "data.column_missing"


def test_days_of_parquet_and_of_a_database_are_read_by_the_same_rule(
    rows, written, read, check, tmp_path
):
    found = seen(rows, ago(366), ago(365), ago(0))
    expected = content(read(Source(written(found, COLUMNS))))
    frame = pl.DataFrame(found, schema=dict.fromkeys(COLUMNS, pl.String))
    kinds: tuple[Any, ...] = (pl.Date, pl.Datetime("us"), pl.Datetime("ms", "UTC"))
    for number, kind in enumerate(kinds):
        path = tmp_path / f"{number}.parquet"
        frame.with_columns(pl.col(DAY).str.to_date().cast(kind)).write_parquet(path)
        assert check(Source(path)) == Faults((), 1)
        assert content(read(Source(path))) == expected
    with closing(sqlite3.connect(tmp_path / "crm.db")) as database, database:
        database.execute(
            f"CREATE TABLE customers ({', '.join(COLUMNS)}, PRIMARY KEY (customer_id))"
        )
        database.executemany("INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?, ?)", frame.rows())
    source = SqlSource(url=f"sqlite:///{tmp_path / 'crm.db'}", table="customers")
    assert check(Source(source)) == Faults((), 1)
    assert content(read(Source(source))) == expected


def test_the_units_own_name_of_the_column_is_mapped_and_its_days_have_no_spellings(
    rows, written, check, dated
):
    found = [{**row, "seen": ago(1)} for row in rows]
    path = written(found, (*COLUMNS[:-1], "seen"))
    mapping = ColumnMapping({DAY: "seen"})
    assert check(Source(path, mapping)) == Faults(())
    assert mapping.unknown_names(dated) == []
    spelt = ColumnMapping({DAY: "seen"}, {DAY: {ago(1): (ago(400),)}})
    with pytest.raises(DataError) as error:
        check(Source(path, spelt))
    assert error.value.code == "data.mapping_unfit"


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ages=st.lists(st.integers(-400, 1200), min_size=8, max_size=8),
    passed=st.integers(0, 800),
)
def test_no_row_past_retention_is_ever_yielded(rows, written, read, ages, passed):
    today = TODAY + timedelta(days=passed)
    found = seen(rows, *map(ago, ages))
    within = [row for row, age in zip(found, ages, strict=True) if -1 <= age + passed <= 365]
    undated = read(Source(written(found, COLUMNS)), today)
    assert content(undated) == content(read(Source(written(within, COLUMNS)), today))
    assert len(undated.labels) == len(within)
