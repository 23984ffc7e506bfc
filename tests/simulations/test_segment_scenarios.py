"""A scenario of segments: what it may say, what it leaves behind, and what is measured of it."""

import json
import random
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from fedcore import cli
from fedcore.bundle import read_bundle
from fedcore.errors import InvalidRecordError
from fedcore.plans import TrainingPlan
from fedcore.rounds import Receipt
from simulations.scenario import load_scenario

GROUPS = {
    "simulate": EntryPoint("simulate", "simulations.cli:app [simulation]", cli.COMMANDS_GROUP)
}
COURSE = "{ segments = { least = 2, most = 4 }, spread = 8, searches = 1, refinements = 1 }"
PLAN = f"""
[plan]
task = "segmentation"
purpose = "churn"
minimum_units = 2
model = {{ kind = "centres", course = {COURSE} }}
features = [{{ field = "age", encoding = "scale" }}]
"""


def rows_of_two_ages():
    draw = random.Random(7)  # noqa: S311 - invented customers, always the same
    rows = []
    for number in range(900):
        age = round(min(100, max(18, draw.gauss((30, 80)[number % 5 > 2], 5))))
        left = draw.choice(["yes", "no"])
        rows.append(f"K{number},{age},basic,{left},{('east', 'north', 'west')[number % 3]}")
    return rows


def of_segments(text, plan=PLAN):
    """Return the text of the made-up scenario with another plan, and the rounds left out."""
    before, _, after = text.partition("[plan]")
    _, _, contract = after.partition("[contract]")
    head = before.replace("rounds = 3\n", "").replace("size_band = 64", "size_band = 256")
    return f"{head}{plan}\n[contract]{contract}"


@pytest.fixture
def text(scenario_file):
    return of_segments(scenario_file.read_text())


@pytest.mark.slow
def test_a_scenario_of_segments_is_run_and_held_against_all_rows(
    scenario_writer, text, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path, out = scenario_writer(tmp_path, rows_of_two_ages(), text), tmp_path / "found"
    terms = ["simulate", "segments", str(path), "--epsilon", "6", "--out", str(out)]
    done = CliRunner().invoke(cli.RootCommand(GROUPS), terms)
    assert done.exit_code == 0, done.output
    figures = json.loads((out / "segments.json").read_text())
    plan = TrainingPlan.from_json(json.loads((out / "plan.json").read_text()))
    assert (plan.rounds, figures["releases"], figures["simulation"]) == (4, 4, True)
    assert len(figures["segments"]) == 2
    pooled = figures["explained_variance_pooled_nonprivate"]
    assert pooled > 0.9
    assert figures["explained_variance"] == pytest.approx(pooled, abs=0.02)
    assert set(figures["epsilon"]) == {"east", "north", "west"}
    assert all(5.9 < spent <= 6 for spent in figures["epsilon"].values())
    assert "evidence verified by a second process" in done.output
    evidence = read_bundle((out / "model.fedpact").read_bytes())
    receipts = [Receipt.from_bytes(one.payload_bytes) for one in evidence.receipts]
    assert {receipt.event.steps for receipt in receipts} == {1}
    assert len(receipts) == 4 * 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("minimum_units = 2", "minimum_units = 2\nl2_clip_norm = 1.0"),
        ("minimum_units = 2", "minimum_units = 2\nsampling_rate = 0.5"),
        ("minimum_units = 2", "minimum_units = 2\nalgorithm = { local_learning_rate = 1.0 }"),
        ("seed = 3", "seed = 3\nrounds = 4"),
        ("seed = 3", "seed = 3\nrefusals = true"),
        ('features = [{ field = "age", encoding = "scale" }]', ""),
    ],
)
def test_what_a_course_says_is_not_said_again(scenario_writer, text, tmp_path, old, new):
    assert text.count(old) == 1
    broken = scenario_writer(tmp_path, text=text.replace(old, new))
    with pytest.raises(InvalidRecordError, match="course says rounds"):
        load_scenario(str(broken))
    assert load_scenario(str(scenario_writer(tmp_path, text=text))).plan.model.course


def test_each_kind_of_model_has_its_own_command(scenario_writer, scenario_file, text, tmp_path):
    trained = scenario_file
    path = tmp_path / "segments"
    path.mkdir()
    found = scenario_writer(path, text=text)
    for command, scenario in (("run", found), ("segments", trained)):
        terms = ["simulate", command, str(scenario), "--out", str(tmp_path / "no")]
        done = CliRunner().invoke(cli.RootCommand(GROUPS), terms)
        assert done.exit_code == 1
        assert "scenario.invalid" in done.output
        assert not (tmp_path / "no").exists()
