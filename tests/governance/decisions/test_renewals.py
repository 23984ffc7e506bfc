"""The pure rules of renewals."""

import dataclasses
import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.decisions.gate import decide_permit
from governance.decisions.renewals import (
    RenewalFacts,
    decide_expiry,
    decide_renewal,
    decide_repeat,
)

_SPEC: Any = importlib.util.spec_from_file_location(
    "gate_facts", Path(__file__).with_name("test_gate.py")
)
_GATE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_GATE)

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
seconds = st.integers(1, 10**8)


@pytest.fixture
def facts():
    """Facts under which a plan gets a permit."""
    return _GATE.good()


def test_what_gets_a_permit_gets_a_renewal_of_an_open_run(facts):
    assert decide_permit(facts) == ()
    assert decide_renewal(RenewalFacts(facts, revoked=False, finished=False)) == ()


@pytest.mark.parametrize(
    ("revoked", "finished", "codes"),
    [
        (True, False, ["permit.revoked"]),
        (False, True, ["permit.run_finished"]),
        (True, True, ["permit.revoked", "permit.run_finished"]),
    ],
)
def test_a_revoked_or_finished_run_gets_none(facts, revoked, finished, codes):
    refusals = decide_renewal(RenewalFacts(facts, revoked=revoked, finished=finished))
    assert [code for code, _ in refusals] == codes


def test_a_plan_that_would_get_no_permit_gets_no_renewal_for_the_same_reasons(facts):
    worse = dataclasses.replace(facts, dpia=None, author_known=False)
    assert decide_renewal(RenewalFacts(worse, revoked=False, finished=False)) == decide_permit(
        worse
    )
    assert decide_permit(worse)


@given(valid=seconds, left=seconds)
def test_no_time_is_given_beyond_the_dpia_and_none_beyond_the_setting(valid, left):
    end = NOW + timedelta(seconds=left)
    expiry = decide_expiry(NOW, valid, end)
    assert expiry == min(end, NOW + timedelta(seconds=valid))


@given(life=seconds, age=seconds)
def test_a_renewal_is_repeated_in_the_first_half_of_its_life(life, age):
    issued = NOW - timedelta(seconds=age)
    assert decide_repeat(NOW, issued, issued + timedelta(seconds=life)) is (2 * age < life)
