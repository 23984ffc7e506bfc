import fcntl
import multiprocessing
import os
import signal
import threading

import httpx
import pytest

from fedcore.errors import ConflictError, FedError, NotFoundError, RefusedError
from fedcore.models import ModelVersion
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.record import Realm
from fedcore.rounds import Answer, RoundReport
from fedcore.signing import sign_record
from fedserver.engine.outcome import (
    LOCK,
    OUTCOME,
    Journal,
    holder,
    is_running,
    load_outcome,
    run_folder,
)
from fedserver.runtime import PRODUCTION, Runtime


@pytest.fixture
def report(permit, digest, start):
    def report(round_, attempt, status, answered):
        return RoundReport(
            run_id=permit.run_id,
            realm=permit.realm,
            round=round_,
            attempt=attempt,
            status=status,
            asked=("north", "south", "west"),
            answered=tuple(
                Answer(unit=unit, receipt=digest(unit), update=digest(unit)) for unit in answered
            ),
            unavailable=tuple(sorted({"north", "south", "west"} - set(answered))),
            model_in=digest("in"),
            model_out=digest("out"),
            ended_at=start,
        )

    return report


@pytest.fixture
def version(keys, digest, start):
    model = ModelVersion(
        name="churn",
        version=3,
        realm=Realm.PRODUCTION,
        simulation=False,
        run_id="run-1",
        task="churn",
        plan=digest("plan"),
        permit=digest("permit"),
        contract=digest("contract"),
        dpia=digest("dpia"),
        artifact=digest("artifact"),
        artifact_bytes=10,
        round_reports=(digest("report"),),
        receipts=(digest("receipt"),),
        opt_out_epochs=(),
        epsilon=(),
        delta=1e-5,
        registered_at=start,
    )
    return sign_record(model, keys["author"], Realm.PRODUCTION)


def outcome(tmp_path, run_id="run-1"):
    return load_outcome(run_folder(tmp_path, run_id))


def test_a_run_is_running_until_it_is_finished_with_its_model(tmp_path, version, digest):
    with Journal(tmp_path, "run-1", 7) as journal:
        assert outcome(tmp_path).state == "running"
        journal.finish(version)
    found = outcome(tmp_path)
    assert (found.state, found.flower_run) == ("finished", 7)
    assert (found.model, found.version, found.artifact) == ("churn", 3, digest("artifact"))


def test_an_evaluation_is_finished_with_the_document_that_governance_signed(tmp_path, version):
    with Journal(tmp_path, "run-1", 7) as journal:
        journal.finish_evaluation(version)
    found = outcome(tmp_path)
    assert (found.state, found.model, found.evaluation) == ("finished", None, version.digest)


def test_each_round_is_told_with_what_it_has_cost_so_far(tmp_path, plan, report):
    watched = []
    surroundings = Runtime(PRODUCTION.now, PRODUCTION.gateway, lambda *told: watched.append(told))
    with Journal(tmp_path, "run-1", 7) as journal:
        watch = journal.watching(surroundings, plan).watch
        watch(report(1, 1, "void", ["north"]), b"model 1")
        watch(report(1, 2, "accepted", ["north", "south"]), b"model 2")
        found = outcome(tmp_path)
    assert [model for _, model in watched] == [b"model 1", b"model 2"]
    assert (found.rounds_total, found.rounds_done) == (plan.rounds, 1)
    assert [line.status for line in found.rounds] == ["void", "accepted"]
    assert found.rounds[1].answered == ("north", "south")
    assert found.rounds[1].unavailable == ("west",)
    event = plan.round_event()
    twice = event.model_copy(update={"steps": 2 * event.steps})
    assert found.rounds[1].epsilon == renyi_epsilon([twice], plan.privacy.delta)


