"""What a stop concerns, and who may lift it."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedcore.stops import Stop
from governance.decisions.stops import Reach, concerns, decide_lift, purposes_of

NOW = datetime(2025, 6, 1, tzinfo=UTC)
NAMES = st.sampled_from(["a", "b", "c"])
REACHES = st.builds(Reach, st.frozensets(NAMES), st.frozensets(NAMES), st.none() | NAMES, NAMES)


def stop(scope="all", subject=None, stopped_by="dora"):
    return Stop(
        sequence=1, scope=scope, subject=subject, reason="r", stopped_by=stopped_by, stopped_at=NOW
    )


@given(REACHES)
def test_a_stop_of_everything_concerns_whatever_there_is(reach):
    assert concerns(stop(), reach)


@given(REACHES, NAMES)
def test_a_stop_concerns_exactly_what_it_names(reach, name):
    assert concerns(stop("unit", name), reach) == (name in reach.units)
    assert concerns(stop("purpose", name), reach) == (name in reach.purposes)
    assert concerns(stop("task", name), reach) == (name == reach.task)
    assert concerns(stop("dpia", name), reach) == (name == reach.dpia_id)


@pytest.mark.parametrize(("scope", "subject"), [("all", "north"), ("unit", None), ("dpia", None)])
def test_a_stop_names_a_subject_unless_it_is_of_everything(scope, subject):
    with pytest.raises(ValidationError, match="subject"):
        stop(scope, subject)
    assert stop("unit", "north").subject == "north"


def test_who_has_stopped_may_not_lift_and_another_person_may():
    assert [code for code, _ in decide_lift(stop(), "dora")] == ["stop.same_person"]
    assert decide_lift(stop(), "carla") == ()


def test_a_purpose_that_no_contract_knows_stands_alone():
    assert purposes_of(None, "churn") == {"churn"}
