import pytest

from fedcore.errors import ConflictError, InvalidRecordError, NotFoundError
from fedserver.engine.outcome import Journal, Outcome
from fedserver.engine.runs import (
    RunStatus,
    Submission,
    decide_state,
    load_run,
    load_runs,
    save_submission,
    verify_new,
    verify_resumable,
)

PLAN = "sha256:" + "a" * 64


def submitted(*numbers, stopped=None):
    return Submission(plan=PLAN, flower_runs=numbers, stopped=stopped)


@pytest.mark.parametrize(
    ("submission", "outcome", "is_held", "state"),
    [
        (submitted(), None, False, "interrupted"),
        (submitted(1), None, False, "submitted"),
        (submitted(1), None, True, "running"),
        (submitted(1), Outcome(flower_run=1), True, "running"),
        (submitted(1), Outcome(flower_run=1), False, "interrupted"),
        (submitted(1), Outcome(flower_run=1, state="failed"), False, "failed"),
        (submitted(1), Outcome(flower_run=1, state="interrupted"), False, "interrupted"),
        (submitted(1), Outcome(flower_run=1, state="finished"), False, "finished"),
        (submitted(1, stopped=1), Outcome(flower_run=1), False, "stopped"),
        (submitted(1, stopped=1), Outcome(flower_run=1, state="interrupted"), False, "stopped"),
        (submitted(1, stopped=1), Outcome(flower_run=1, state="failed"), False, "failed"),
        (submitted(1, stopped=1), None, False, "stopped"),
        (submitted(1, 2, stopped=1), Outcome(flower_run=1), False, "submitted"),
        (submitted(1, 2), Outcome(flower_run=1, state="failed"), False, "submitted"),
        (submitted(1, 2), Outcome(flower_run=1, state="finished"), False, "finished"),
        (submitted(1, 2), Outcome(flower_run=2, state="failed"), False, "failed"),
    ],
)
def test_where_a_run_stands(submission, outcome, is_held, state):
    assert decide_state(submission, outcome, is_held=is_held) == state


def test_runs_are_listed_in_the_order_of_their_submission(tmp_path):
    assert load_runs(tmp_path) == []
    for name in ("zulu", "alpha"):
        save_submission(tmp_path, name, submitted(1))
    assert [status.run_id for status in load_runs(tmp_path)] == ["zulu", "alpha"]
    assert load_run(tmp_path, "alpha").submission == submitted(1)


def test_an_unknown_run_is_refused(tmp_path):
    for name in ("missing", "../up"):
        with pytest.raises(NotFoundError) as caught:
            load_run(tmp_path, name)
        assert caught.value.code == "run.unknown"


def test_a_damaged_submission_is_named(tmp_path):
    save_submission(tmp_path, "run-1", submitted(1))
    (tmp_path / "runs" / "run-1" / "submission.json").write_text("{}")
    with pytest.raises(InvalidRecordError) as caught:
        load_run(tmp_path, "run-1")
    assert caught.value.code == "run.damaged"


def test_a_run_id_is_used_once(tmp_path):
    verify_new(tmp_path, "run-1")
    save_submission(tmp_path, "run-1", submitted(7))
    with Journal(tmp_path, "run-1", 7):
        with pytest.raises(ConflictError) as caught:
            verify_new(tmp_path, "run-1")
        assert caught.value.code == "run.running"
    with pytest.raises(ConflictError) as caught:
        verify_new(tmp_path, "run-1")
    assert caught.value.code == "run.exists"
    verify_new(tmp_path, "run-2")
    with pytest.raises(NotFoundError):
        verify_new(tmp_path, "not a name")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("submitted", "run.running"),
        ("running", "run.running"),
        ("finished", "run.finished"),
        ("failed", None),
        ("stopped", None),
        ("interrupted", None),
    ],
)
def test_what_has_ended_before_its_end_can_go_on(state, code):
    status = RunStatus("run-1", submitted(1), None, state)
    if code is None:
        verify_resumable(status)
        return
    with pytest.raises(ConflictError) as caught:
        verify_resumable(status)
    assert caught.value.code == code
