"""What is due for a notice: at the edge of each term, once for each occasion, and about nobody."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.dpias import ActRecord, Condition
from governance.decisions.notice_kinds import NoticeTerms
from governance.decisions.notices import (
    DpiaStanding,
    NoticeFacts,
    UnitStanding,
    decide_next_attempt,
    decide_notices,
)

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TERMS = NoticeTerms(
    dpia_expiring=timedelta(days=30),
    opt_out_sla=timedelta(hours=24),
    unit_stale=timedelta(hours=6),
    incident_due=timedelta(hours=24),
    refused_rounds=3,
    unit_epsilon_cap=None,
    budget_low=0.8,
)
DPIA = DpiaStanding("churn", 1, "sha256:a", "in_force", NOW + timedelta(days=31), ())
UNIT = UnitStanding("north", NOW, None, None)


def kinds(dpias=(), units=(), now=NOW):
    facts = NoticeFacts(dpias=tuple(dpias), units=tuple(units))
    return [notice.kind for notice in decide_notices(facts, TERMS, now)]


@pytest.mark.parametrize(
    ("left", "found"),
    [
        (timedelta(days=30) + SECOND, []),
        (timedelta(days=30), ["dpia_expiring"]),
        (SECOND, ["dpia_expiring"]),
        (timedelta(0), []),
    ],
)
def test_a_dpia_is_expiring_from_thirty_days_before_its_end_until_it_is_over(left, found):
    assert kinds([replace(DPIA, valid_until=NOW + left)]) == found


@pytest.mark.parametrize("state", ["draft", "suspended", "superseded", "withdrawn"])
def test_only_a_dpia_in_force_is_expiring(state):
    soon = replace(DPIA, valid_until=NOW + SECOND)
    assert kinds([replace(soon, state=state)]) == []
    assert kinds([soon]) == ["dpia_expiring"]


def test_a_suspension_is_told_also_when_it_was_lifted_before_anyone_looked():
    acts = tuple(
        ActRecord(act=act, actor="carla", note="why", acted_at=NOW)
        for act in ("suspend", "resume", "suspend")
    )
    notices = decide_notices(NoticeFacts(dpias=(replace(DPIA, acts=acts),)), TERMS, NOW)
    assert [notice.kind for notice in notices] == ["dpia_suspended"] * 2
    assert len({notice.occasion for notice in notices}) == 2
    assert "carla" not in str(notices)
    assert "why" not in str(notices)


def conditional(due_at, fulfilled=()):
    condition = Condition(id="audit", text="have it audited", owner="olga", due_at=due_at)
    act = ActRecord(act="comment", actor="paul", note="why", acted_at=NOW - timedelta(days=9))
    approved = {"act": "approve_with_conditions", "conditions": (condition,)}
    done = {"act": "fulfil_conditions", "fulfilled": fulfilled}
    acts = [act.model_copy(update=changes) for changes in (approved, done)]
    return replace(DPIA, acts=tuple(acts if fulfilled else acts[:1]))


@pytest.mark.parametrize(
    ("dpia", "found"),
    [
        (conditional(NOW), ["dpia_suspended"]),
        (conditional(NOW + SECOND), []),
        (conditional(NOW, ("audit",)), []),
        (replace(conditional(NOW), state="superseded"), []),
    ],
)
def test_a_condition_that_is_overdue_suspends_and_is_told_without_names(dpia, found):
    notices = decide_notices(NoticeFacts(dpias=(dpia,)), TERMS, NOW)
    assert [notice.kind for notice in notices] == found
    assert "olga" not in str(notices)


@pytest.mark.parametrize(("ago", "found"), [(6 * 3600 - 1, []), (6 * 3600, ["unit_stale"])])
def test_a_unit_is_stale_from_the_hours_on_that_the_terms_say(ago, found):
    assert kinds(units=[replace(UNIT, heard_at=NOW - timedelta(seconds=ago))]) == found


@pytest.mark.parametrize(("ago", "found"), [(24 * 3600 - 1, []), (24 * 3600, ["opt_out_late"])])
def test_an_opt_out_is_late_from_the_hours_on_that_the_terms_say(ago, found):
    since = NOW - timedelta(seconds=ago)
    assert kinds(units=[replace(UNIT, pending_sequence=7, pending_since=since)]) == found


def test_how_many_have_opted_out_is_not_told():
    late = replace(UNIT, pending_sequence=7777, pending_since=NOW - timedelta(days=2))
    (notice,) = decide_notices(NoticeFacts(units=(late,)), TERMS, NOW)
    assert "7777" not in notice.subject + notice.text


@given(st.integers(0, 10_000))
def test_attempts_move_apart_but_never_cease(attempts):
    gap = decide_next_attempt(attempts, NOW) - NOW
    assert timedelta(seconds=30) <= gap <= timedelta(hours=6)
    assert gap <= decide_next_attempt(attempts + 1, NOW) - NOW
