"""`fedpact governance dpia import` and `export`: files in and out, and in words what was lost."""

import json

import pytest

from fedcore.dpia_record import Dpia

BINDINGS = {
    "task": "churn",
    "purposes": ["retention"],
    "contract": "sha256:" + "0" * 64,
    "features": ["tenure"],
    "units": ["north"],
    "privacy_modes": ["local"],
    "epsilon_cap": 2.0,
    "delta_cap": 1e-6,
    "minimum_units": 1,
}
STATED = ("--dpia-id", "churn", "--valid-until", "2027-06-30")


@pytest.fixture
def files(tmp_path):
    (tmp_path / "bindings.json").write_text(json.dumps(BINDINGS))
    comment = {"description": "hid\u001b[2Jden"}
    pia = {"name": "Churn", "status": 3, "dpo\u001b[2J": comment}
    (tmp_path / "pia.json").write_text(json.dumps({"pia": pia, "answers": None}))
    return tmp_path


def imported(run, files, *more, name="pia.json", out="dpia.json"):
    return run("dpia", "import", files / name, "--out", files / out, *more)


def test_a_file_becomes_a_record_and_the_record_a_file_again(run, files):
    exit_code, output = imported(run, files, "--bindings", files / "bindings.json", *STATED)
    assert (exit_code, "churn version 1" in output) == (0, True), output
    assert "lost: dpo" in output
    assert "\u001b" not in output
    record = Dpia.from_json(json.loads((files / "dpia.json").read_bytes()))
    assert record.bindings.task == "churn"
    line = ("dpia", "export", files / "dpia.json", "--format", "cnil", "--out", files / "out.json")
    exit_code, output = run(*line)
    assert (exit_code, "lost: bindings" in output) == (0, True), output
    assert imported(run, files, name="out.json", out="again.json")[0] == 0
    assert (files / "again.json").read_bytes() == (files / "dpia.json").read_bytes()


def test_bindings_may_come_from_another_record_and_an_edited_file_onto_its_own(run, files):
    imported(run, files, "--bindings", files / "bindings.json", *STATED)
    other = ("--bindings", files / "dpia.json", *STATED)
    assert imported(run, files, *other, out="other.json")[0] == 0
    (files / "edited.json").write_text(json.dumps({"pia": {"name": "New name", "status": 0}}))
    onto = ("--onto", files / "dpia.json")
    assert imported(run, files, *onto, name="edited.json", out="edited-dpia.json")[0] == 0
    edited = Dpia.from_json(json.loads((files / "edited-dpia.json").read_bytes()))
    assert (edited.title, edited.dpia_id) == ("New name", "churn")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (STATED, "cnil.incomplete"),
        (("--bindings", "pia.json", *STATED), "record.invalid"),
        (("--bindings", "nowhere.json", *STATED), "file.unreadable"),
    ],
)
def test_what_is_missing_is_said(run, files, monkeypatch, more, code):
    monkeypatch.chdir(files)
    exit_code, output = imported(run, files, *more)
    assert (exit_code, code in output) == (1, True), output
    assert not (files / "dpia.json").exists()


def test_nothing_is_written_over(run, files):
    (files / "dpia.json").write_text("mine")
    exit_code, output = imported(run, files, "--bindings", files / "bindings.json", *STATED)
    assert (exit_code, "file.exists" in output) == (1, True)
    assert (files / "dpia.json").read_text() == "mine"
