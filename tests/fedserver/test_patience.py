from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.errors import RefusedError, UnreachableError
from fedserver.patience import LONGEST_PAUSE_S, patiently, pauses
from fedserver.runtime import Runtime

AWAY = UnreachableError("governance.unreachable", "nobody answers")


class Clock:
    """A time that passes only while somebody pauses."""

    def __init__(self, start):
        self.now, self.pauses = start, []

    def runtime(self):
        return Runtime(
            now=lambda: self.now,
            gateway=lambda settings: None,  # type: ignore[arg-type,return-value]
            watch=lambda report, model: None,
            pause=self.pause,
        )

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += timedelta(seconds=seconds)


@given(st.floats(0, 10_000))
def test_pauses_grow_and_add_up_to_the_patience(patience_s):
    found = list(pauses(patience_s))
    assert sum(found) == pytest.approx(patience_s)
    assert all(0 < pause <= LONGEST_PAUSE_S for pause in found)
    assert found[:-1] == sorted(found[:-1])


def test_what_succeeds_at_once_is_not_waited_for(start):
    clock = Clock(start)
    assert patiently(lambda: 7, clock.runtime(), 60) == 7
    assert clock.pauses == []


def test_it_is_tried_again_until_the_other_party_is_back(start):
    clock, answers = Clock(start), [AWAY, AWAY, AWAY]

    def act():
        if answers:
            raise answers.pop()
        return "done"

    assert patiently(act, clock.runtime(), 60) == "done"
    assert clock.pauses == [1, 2, 4]


def test_after_the_patience_it_is_tried_a_last_time(start):
    clock, tries = Clock(start), []

    def act():
        tries.append(clock.now)
        raise AWAY

    with pytest.raises(UnreachableError):
        patiently(act, clock.runtime(), 10)
    assert (tries[-1] - start).total_seconds() == pytest.approx(10)
    with pytest.raises(UnreachableError):
        patiently(act, clock.runtime(), 0)


def test_a_refusal_is_not_waited_out(start):
    clock = Clock(start)

    def act():
        raise RefusedError([("permit.revoked", "over")])

    with pytest.raises(RefusedError):
        patiently(act, clock.runtime(), 60)
    assert clock.pauses == []
