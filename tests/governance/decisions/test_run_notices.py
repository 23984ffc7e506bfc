"""Units without answers, and budgets: from the edge on, once for each run and each cap."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.decisions.notice_kinds import NoticeTerms
from governance.decisions.run_notices import (
    BudgetStanding,
    RunStanding,
    notices_of_budget,
    notices_of_run,
)

HOUR = timedelta(hours=1)
TERMS = NoticeTerms(HOUR, HOUR, HOUR, HOUR, 3, 10.0, 0.8)
NORTH = frozenset({"north"})
NOBODY: frozenset[str] = frozenset()


def told(*unavailable, run_id="run-1"):
    return [
        (n.subject, n.occasion) for n in notices_of_run(RunStanding(run_id, unavailable), TERMS)
    ]


@pytest.mark.parametrize(
    ("unavailable", "count"),
    [
        ((), 0),
        ((NORTH, NORTH), 0),
        ((NORTH, NORTH, NORTH), 1),
        ((NORTH, NORTH, NOBODY, NORTH), 0),
        ((NORTH, NORTH, NORTH, NOBODY), 1),
        ((NOBODY, NORTH, NORTH, NORTH, NORTH), 1),
        ((NORTH, NORTH, NORTH, NOBODY, NORTH, NORTH, NORTH), 1),
    ],
)
def test_a_unit_is_told_after_three_rounds_in_a_row_and_also_when_it_is_back(unavailable, count):
    assert told(*unavailable) == [("north", "node_refusing run-1 north")] * count


def test_each_unit_and_each_run_is_an_occasion_of_its_own():
    both = NORTH | {"south"}
    assert [subject for subject, _ in told(both, both, both)] == ["north", "south"]
    assert told(*[NORTH] * 3, run_id="run-2") != told(*[NORTH] * 3, run_id="run-1")


@given(st.lists(st.sets(st.sampled_from(["a", "b", "c"])).map(frozenset), max_size=12), st.data())
def test_what_was_told_once_stays_so_whatever_is_reported_after(reports, data):
    length = data.draw(st.integers(0, len(reports)))
    assert set(told(*reports[:length])) <= set(told(*reports))


@pytest.mark.parametrize(("granted", "count"), [(7.99, 0), (8.0, 1), (12.0, 1)])
def test_a_budget_is_low_from_the_share_of_the_cap_on(granted, count):
    assert len(list(notices_of_budget(BudgetStanding("north", granted), TERMS))) == count


def test_without_a_known_cap_no_budget_is_low_and_another_cap_is_another_occasion():
    budget = BudgetStanding("north", 100.0)
    assert list(notices_of_budget(budget, replace(TERMS, unit_epsilon_cap=None))) == []
    occasions = {
        notice.occasion
        for cap in (10.0, 20.0)
        for notice in notices_of_budget(budget, replace(TERMS, unit_epsilon_cap=cap))
    }
    assert len(occasions) == 2
