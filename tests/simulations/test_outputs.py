import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fedcore import cli
from fedcore.plans import TrainingPlan
from simulations.refusals import Pair
from simulations.second_process import verify_offline

NUMBERS = ("federated_dp", "pooled_nonprivate", "unit_alone_mean")
GROUPS = {
    "simulate": EntryPoint("simulate", "simulations.cli:app [simulation]", cli.COMMANDS_GROUP)
}


def fedpact(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fedcore.cli import main; main()", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=200
    )


def fedpact_here(*arguments: str) -> Result:
    """Run a command in this process: a start of Python with Flower and torch takes seconds."""
    return CliRunner().invoke(cli.RootCommand(GROUPS), list(arguments))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder in which commands of this process are called."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory, scenario_writer, scenario_text):
    folder = tmp_path_factory.mktemp("scenario")
    scenario_writer(folder, text=scenario_text.replace("rounds = 3", "rounds = 3\nrefusals = true"))
    done = fedpact("simulate", "run", "scenario.toml", "--json", "copy.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_scenario_run_by_hand_writes_report_page_plan_and_evidence(made):
    folder, done = made
    out = folder / "demo-report"
    names = {"report.json", "index.html", "plan.json", "model.fedpact", "governance.pub"}
    assert {path.name for path in out.iterdir()} == names
    assert "verified by a second process" in done.stdout
    assert (folder / "copy.json").read_bytes() == (out / "report.json").read_bytes()


def test_the_report_has_every_field_that_readers_rely_on(made):
    report = json.loads((made[0] / "demo-report" / "report.json").read_text(encoding="utf-8"))
    assert all(0 < report["auc"][name] < 1 for name in NUMBERS)
    assert set(report["epsilon"]) == {"east", "north", "west"}
    assert all(1.9 < value <= 2.0 for value in report["epsilon"].values())
    assert report["delta"] == 1e-5
    assert report["rounds"] == 3
    assert report["opt_outs_enforced"] == 3
    assert report["verified"] is True
    assert report["seconds"] > 0
    assert report["peak_rss_mb"] > 50
    assert "flwr" in report["versions"]


def test_every_attempt_was_refused_with_its_code_and_its_repaired_twin_succeeded(made):
    report = json.loads((made[0] / "demo-report" / "report.json").read_text(encoding="utf-8"))
    assert report["refusals"] == [
        "dpia.missing",
        "signature.wrong_key",
        "permit.expired",
        "permit.other_plan",
        "permit.other_run",
        "permit.revoked",
        "bulletin.stale",
        "budget.exceeded",
        "signature.invalid",
        "order.replayed",
    ]
    assert all(pair["ok"] for pair in report["refusal_pairs"])


@pytest.mark.parametrize(
    ("results", "ok", "sentence"),
    [
        (("permit.expired", "accepted"), True, "Refused: permit.expired."),
        (
            ("node.unavailable", "accepted"),
            False,
            "Refused: node.unavailable; expected was permit.expired.",
        ),
        (
            ("accepted", "accepted"),
            False,
            "It was not refused; expected was permit.expired.",
        ),
        (("permit.expired", "permit.expired"), False, "Refused: permit.expired."),
    ],
)
def test_a_pair_is_well_only_with_its_own_code_and_a_twin_that_succeeds(results, ok, sentence):
    pair = Pair("title", "attempt", "permit.expired", results, "repair", "It succeeds.")
    assert (pair.ok, pair.sentence) == (ok, sentence)
    assert (pair.outcome == "It succeeds.") == (results[1] == "accepted")


def test_the_plan_that_was_written_is_the_plan_of_the_run(made):
    out = made[0] / "demo-report"
    plan = TrainingPlan.from_json(json.loads((out / "plan.json").read_text(encoding="utf-8")))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert plan.digest == report["plan"]["digest"] == report["lineage"]["plan"]


def test_the_second_process_refuses_a_changed_bundle_and_another_key(made, tmp_path):
    out = made[0] / "demo-report"
    assert verify_offline(out / "model.fedpact", out / "governance.pub").exit_code == 0
    data = bytearray((out / "model.fedpact").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "changed").write_bytes(bytes(data))
    assert verify_offline(tmp_path / "changed", out / "governance.pub").exit_code == 1
    (tmp_path / "other.pub").write_text("ab" * 32, encoding="ascii")
    assert verify_offline(out / "model.fedpact", tmp_path / "other.pub").exit_code == 1


def test_a_folder_with_other_files_is_left_alone(made, here):
    (here / "demo-report").mkdir()
    (here / "demo-report" / "precious.txt").write_text("mine", encoding="utf-8")
    done = fedpact_here("simulate", "run", str(made[0] / "scenario.toml"))
    assert done.exit_code == 1
    assert "simulation.out_taken" in done.stderr
    assert (here / "demo-report" / "precious.txt").read_text(encoding="utf-8") == "mine"


def test_the_copy_of_a_report_takes_the_place_of_no_scenario(made, here):
    scenario = made[0] / "scenario.toml"
    before = scenario.read_bytes()
    done = fedpact_here("simulate", "run", str(scenario), "--json", str(scenario))
    assert (done.exit_code, "(file.exists)" in done.stderr) == (1, True)
    assert scenario.read_bytes() == before
    assert not (here / "demo-report").exists()


@pytest.mark.parametrize(
    ("old", "new", "code", "names"),
    [
        ('field = "age"', 'field = "height"', "plan.field_unknown", "height"),
        ("epsilon = 2.0", "epsilon = -1.0", "scenario.invalid", "epsilon"),
        ('unit_column = "branch"', 'unit_column = "shop"', "data.column_missing", "shop"),
        ('unit = "east"', 'unit = "south"', "scenario.units_differ", "south"),
        ('data = "customers.csv"', 'data = "nothing.csv"', "data.unreadable", "nothing.csv"),
        ('"basic", "plus"', '"basic", "max"', "data.contract_broken", "plan"),
        ("upper = 100", "upper = 50", "data.contract_broken", "age"),
    ],
)
def test_a_wrong_scenario_ends_in_a_sentence_that_names_what_is_wrong(
    made, here, old, new, code, names
):
    for name in ("scenario.toml", "customers.csv"):
        (here / name).write_bytes((made[0] / name).read_bytes())
    text = (here / "scenario.toml").read_text(encoding="utf-8")
    (here / "scenario.toml").write_text(text.replace(old, new), encoding="utf-8")
    done = fedpact_here("simulate", "run", "scenario.toml")
    assert isinstance(done.exception, SystemExit)  # any other would be shown as a traceback
    assert done.exit_code == 1
    assert code in done.stderr
    assert names in done.stderr
    assert not (here / "demo-report").exists()
