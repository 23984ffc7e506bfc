"""The state machine of DPIAs, over every state, act and role."""

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.dpias import ActRecord, DpiaAct, DpiaState
from fedcore.errors import TransitionError
from governance.decisions.dpia import (
    DUTIES,
    FINAL_STATES,
    TRANSITIONS,
    Person,
    Standing,
    decide_transition,
    state_at,
)
from governance.roles import ROLES

NOW = datetime(2025, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
# Expiry is never stored: it is derived from the time.
STATES = [state for state in get_args(DpiaState) if state != "expired"]
ACTS = get_args(DpiaAct)

# Written down a second time, so that a slip in the table of the code shows.
EXPECTED: dict[tuple[DpiaState, DpiaAct, str], DpiaState] = {
    ("draft", "submit", "author"): "submitted",
    ("submitted", "request_changes", "evaluator"): "draft",
    ("submitted", "evaluate", "evaluator"): "evaluated",
    ("evaluated", "advise", "dpo"): "advised",
    ("evaluated", "reject", "approver"): "rejected",
    ("advised", "approve", "approver"): "in_force",
    ("advised", "reject", "approver"): "rejected",
    ("in_force", "suspend", "dpo"): "suspended",
    ("in_force", "suspend", "compliance"): "suspended",
    ("suspended", "resume", "approver"): "in_force",
    ("draft", "withdraw", "author"): "withdrawn",
    ("submitted", "withdraw", "author"): "withdrawn",
    ("evaluated", "withdraw", "author"): "withdrawn",
    ("advised", "withdraw", "author"): "withdrawn",
    ("in_force", "withdraw", "author"): "withdrawn",
    ("suspended", "withdraw", "author"): "withdrawn",
}


def standing(state="draft", acts=(), valid_until=LATER):
    records = [ActRecord(act=act, actor=actor, note="n", acted_at=NOW) for act, actor in acts]
    return Standing(state, "anna", records, valid_until)


def outcome(of, act, name, role, now=NOW):
    try:
        return decide_transition(of, act, Person(name, role), now)
    except TransitionError as error:
        return error.codes


@pytest.mark.parametrize("state", STATES)
def test_only_the_listed_transitions_happen_and_only_by_their_roles(state):
    for act, role in product(ACTS, ROLES):
        found = outcome(standing(state), act, "anna" if role == "author" else "pat", role)
        expected = EXPECTED.get((state, act, role))
        if expected is not None:
            assert found == expected
        elif any(key[:2] == (state, act) for key in EXPECTED):
            assert "dpia.wrong_role" in found
        else:
            assert found == ("dpia.act_not_allowed",)


@pytest.mark.parametrize(
    ("state", "act", "role"), [key for key in EXPECTED if DUTIES.get(key[1]) is not None]
)
@pytest.mark.parametrize("past_act", sorted(DUTIES))
def test_a_person_with_another_duty_may_not_act(state, act, role, past_act):
    author = DUTIES[act] == "author"
    name = "anna" if author else "pat"
    mixed = standing(state, [(past_act, name)])
    found = outcome(mixed, act, name, role)
    if DUTIES[past_act] == DUTIES[act]:
        assert found == EXPECTED[state, act, role]
    else:
        assert found == ("dpia.same_person",)
        # The repaired twin: the same act by somebody who did nothing else.
        repaired = standing(state, [(past_act, "somebody")])
        assert outcome(repaired, act, name, role) == EXPECTED[state, act, role]


@pytest.mark.parametrize(
    ("state", "act", "role"),
    [key for key in EXPECTED if DUTIES.get(key[1]) not in {None, "author"}],
)
def test_the_author_never_judges_their_own_dpia(state, act, role):
    assert outcome(standing(state), act, "anna", role) == ("dpia.same_person",)
    assert outcome(standing(state), act, "someone", role) == EXPECTED[state, act, role]


def test_only_its_own_author_submits_or_withdraws():
    assert outcome(standing(), "submit", "bert", "author") == ("dpia.other_author",)
    assert outcome(standing(), "submit", "anna", "author") == "submitted"
    assert outcome(standing(), "withdraw", "bert", "author") == ("dpia.other_author",)


def test_all_reasons_against_an_act_are_told_at_once():
    found = outcome(standing("advised"), "approve", "anna", "author")
    assert found == ("dpia.wrong_role", "dpia.same_person")


@pytest.mark.parametrize(("state", "act", "role"), EXPECTED)
def test_an_expired_dpia_can_only_be_withdrawn(state, act, role):
    name = "anna" if role == "author" else "pat"
    expired = standing(state, valid_until=NOW)
    expected = EXPECTED[state, act, role] if act == "withdraw" else ("dpia.expired",)
    assert outcome(expired, act, name, role) == expected
    assert outcome(standing(state), act, name, role) == EXPECTED[state, act, role]


@given(state=st.sampled_from(STATES), seconds=st.integers(-5, 5))
def test_expiry_is_derived_from_the_time_and_spares_final_states(state, seconds):
    now = LATER + timedelta(seconds=seconds)
    expired = seconds >= 0 and state not in FINAL_STATES
    assert state_at(state, LATER, now) == ("expired" if expired else state)


def test_final_states_have_no_way_out():
    assert not [key for key in TRANSITIONS if key[0] in {*FINAL_STATES, "expired"}]
