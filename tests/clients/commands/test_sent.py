import json
from datetime import UTC, datetime
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from clients.sent import Departure, journal_path, record_departure
from fedcore import cli
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.events import PrivacyEvent

AT = datetime(2026, 3, 2, 9, 0, 30, tzinfo=UTC)
EVENT = PrivacyEvent(
    mechanism="gaussian", l2_sensitivity=1.0, sampling_rate=1.0, noise_multiplier=8.0, steps=4
)
FIRST, SECOND = ("sha256:" + digit * 64 for digit in "ab")


def fedpact(*arguments):
    entry = EntryPoint("node", "clients.cli:app [node]", cli.COMMANDS_GROUP)
    result = CliRunner().invoke(
        cli.RootCommand({"node": entry}), ["node", *map(str, arguments)], env={"COLUMNS": "200"}
    )
    return result.exit_code, result.output


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "state").mkdir()
    path = tmp_path / "node.toml"
    path.write_text(
        f"""
unit = "north"
state_dir = "{tmp_path / "state"}"
source = "{tmp_path / "customers.csv"}"
governance_url = "http://127.0.0.1:9"
governance_key = "{"ab" * 32}"
subject_namespace = "customer-number"
epsilon_cap = 4.0
delta = 1e-5
size_band = 1024
purposes = ["retention"]
"""
    )
    return path


@pytest.fixture
def some(settings, tmp_path):
    """A bulletin request, an answer, its repeat, an answer of another run, and a refusal."""
    event = EVENT.model_dump_json(exclude_none=True)
    for departure in (
        Departure(AT, "governance", "bulletin request", 700, FIRST),
        Departure(AT, "server", "train answer", 2048, FIRST, "run-1", 1, event),
        Departure(AT, "server", "train answer", 2048, FIRST, "run-1", 1, event),
        Departure(AT, "server", "train answer", 2048, SECOND, "run-2", 1, event),
        Departure(AT, "server", "refusal permit.revoked", 14, None, "run-2", 2),
    ):
        record_departure(journal_path(tmp_path / "state"), departure)
    return settings


def listed(*arguments):
    code, text = fedpact("sent", "--json", *arguments)
    assert code == 0
    return json.loads(text)["messages"]


def test_before_the_first_message_there_is_an_empty_list(settings):
    assert listed("-s", settings) == []


def test_every_message_is_told_with_its_own_epsilon_and_a_repeat_as_one(some):
    rows = listed("-s", some)
    assert [row["number"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["repeat"] for row in rows] == [False, False, True, False, False]
    once = renyi_epsilon([EVENT], 1e-5)
    assert [row["epsilon"] for row in rows] == [None, once, once, once, None]
    assert rows[4] == {
        "number": 5,
        "at": AT.isoformat(),
        "to": "server",
        "kind": "refusal permit.revoked",
        "run": "run-2",
        "round": 2,
        "bytes": 14,
        "epsilon": None,
        "repeat": False,
        "digest": None,
    }


def test_the_list_can_be_of_one_run_or_of_the_newest(some):
    assert [row["number"] for row in listed("-s", some, "--run", "run-2")] == [4, 5]
    assert [row["number"] for row in listed("-s", some, "--last", "2")] == [4, 5]
    assert [row["number"] for row in listed("-s", some, "--run", "run-1", "--last", "1")] == [3]
    # A repeat is one also where the first is not shown.
    assert listed("-s", some, "--run", "run-1", "--last", "1")[0]["repeat"]


def test_the_table_says_what_it_does_not_list_and_whose_word_the_total_is(some):
    code, text = fedpact("sent", "-s", some)
    assert code == 0
    assert "5 of 5 messages" in text
    assert "bbbbbbbbbbbb" in text
    assert "repeat" in text
    assert "2026-03-02T09:00:30Z" in text
    for word in ("SuperNode", "node.unavailable", "ledger show"):
        assert word in text


def test_a_damaged_journal_is_named_with_its_code(some, tmp_path):
    journal_path(tmp_path / "state").write_bytes(b"no database" * 1000)
    code, text = fedpact("sent", "-s", some)
    assert code == 1
    assert "(sent.corrupt)" in text
