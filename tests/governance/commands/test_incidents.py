"""Incidents from a distance: open, update, close, list, show, each with its clock."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from fedcore.incidents import IncidentDuty
from governance.duty_clock import say_duty

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
CLOCK = re.compile(r"(\d+) h (\d+) min left to notify the authority \(Art\. 33\(1\)\)")


@pytest.fixture
def officer(service):
    return ("--api-key-file", service.home / "carla.key", *service.line)


@pytest.fixture
def lost(tmp_path):
    """The file of a breach that somebody noticed an hour ago."""
    path = tmp_path / "lost.json"
    facts = {
        "title": "A backup was lost",
        "nature": "Loss of confidentiality",
        "subjects_band": "1-99",
        "records_band": "1-99",
        "consequences": "none known",
        "measures": "keys were changed",
    }
    path.write_text(json.dumps(facts))
    return path


def hours_ago(hours):
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat()


def opened(run, officer, lost, hours=1, *more):
    known = ("--set", f"@{lost}", "--set", f"aware_at={hours_ago(hours)}")
    code, output = run("incident", "open", *known, *more, *officer)
    assert code == 0, output
    return re.findall(r"incident (\d+), open", output)[0], output


def test_an_incident_is_opened_told_and_closed(run, officer, lost):
    number, output = opened(run, officer, lost)
    [(hours, _)] = CLOCK.findall(output)
    assert hours in {"70", "71"}
    assert "left to assess the risk" in output
    code, output = run("incident", "close", number, *officer)
    assert (code, "incident.duty_open" in output) == (1, True), output
    lists = (
        "--set",
        "data_categories=contact data, calls",
        "--set",
        "subject_categories=customers",
    )
    told = ("--set", "authority=CNIL", "--set", f"authority_notified_at={hours_ago(0)}")
    code, output = run(
        "incident", "update", number, "--set", "risk=high_risk", *lists, *told, *officer
    )
    assert code == 0, output
    assert output.count("\n") == 2, output
    assert "without undue delay to tell the people concerned (Art. 34(1))" in output
    code, output = run("incident", "close", number, "--set", "risk=risk", *officer)
    assert (code, f"incident {number}, closed" in output) == (0, True), output
    code, output = run("incident", "show", number, *officer)
    assert code == 0
    assert "data_categories: contact data, calls\n" in output
    assert output.count("  phase ") == 3


def test_what_is_overdue_is_said_in_the_list(run, officer, lost):
    number, _ = opened(run, officer, lost, 73)
    code, output = run("incident", "list", *officer)
    assert code == 0
    entry = output.partition(f"incident {number}, open")[2]
    assert "OVERDUE since" in entry
    assert "to notify the authority" in entry


def test_what_it_stops_is_named_and_an_empty_value_takes_a_field_back(run, officer, lost):
    number, _ = opened(run, officer, lost, 1, "--stop", "unit:nowhere", "--stop", "purpose:none")
    _, output = run("incident", "show", number, *officer)
    assert output.count("pulled the stop sha256:") == 2
    assert "measures: keys were changed" in output
    code, _ = run("incident", "update", number, "--set", "measures=", *officer)
    assert code == 0
    _, output = run("incident", "show", number, *officer)
    assert "measures" not in output


@pytest.mark.parametrize(
    "wrong",
    [
        ("--set", "title"),
        ("--set", "colour=red"),
        ("--set", "risk=unlikely_risk"),
        ("--set", "aware_at=yesterday"),
        ("--stop", "all:x"),
        ("--stop", "unit:NORTH"),
    ],
    ids=str,
)
def test_what_is_no_incident_is_refused_in_words(run, officer, lost, wrong):
    known = ("--set", f"@{lost}", "--set", f"aware_at={hours_ago(1)}")
    code, output = run("incident", "open", *known, *wrong, *officer)
    assert (code, "request.invalid" in output) == (1, True), output


def test_a_file_that_holds_no_object_is_refused(run, officer, tmp_path):
    (tmp_path / "list.json").write_text("[]")
    code, output = run("incident", "open", "--set", f"@{tmp_path / 'list.json'}", *officer)
    assert (code, "request.invalid" in output) == (1, True), output


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (timedelta(hours=31, minutes=12, seconds=59), "31 h 12 min left to notify the authority"),
        (timedelta(0), "0 h 0 min left to notify the authority"),
        (timedelta(seconds=-1), "OVERDUE since 2025-06-01T11:59:59+00:00 to notify the authority"),
    ],
)
def test_the_clock_is_said_in_hours_and_minutes(left, said):
    duty = IncidentDuty(
        duty="notify_authority",
        article="Art. 33(1)",
        due_at=NOW + left,
        overdue=left < timedelta(0),
    )
    assert say_duty(duty, NOW) == f"{said} (Art. 33(1))"
