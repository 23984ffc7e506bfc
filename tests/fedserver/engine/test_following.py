import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from fedcore.errors import ConflictError, FedError, NotFoundError, RefusedError, UnreachableError
from fedserver.engine import following
from fedserver.engine.following import (
    HEADINGS,
    describe,
    follow,
    settled,
    stop_and_wait,
    submit,
    told,
)
from fedserver.engine.outcome import Journal, Outcome, RoundLine
from fedserver.engine.runs import Submission, load_run

PLAN = "sha256:" + "a" * 64
ASKED = Submission(plan=PLAN)


class SuperLink:
    """Numbers Flower runs as Flower does, and knows which have ended."""

    def __init__(self):
        self.started: list[tuple[str, str]] = []
        self.finished: set[int] = set()
        self.away = False

    def start_run(self, plan, run_id):
        self.started.append((plan, run_id))
        return len(self.started)

    def stop_run(self, number):
        self.finished.add(number)
        return True

    def has_finished(self, number):
        if self.away:
            raise UnreachableError("superlink.unreachable", "Away.")
        return number in self.finished


@pytest.fixture
def superlink(monkeypatch) -> Any:
    monkeypatch.setattr(following, "_LOOK_S", 0.01)
    monkeypatch.setattr(following, "_ASK_S", 0.0)
    monkeypatch.setattr(following, "_HINT_S", 0.05)
    monkeypatch.setattr(following, "_PATIENCE_S", 0.1)
    return SuperLink()


def line(round_, attempt=1, status: Any = "accepted", answered=("north", "south")):
    return RoundLine(
        round=round_,
        attempt=attempt,
        status=status,
        answered=answered,
        unavailable=("west",),
        epsilon=0.5 * round_,
        ended_at=datetime(2026, 3, 2, tzinfo=UTC),
    )


def do(work_dir, number, rounds, error=None, **end):
    """Do a Flower run as a ServerApp does: these rounds, then this end."""
    try:
        with Journal(work_dir, "run-1", number) as journal:
            journal._update(rounds_total=3, rounds=(*journal._outcome.rounds, *rounds))
            if error is not None:
                raise error
            journal._update(state="finished", model="churn", version=3, **end)
    except FedError:
        pass


def test_a_submission_is_kept_with_flowers_number(tmp_path, superlink):
    assert submit(tmp_path, "run-1", ASKED, superlink) == 1
    assert superlink.started == [(PLAN, "run-1")]
    status = load_run(tmp_path, "run-1")
    assert (status.submission.flower_runs, status.state) == ((1,), "submitted")


def test_a_finished_run_is_told_round_by_round(tmp_path, superlink):
    submit(tmp_path, "run-1", ASKED, superlink)
    do(tmp_path, 1, [line(1, status="void", answered=("north",)), line(1, 2), line(2)])
    lines: list[str] = []
    outcome = follow(tmp_path, "run-1", superlink, lines.append)
    assert (outcome.model, outcome.version) == ("churn", 3)
    assert lines == [told(found, outcome) for found in outcome.rounds]
    assert lines[0] == (
        "round 1/3, attempt 1: void, 1 of 2 units (north); epsilon of a unit so far at most 0.5000"
    )


def test_a_resumed_run_tells_its_new_rounds_only(tmp_path, superlink):
    submit(tmp_path, "run-1", ASKED, superlink)
    do(tmp_path, 1, [line(1)], FedError("governance.unreachable", "Away."))
    submit(tmp_path, "run-1", load_run(tmp_path, "run-1").submission, superlink)
    lines: list[str] = []
    beside = threading.Timer(0.2, do, (tmp_path, 2, [line(2), line(3)]))
    beside.start()
    follow(tmp_path, "run-1", superlink, lines.append)
    beside.join()
    assert [text.partition(",")[0] for text in lines] == ["round 2/3", "round 3/3"]


def test_a_failed_run_ends_with_all_its_codes(tmp_path, superlink):
    submit(tmp_path, "run-1", ASKED, superlink)
    refusal = RefusedError([("permit.expired", "Old."), ("bulletin.stale", "Stale.")])
    do(tmp_path, 1, [], refusal)
    with pytest.raises(RefusedError) as caught:
        follow(tmp_path, "run-1", superlink, print)
    assert caught.value.codes == ("permit.expired", "bulletin.stale")


def test_a_run_that_flower_ended_before_it_began_is_interrupted(tmp_path, superlink):
    submit(tmp_path, "run-1", ASKED, superlink)
    assert settled(load_run(tmp_path, "run-1"), superlink).state == "submitted"
    superlink.stop_run(1)
    assert settled(load_run(tmp_path, "run-1"), superlink).state == "interrupted"
    with pytest.raises(UnreachableError) as caught:
        follow(tmp_path, "run-1", superlink, print)
    assert caught.value.code == "run.interrupted"


def test_a_superlink_that_stays_away_is_said(tmp_path, superlink):
    submit(tmp_path, "run-1", ASKED, superlink)
    superlink.away = True
    with pytest.raises(UnreachableError) as caught:
        follow(tmp_path, "run-1", superlink, print)
    assert caught.value.code == "superlink.unreachable"


def test_what_was_submitted_is_stopped_before_it_begins(tmp_path, superlink):
    submit(tmp_path, "run-1", ASKED, superlink)
    stop_and_wait(tmp_path, "run-1", superlink)
    assert superlink.finished == {1}
    assert load_run(tmp_path, "run-1").state == "stopped"
    with pytest.raises(ConflictError) as caught:
        stop_and_wait(tmp_path, "run-1", superlink)
    assert caught.value.code == "run.not_running"


def test_a_process_that_does_not_end_is_said(tmp_path, superlink, monkeypatch):
    submit(tmp_path, "run-1", ASKED, superlink)
    monkeypatch.setattr(following, "holder", lambda folder: None)
    with Journal(tmp_path, "run-1", 1), pytest.raises(ConflictError) as caught:
        stop_and_wait(tmp_path, "run-1", superlink)
    assert caught.value.code == "run.not_ending"


@pytest.mark.parametrize("act", [stop_and_wait, lambda a, b, c: follow(a, b, c, print)])
def test_an_unknown_run_is_neither_followed_nor_stopped(tmp_path, superlink, act):
    with pytest.raises(NotFoundError) as caught:
        act(tmp_path, "missing", superlink)
    assert caught.value.code == "run.unknown"


def test_a_run_is_described_under_its_headings(tmp_path, superlink):
    submit(tmp_path, "run-1", ASKED, superlink)
    assert describe(load_run(tmp_path, "run-1")) == ("run-1", "submitted", "0/?", "-", "-", "1")
    do(tmp_path, 1, [line(1)], FedError("permit.expired", "Old."))
    found = describe(load_run(tmp_path, "run-1"))
    assert found == ("run-1", "failed", "1/3", "-", "permit.expired", "1")
    assert len(found) == len(HEADINGS)
    do(tmp_path, 1, [line(2)])
    assert describe(load_run(tmp_path, "run-1"))[1:4] == ("finished", "2/3", "churn/3")


def test_an_outcome_counts_a_round_once_whatever_its_attempts():
    rounds = (line(1, status="void"), line(1, 2), line(2))
    assert Outcome(flower_run=1, rounds=rounds).rounds_done == 2
