"""The state machine of DPIAs, over every state, act and role."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.dpias import ActRecord, Condition, DpiaAct, DpiaState
from fedcore.errors import TransitionError
from governance.decisions.dpia import TRANSITIONS, decide_transition
from governance.decisions.dpia_rules import DUTIES, TAKES
from governance.decisions.dpia_standing import (
    FINAL_STATES,
    Standing,
    is_expiring,
    state_at,
)
from governance.roles import ROLES

NOW = datetime(2025, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=365)
# Expiry is never stored: it is derived from the time.
STATES = [state for state in get_args(DpiaState) if state != "expired"]
ACTS = get_args(DpiaAct)
OPEN = [state for state in STATES if state not in FINAL_STATES]
COMMENTING = ("author", "evaluator", "dpo", "approver", "compliance")

# Written down a second time, so that a slip in the table of the code shows.
EXPECTED: dict[tuple[DpiaState, DpiaAct, str], DpiaState] = {
    ("draft", "submit", "author"): "submitted",
    ("submitted", "request_changes", "evaluator"): "changes_requested",
    ("changes_requested", "revise", "author"): "draft",
    ("submitted", "evaluate", "evaluator"): "evaluated",
    ("evaluated", "request_advice", "evaluator"): "dpo_review",
    ("evaluated", "advise", "dpo"): "advised",
    ("dpo_review", "advise", "dpo"): "advised",
    ("advised", "request_approval", "dpo"): "pending_approval",
    ("advised", "approve", "approver"): "in_force",
    ("advised", "approve_with_conditions", "approver"): "in_force",
    ("pending_approval", "approve", "approver"): "in_force",
    ("pending_approval", "approve_with_conditions", "approver"): "in_force",
    ("evaluated", "reject", "approver"): "rejected",
    ("dpo_review", "reject", "approver"): "rejected",
    ("advised", "reject", "approver"): "rejected",
    ("pending_approval", "reject", "approver"): "rejected",
    ("advised", "consult_authority", "approver"): "prior_consultation",
    ("pending_approval", "consult_authority", "approver"): "prior_consultation",
    ("prior_consultation", "extend_consultation", "dpo"): "prior_consultation",
    ("prior_consultation", "extend_consultation", "compliance"): "prior_consultation",
    ("prior_consultation", "answer_of_authority", "dpo"): "pending_approval",
    ("prior_consultation", "answer_of_authority", "compliance"): "pending_approval",
    ("prior_consultation", "close_consultation", "dpo"): "pending_approval",
    ("prior_consultation", "close_consultation", "compliance"): "pending_approval",
    ("approved", "enter_force", "compliance"): "in_force",
    ("approved_with_conditions", "enter_force", "compliance"): "in_force",
    ("approved_with_conditions", "fulfil_conditions", "approver"): "approved_with_conditions",
    ("in_force", "fulfil_conditions", "approver"): "in_force",
    ("suspended", "fulfil_conditions", "approver"): "suspended",
    ("in_force", "suspend", "dpo"): "suspended",
    ("in_force", "suspend", "compliance"): "suspended",
    ("suspended", "resume", "approver"): "in_force",
    ("draft", "withdraw", "author"): "withdrawn",
    ("submitted", "withdraw", "author"): "withdrawn",
    ("changes_requested", "withdraw", "author"): "withdrawn",
    ("evaluated", "withdraw", "author"): "withdrawn",
    ("dpo_review", "withdraw", "author"): "withdrawn",
    ("advised", "withdraw", "author"): "withdrawn",
    ("pending_approval", "withdraw", "author"): "withdrawn",
    ("prior_consultation", "withdraw", "author"): "withdrawn",
    ("approved", "withdraw", "author"): "withdrawn",
    ("approved_with_conditions", "withdraw", "author"): "withdrawn",
    ("in_force", "withdraw", "author"): "withdrawn",
    ("suspended", "withdraw", "author"): "withdrawn",
    ("in_force", "open_review", "dpo"): "in_force",
    ("in_force", "open_review", "compliance"): "in_force",
    ("suspended", "open_review", "dpo"): "suspended",
    ("suspended", "open_review", "compliance"): "suspended",
    ("in_force", "close_review", "dpo"): "in_force",
    ("in_force", "close_review", "approver"): "in_force",
    ("in_force", "close_review", "compliance"): "in_force",
    ("suspended", "close_review", "dpo"): "suspended",
    ("suspended", "close_review", "approver"): "suspended",
    ("suspended", "close_review", "compliance"): "suspended",
    **{(state, "comment", role): state for state in OPEN for role in COMMENTING},
}
AUDIT = Condition(id="audit", text="t", owner="o", due_at=NOW + timedelta(days=30))
# What the acts need to say.
DETAILS: dict[str, dict[str, Any]] = {
    "advise": {"verdict": "favourable"},
    "approve_with_conditions": {"conditions": (AUDIT,)},
    "answer_of_authority": {"verdict": "favourable"},
    "fulfil_conditions": {"fulfilled": ("old",)},
}
OLD = Condition(id="old", text="t", owner="o", due_at=LATER)
# Done by somebody who does nothing else in these tests: a condition is open, an authority was asked
# and is silent, and each controller has what it needs but the act itself.
PAST: tuple[tuple[DpiaAct, str, dict[str, Any]], ...] = (
    ("approve_with_conditions", "past-approver", {"conditions": (OLD,)}),
    ("consult_authority", "past-approver", {}),
)


def record(act, actor="x", at=NOW, **details):
    return ActRecord(act=act, actor=actor, note="n", acted_at=at, **details)


def standing(state="draft", acts=(), **changes):
    asked_at = NOW - timedelta(weeks=15)
    past = [record(act, actor, asked_at, **more) for act, actor, more in PAST]
    records = [record(act, actor) for act, actor in acts]
    values = {"valid_until": LATER, **changes}
    return Standing(state, "anna", [*past, *records], **values)


def outcome(of, act, name, role, now=NOW, **details):
    if act == "close_review":
        of = replace(of, acts=[*of.acts, record("open_review", "past-dpo")])
    try:
        return decide_transition(
            of, record(act, name, now, **(details or DETAILS.get(act, {}))), role
        )
    except TransitionError as error:
        return error.codes


@pytest.mark.parametrize("state", STATES)
def test_only_the_listed_transitions_happen_and_only_by_their_roles(state):
    for act, role in product(ACTS, ROLES):
        found = outcome(standing(state), act, "anna" if role == "author" else "pat", role)
        expected = EXPECTED.get((state, act, role))
        if expected is not None:
            assert found == expected, (act, role)
        elif any(key[:2] == (state, act) for key in EXPECTED):
            assert "dpia.wrong_role" in found
        else:
            assert found == ("dpia.act_not_allowed",)


DUTIFUL = [key for key in EXPECTED if key[1] in DUTIES]


@pytest.mark.parametrize(("state", "act", "role"), DUTIFUL)
@pytest.mark.parametrize("past_act", sorted(DUTIES))
def test_a_person_with_another_duty_may_not_act(state, act, role, past_act):
    author = DUTIES[act] == "author"
    name = "anna" if author else "pat"
    # A submission would begin a new line, in which the authority was not asked.
    past_act = "revise" if past_act == "submit" else past_act
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
    ("state", "act", "role"), [key for key in DUTIFUL if DUTIES[key[1]] != "author"]
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
    plain = Standing(state, "anna", [], LATER)
    expired = seconds >= 0 and state not in FINAL_STATES
    assert state_at(plain, now) == ("expired" if expired else state)


@given(days=st.integers(0, 400))
def test_expiring_is_a_flag_of_what_is_in_force(days):
    now, notice = NOW + timedelta(days=days), timedelta(days=30)
    for state in STATES:
        flagged = is_expiring(Standing(state, "anna", [], LATER), now, notice)
        assert flagged == (state == "in_force" and 335 <= days < 365)


def test_final_states_have_no_way_out():
    assert not [key for key in TRANSITIONS if key[0] in {*FINAL_STATES, "expired"}]


def test_the_reference_has_every_act_with_its_states_roles_and_details():
    page = (Path(__file__).parents[3] / "docs/reference/dpias.md").read_text(encoding="utf-8")
    for act in ACTS:
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{act}` |")]
        _, states, targets, roles, says = (cell.strip() for cell in row.split("|")[1:-1])
        rows = {key[0]: found for key, found in TRANSITIONS.items() if key[1] == act}
        if states != "any that is open":
            assert codes_of(states) == set(rows)
        if targets != "the same":
            assert codes_of(targets) == {target for target, _ in rows.values()}
        assert codes_of(roles) == {role for _, found in rows.values() for role in found}
        assert codes_of(says) == TAKES.get(act, set())


def codes_of(cell):
    return set(cell.split("`")[1::2])
