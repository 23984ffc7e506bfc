import json
import re
from datetime import UTC, datetime
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from click.testing import CliRunner

from fedcore import cli
from fedcore.errors import InvalidRecordError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.record import Realm
from fedcore.signing import sign_record
from fedserver.checkpoints import Checkpoint, save_checkpoint, strip_checkpoint
from fedserver.commands.runs import aligned, new_run_id, plan_digest
from fedserver.engine.outcome import Journal, Outcome
from fedserver.engine.provision import SETTINGS_FILE, Wishes, provision
from fedserver.engine.runs import Submission, save_submission
from fedserver.strategy import start

PLAN = "sha256:" + "a" * 64


def fedpact(*arguments):
    entry = EntryPoint("server", "fedserver.cli:app [server]", cli.COMMANDS_GROUP)
    root = cli.RootCommand({"server": entry})
    result = CliRunner().invoke(root, ["server", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def settings(tmp_path, unused_port):
    wishes = Wishes(
        hosts=("localhost",),
        governance_url="http://127.0.0.1:9",
        governance_key="0" * 64,
        governance_ca=None,
        realm=Realm.PRODUCTION,
        model_name="churn",
        ports={"control_port": unused_port},
    )
    provision(tmp_path / "server", wishes, datetime.now(UTC))
    return tmp_path / "server" / SETTINGS_FILE


@pytest.fixture
def work_dir(settings):
    return settings.parent / "work"


def test_a_plan_is_named_by_its_digest_or_its_signed_file(tmp_path, plan, keys):
    path = tmp_path / "plan.signed"
    path.write_bytes(sign_record(plan, keys["author"], Realm.PRODUCTION).to_bytes())
    assert plan_digest(str(path)) == plan.digest
    assert plan_digest(PLAN) == PLAN


def test_what_is_no_plan_is_named(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b")
    (tmp_path / "plain.json").write_text(json.dumps({"schema": "plan/1"}))
    for name, code in (
        ("sha256:abc", "plan.unreadable"),
        (str(tmp_path / "missing"), "plan.unreadable"),
        (str(tmp_path / "rows.csv"), "record.not_json"),
        (str(tmp_path / "plain.json"), "envelope.invalid"),
    ):
        with pytest.raises(InvalidRecordError) as caught:
            plan_digest(name)
        assert caught.value.code == code


def test_a_fresh_run_id_tells_the_day_and_is_never_the_same():
    now = datetime(2026, 3, 2, tzinfo=UTC)
    assert re.fullmatch(r"run-20260302-[0-9a-f]{8}", new_run_id(now))
    assert new_run_id(now) != new_run_id(now)


def test_columns_stand_below_each_other_in_full():
    assert aligned([("run", "state"), ("a-long-name", "x"), ("b", "y")]) == [
        "run          state",
        "a-long-name  x",
        "b            y",
    ]


def test_no_runs_are_an_empty_list(settings):
    code, output = fedpact("runs", "-s", settings)
    assert (code, output.split()) == (
        0,
        ["run", "state", "rounds", "model", "reasons", "Flower", "run"],
    )


def test_runs_are_listed_with_state_rounds_and_model(settings, work_dir):
    save_submission(work_dir, "done", Submission(plan=PLAN, flower_runs=(1,)))
    save_submission(work_dir, "dead", Submission(plan=PLAN, flower_runs=(2,)))
    with Journal(work_dir, "done", 1) as journal:
        journal._update(state="finished", model="churn", version=3, rounds_total=5)
    with Journal(work_dir, "dead", 2):
        code, output = fedpact("runs", "-s", settings)
    assert code == 0
    assert re.search(r"^done +finished +0/5 +churn/3 +- +1$", output, re.MULTILINE)
    assert re.search(r"^dead +running +0/\? +- +- +2$", output, re.MULTILINE)
    _, output = fedpact("runs", "-s", settings)
    assert re.search(r"^dead +interrupted ", output, re.MULTILINE)


def test_an_evaluation_is_listed_as_one(settings, work_dir):
    save_submission(work_dir, "eval", Submission(plan=PLAN, flower_runs=(1,)))
    with Journal(work_dir, "eval", 1) as journal:
        journal._update(state="finished", evaluation=PLAN, rounds_total=1)
    _, output = fedpact("runs", "-s", settings)
    assert re.search(r"^eval +finished +0/1 +evaluated +- +1$", output, re.MULTILINE)


def test_a_plan_is_taken_for_its_own_kind_only(settings, tmp_path, plan, keys, digest):
    models = (EvaluatedModel(artifact=digest("model"), plan=plan.digest),)
    values = {"title": "A", "models": models, "rows": "holdout", "epsilon": 1, "minimum_units": 2}
    evaluation = EvaluationPlan.model_validate({**values, "delta": 1e-5})
    named = {}
    for name, record in (("run", plan), ("evaluate", evaluation)):
        named[name] = tmp_path / name
        named[name].write_bytes(sign_record(record, keys["author"], Realm.PRODUCTION).to_bytes())
    for name in ("run", "evaluate"):
        code, output = fedpact(name, named[name], "-s", settings)
        # The next thing that is wanted: the way to governance.
        assert (code, "(key.unreadable)" in output) == (1, True), output
        other = {"run": "evaluate", "evaluate": "run"}[name]
        code, output = fedpact(name, named[other], "-s", settings)
        assert (code, "(record.unknown_schema)" in output) == (1, True), output


def test_without_the_superlink_what_was_submitted_is_said_to_be_unsure(settings, work_dir):
    save_submission(work_dir, "run-1", Submission(plan=PLAN, flower_runs=(1,)))
    code, output = fedpact("runs", "-s", settings)
    assert code == 0
    assert "the SuperLink does not answer" in output
    assert re.search(r"^run-1 +submitted ", output, re.MULTILINE)


@pytest.mark.parametrize("command", ["stop", "resume"])
def test_an_unknown_run_is_refused(settings, command):
    code, output = fedpact(command, "missing", "-s", settings)
    assert (code, "(run.unknown)" in output) == (1, True), output


def test_a_finished_run_is_neither_run_nor_resumed_again(settings, work_dir):
    save_submission(work_dir, "run-1", Submission(plan=PLAN, flower_runs=(1,)))
    with Journal(work_dir, "run-1", 1) as journal:
        journal._update(state="finished")
    for command in (("run", PLAN, "--run-id", "run-1"), ("resume", "run-1")):
        code, output = fedpact(*command, "-s", settings)
        assert (code, "(run.finished)" in output) == (1, True), output


def test_a_run_whose_checkpoint_was_swept_is_not_resumed(settings, work_dir):
    save_submission(work_dir, "run-1", Submission(plan=PLAN, flower_runs=(1,)))
    with pytest.raises(KeyboardInterrupt), Journal(work_dir, "run-1", 1):
        raise KeyboardInterrupt
    save_checkpoint(work_dir / "run-1.json", Checkpoint(1, 1, start({"w": np.ones(2)})))
    code, output = fedpact("resume", "run-1", "-s", settings)
    assert (code, "(superlink.unreachable)" in output) == (1, True), output
    strip_checkpoint(work_dir / "run-1.json", "0" * 64)
    code, output = fedpact("resume", "run-1", "-s", settings)
    assert (code, "(checkpoint.swept)" in output) == (1, True), output
    assert "another run id" in output


def test_holds_are_set_shown_and_released_with_who_and_why(settings):
    said = ("--who", "ada, counsel", "--reason", "case 7", "-s", settings)
    assert fedpact("hold", "show", "-s", settings) == (0, "there are no holds\n")
    assert fedpact("hold", "add", "--run", "run-1", *said) == (0, "hold 1: run-1 is kept\n")
    assert fedpact("hold", "add", *said) == (0, "hold 2: everything is kept\n")
    assert fedpact("hold", "release", 2, *said) == (0, "hold 2 is released\n")
    code, shown = fedpact("hold", "show", "-s", settings)
    assert (code, ["released" in line for line in shown.splitlines()]) == (0, [False, True])
    code, refused = fedpact("hold", "release", 2, *said)
    assert (code, "(hold.released)" in refused) == (1, True)


@pytest.mark.parametrize("command", [("run", PLAN), ("admit",), ("sweep",)])
def test_without_a_superlink_the_way_out_is_said(settings, command):
    api_key = settings.parent / "api.key"
    api_key.touch(mode=0o600)
    api_key.write_text("key")
    code, output = fedpact(*command, "-s", settings)
    assert code == 1
    assert "(governance.unreachable)" in output or "(superlink.unreachable)" in output
    assert not list((settings.parent / "work").glob("runs/*"))


def test_an_api_key_that_others_can_read_is_refused(settings):
    (settings.parent / "api.key").write_text("key")
    (settings.parent / "api.key").chmod(0o644)
    code, output = fedpact("admit", "-s", settings)
    assert (code, "(key.permissions)" in output) == (1, True), output


def test_an_unknown_outcome_is_shown_without_guessing():
    assert Outcome(flower_run=1).rounds_done == 0
