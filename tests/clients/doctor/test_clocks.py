from datetime import timedelta

import pytest

from clients.doctor.clocks import check_clock
from fedcore.errors import UnreachableError


@pytest.mark.parametrize(
    ("ahead_s", "outcome"),
    [(0, "ok"), (20, "ok"), (-20, "ok"), (60, "warning"), (-60, "warning")],
)
def test_small_differences_are_told_and_stop_nobody(found, about, now, ahead_s, outcome):
    answer = about.model_copy(update={"now": now + timedelta(seconds=ahead_s)})
    (finding,) = check_clock(found(answer))
    assert (finding.outcome, finding.blocks) == (outcome, False)


@pytest.mark.parametrize(("ahead_s", "side"), [(3600, "behind"), (-3600, "ahead of")])
def test_a_clock_off_by_an_hour_is_a_failure_that_says_which_way(found, about, now, ahead_s, side):
    answer = about.model_copy(update={"now": now + timedelta(seconds=ahead_s)})
    (finding,) = check_clock(found(answer))
    assert (finding.code, finding.blocks) == ("clock.skewed", True)
    assert f"3600 s {side}" in finding.sentence


def test_the_way_of_a_slow_answer_is_no_fault_of_the_clock(found, about, clock, now):
    circumstances = found()
    del circumstances.about
    clock.wall = now - timedelta(minutes=5)

    class SlowClock:
        def now(self):
            clock.wall += timedelta(minutes=5)
            return clock.wall

        boot = clock.boot

    circumstances.clock = SlowClock()
    circumstances.about = about.model_copy(update={"now": now + timedelta(minutes=3)})
    (finding,) = check_clock(circumstances)
    assert finding.outcome == "ok"


def test_without_an_answer_there_is_nothing_to_compare_with(found):
    (finding,) = check_clock(found(UnreachableError("governance.unreachable", "x")))
    assert (finding.outcome, finding.blocks) == ("warning", False)