def test_rounds_of_earlier_flower_runs_are_kept(tmp_path, plan, report):
    for number, round_ in ((7, 1), (8, 2)):
        with Journal(tmp_path, "run-1", number) as journal:
            watch = journal.watching(PRODUCTION, plan).watch
            watch(report(round_, 1, "accepted", ["north", "south"]), b"")
    found = outcome(tmp_path)
    assert (found.flower_run, found.rounds_done, found.rounds_total) == (8, 2, plan.rounds)


def test_a_round_that_a_resumed_run_tells_again_is_kept_once(tmp_path, plan, report):
    for number in (7, 8):
        with Journal(tmp_path, "run-1", number) as journal:
            watch = journal.watching(PRODUCTION, plan).watch
            for attempt, status in ((1, "void"), (2, "accepted")):
                watch(report(1, attempt, status, ["north", "south"]), b"")
    lines = outcome(tmp_path).rounds
    assert [(line.attempt, line.status) for line in lines] == [(1, "void"), (2, "accepted")]


@pytest.mark.parametrize(
    ("error", "state", "codes"),
    [
        (FedError("permit.expired", "It has expired."), "failed", ["permit.expired"]),
        (RefusedError([("a.b", "A."), ("c.d", "C.")]), "failed", ["a.b", "c.d"]),
        (ZeroDivisionError("customer 4711"), "failed", ["server.defect"]),
        (httpx.ConnectError("gone"), "interrupted", []),
        (SystemExit(0), "interrupted", []),
        (KeyboardInterrupt(), "interrupted", []),
    ],
)
def test_whatever_ends_a_run_is_noted_and_goes_on(tmp_path, error, state, codes):
    with pytest.raises(type(error)) as caught, Journal(tmp_path, "run-1", 7):
        raise error
    assert caught.value is error
    found = outcome(tmp_path)
    assert (found.state, [code for code, _ in found.reasons]) == (state, codes)
    assert "4711" not in (run_folder(tmp_path, "run-1") / OUTCOME).read_text()


def _hold(work_dir, ready):
    with Journal(work_dir, "run-1", 7):
        ready.set()
        signal.pause()


def test_a_killed_process_leaves_running_and_a_free_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    try:
        assert ready.wait(20)
        folder = run_folder(tmp_path, "run-1")
        assert is_running(folder)
        assert holder(folder) == process.pid
    finally:
        process.kill()
        process.join()
    assert not is_running(folder)
    assert holder(folder) is None
    assert outcome(tmp_path).state == "running"
    with Journal(tmp_path, "run-1", 8):
        assert outcome(tmp_path).flower_run == 8


def test_a_run_is_done_once_at_a_time_and_others_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr("fedserver.engine.outcome._PATIENCE_S", 0.2)
    with Journal(tmp_path, "run-1", 7):
        with pytest.raises(ConflictError) as caught, Journal(tmp_path, "run-1", 8):
            pass
        assert caught.value.code == "run.running"
        assert outcome(tmp_path).flower_run == 7
        with Journal(tmp_path, "run-2", 9):
            assert holder(run_folder(tmp_path, "run-2")) == os.getpid()
    with Journal(tmp_path, "run-1", 8):
        assert outcome(tmp_path).flower_run == 8


def test_who_only_looks_does_not_keep_a_run_from_starting(tmp_path):
    folder = run_folder(tmp_path, "run-1")
    folder.mkdir(parents=True)
    looking = (folder / LOCK).open("ab")
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.3, looking.close).start()
    with Journal(tmp_path, "run-1", 7):
        assert is_running(folder)


@pytest.mark.parametrize("run_id", ["", "../run", "Run", "a/b", "run-1\n", "x" * 81])
def test_what_is_no_run_id_is_no_path(tmp_path, run_id):
    with pytest.raises(NotFoundError) as caught:
        run_folder(tmp_path, run_id)
    assert caught.value.code == "run.unknown"


def test_a_damaged_or_missing_outcome_is_none(tmp_path):
    folder = run_folder(tmp_path, "run-1")
    assert load_outcome(folder) is None
    folder.mkdir(parents=True)
    (folder / OUTCOME).write_text("{")
    assert load_outcome(folder) is None
    assert not is_running(folder)
