"""Guessing is slowed down: what more failures and more time do."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.decisions.sign_in import ACCOUNT_ALLOWANCE, decide_wait

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
failures = st.integers(0, 10_000)
waited = st.timedeltas(timedelta(0), timedelta(days=2))


def wait(count, since=timedelta(0)):
    return decide_wait(count, NOW - since, ACCOUNT_ALLOWANCE, NOW)


@pytest.mark.parametrize(
    ("count", "seconds"), [(0, 0), (4, 0), (5, 30), (6, 60), (9, 480), (10, 900), (9_999, 900)]
)
def test_the_wait_doubles_from_the_failure_that_exhausts_the_allowance(count, seconds):
    assert wait(count) == timedelta(seconds=seconds)


@given(failures, failures, waited)
def test_more_failures_never_make_the_wait_shorter(some, more, since):
    assert wait(min(some, more), since) <= wait(max(some, more), since)


@given(failures, waited, waited)
def test_time_never_makes_the_wait_longer(count, some, more):
    assert wait(count, max(some, more)) <= wait(count, min(some, more))


@given(failures)
def test_nobody_waits_longer_than_a_quarter_of_an_hour(count):
    assert wait(count, timedelta(minutes=15)) == timedelta(0)
