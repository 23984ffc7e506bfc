"""Who may answer for a version that its audit does not pass, and which answer counts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.fairness_audits import FairnessAudit, Waiver
from governance.decisions.waivers import (
    LONGEST,
    WaiverWish,
    choose_waiver,
    list_reasons_against_waiver,
)

GOLDEN = Path(__file__).parents[2] / "golden"
NOW = datetime(2026, 3, 3, tzinfo=UTC)
GIVEN = FairnessAudit.from_bytes((GOLDEN / "fairness-audit-1.json").read_bytes())
AUDIT = GIVEN.model_copy(update={"number": 1, "first": None})
BOTH = Waiver.from_bytes((GOLDEN / "waiver-1.json").read_bytes()).model_copy(
    update={"audit": AUDIT.digest, "expires_at": NOW + timedelta(days=9)}
)
ONE = BOTH.model_copy(update={"people": ("paul",), "joins": None, "number": 1})
PASSED = AUDIT.model_copy(update={"found": AUDIT.found.model_copy(update={"verdict": "PASS"})})
ALONE = WaiverWish("paul", "anna", AUDIT.digest, AUDIT, NOW + timedelta(days=9))
JOINING = replace(ALONE, person="emil", joined=ONE)


def codes(wish):
    return [code for code, _ in list_reasons_against_waiver(wish, NOW)]


@pytest.mark.parametrize("wish", [ALONE, JOINING])
def test_one_person_makes_a_waiver_and_another_one_joins_it(wish):
    assert codes(wish) == []


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (replace(ALONE, deciding=PASSED, seen=PASSED.digest), "waiver.not_needed"),
        (replace(ALONE, seen=GIVEN.digest), "waiver.other_audit"),
        (replace(ALONE, plan_author="paul"), "waiver.own_plan"),
        (replace(ALONE, plan_author=None), "waiver.own_plan"),
        (replace(ALONE, expires_at=NOW), "waiver.expiry_unfit"),
        (replace(ALONE, expires_at=NOW + LONGEST + timedelta(seconds=1)), "waiver.expiry_unfit"),
        (replace(JOINING, person="paul"), "waiver.same_person"),
        (replace(JOINING, person="carla", joined=BOTH), "waiver.joined_already"),
        (
            replace(JOINING, joined=ONE.model_copy(update={"audit": GIVEN.digest})),
            "waiver.other_audit",
        ),
    ],
)
def test_each_reason_against_a_waiver_stands_by_itself(wish, code):
    assert codes(wish) == [code]


def changed(waiver, number, **changes):
    return waiver.model_copy(update={"number": number, **changes})


def test_the_newest_of_two_people_that_has_time_left_counts():
    later = changed(BOTH, 3)
    assert choose_waiver([ONE, BOTH, later, changed(ONE, 4)], AUDIT.digest, NOW) == later
    ended = changed(BOTH, 3, expires_at=NOW)
    assert choose_waiver([ONE, BOTH, ended], AUDIT.digest, NOW) == BOTH


def test_without_such_a_one_the_newest_is_chosen_for_its_faults_to_be_named():
    ended = changed(BOTH, 2, expires_at=NOW)
    assert choose_waiver([ONE, ended], AUDIT.digest, NOW) == ended
    assert choose_waiver([ONE], AUDIT.digest, NOW) == ONE
    assert choose_waiver([], AUDIT.digest, NOW) is None


@given(st.lists(st.sampled_from([ONE, BOTH]), max_size=4))
def test_no_waiver_of_another_audit_is_ever_chosen(waivers):
    assert choose_waiver(waivers, GIVEN.digest, NOW) is None
