import ast
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clients.sent import (
    Departure,
    RecordingGateway,
    journal_path,
    load_departures,
    record_departure,
)
from fedcore.errors import FedError, TrustError, UnreachableError
from fedcore.gateway import NodeGateway
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LINE = Departure(AT, "server", "train answer", 2048, "sha256:" + "ab" * 32, "run-1", 2, "{}")


@pytest.fixture
def journal(tmp_path):
    return journal_path(tmp_path)


class Governance:
    """A governance that looks into the journal at the moment it is reached."""

    def __init__(self, journal, answer):
        self.journal, self.answer, self.seen = journal, answer, []

    def _reached(self, document):
        newest = load_departures(self.journal)[-1].departure
        self.seen.append((newest.kind, newest.digest))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    fetch_contract = sync_bulletin = submit_opt_out = submit_opt_outs = _reached
    fetch_opt_outs = rotate_key = leave = fetch_ledger_history = submit_group_opt_out = _reached
    set_aside_group_opt_out = _reached

    def fetch_about(self):
        return self._reached(None)

    def fetch_handovers(self):
        return self._reached(None)


@pytest.fixture
def document(order_of):
    return sign_record(order_of(), SigningKey.generate(), Realm.PRODUCTION)


def test_before_the_first_message_nothing_is_listed(journal):
    assert load_departures(journal) == []
    assert not journal.exists()


def test_what_is_listed_is_read_back_in_order_and_numbered_from_one(journal):
    lines = [LINE, Departure(AT, "governance", "bulletin request", 700), replace(LINE, round=3)]
    for line in lines:
        record_departure(journal, line)
    found = load_departures(journal)
    assert [line.number for line in found] == [1, 2, 3]
    assert [line.departure for line in found] == lines


def test_lines_of_several_processes_get_numbers_of_their_own(journal):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: record_departure(journal, replace(LINE, round=n)), range(40)))
    found = load_departures(journal)
    assert {line.departure.round for line in found} == set(range(40))


@pytest.mark.parametrize(
    "change", ["DELETE FROM messages WHERE number = 1", "UPDATE messages SET size = 1"]
)
def test_a_line_is_neither_altered_nor_removed(journal, change):
    record_departure(journal, LINE)
    with (
        closing(sqlite3.connect(journal)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute(change)


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TRIGGER messages_kept; DELETE FROM messages WHERE number = 2",
        "DROP TRIGGER messages_fixed; UPDATE messages SET number = 9 WHERE number = 3",
        "DROP TRIGGER messages_fixed; UPDATE messages SET at = 'yesterday'",
        "ALTER TABLE messages DROP COLUMN event",
    ],
)
def test_a_journal_with_a_gap_or_damage_is_named(journal, damage):
    for _ in range(3):
        record_departure(journal, LINE)
    assert len(load_departures(journal)) == 3
    with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        connection.executescript(damage)
    with pytest.raises(TrustError) as error:
        load_departures(journal)
    assert error.value.code == "sent.corrupt"


def test_a_file_that_is_no_journal_takes_no_line(journal):
    journal.write_bytes(b"no database" * 100)
    with pytest.raises(TrustError) as error:
        record_departure(journal, LINE)
    assert error.value.code == "sent.corrupt"


def test_a_journal_left_empty_by_a_crash_is_begun_anew(journal):
    journal.touch()
    assert load_departures(journal) == []
    record_departure(journal, LINE)
    assert len(load_departures(journal)) == 1


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (lambda g, d: g.fetch_contract(d.digest), "contract request"),
        (lambda g, d: g.sync_bulletin(d), "bulletin request"),
        (lambda g, d: g.submit_opt_out(d), "opt-out"),
        (lambda g, d: g.submit_opt_outs(d), "opt-outs"),
        (lambda g, d: g.fetch_opt_outs(d), "question about its opt-outs"),
        (lambda g, d: g.submit_group_opt_out(d), "group opt-out"),
        (lambda g, d: g.set_aside_group_opt_out(d), "group set-aside"),
        (lambda g, d: g.rotate_key(d), "key rotation"),
        (lambda g, d: g.leave(d), "leave"),
        (lambda g, d: g.fetch_ledger_history(d), "ledger request"),
    ],
)
def test_a_request_to_governance_is_on_disk_before_governance_is_reached(
    journal, document, ask, kind
):
    governance = Governance(journal, "the answer")
    ask(RecordingGateway(governance, journal, lambda: AT), document)
    assert governance.seen == [(kind, document.digest)]
    (line,) = load_departures(journal)
    assert (line.departure.recipient, line.departure.at) == ("governance", AT)
    assert line.departure.size in {len(document.to_bytes()), len(document.digest)}


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (lambda g: g.fetch_about(), "question about versions"),
        (lambda g: g.fetch_handovers(), "question about its keys"),
    ],
)
def test_a_question_that_says_nothing_is_listed_as_well(journal, ask, kind):
    governance = Governance(journal, "the answer")
    assert ask(RecordingGateway(governance, journal, lambda: AT)) == "the answer"
    assert governance.seen == [(kind, None)]
    assert load_departures(journal)[0].departure.size == 0


def test_whatever_a_node_may_ask_of_governance_is_listed():
    asked = {name for name in vars(NodeGateway) if not name.startswith("_")}
    assert asked <= set(vars(RecordingGateway))


def test_nobody_else_in_the_node_opens_a_way_to_governance():
    opened = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "clients").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr == "gateway")
        or (isinstance(node, ast.Name) and node.id == "HttpGateway")
    }
    assert opened == {"clients/sent.py", "clients/runtime.py"}


def test_an_attempt_to_reach_governance_stays_listed(journal, document):
    silent = Governance(journal, UnreachableError("governance.unreachable", "x"))
    with pytest.raises(UnreachableError):
        RecordingGateway(silent, journal, lambda: AT).sync_bulletin(document)
    assert len(load_departures(journal)) == 1


def test_without_a_journal_governance_is_not_reached(journal, document):
    journal.mkdir()
    governance = Governance(journal, "the answer")
    with pytest.raises(FedError):
        RecordingGateway(governance, journal, lambda: AT).sync_bulletin(document)
    assert governance.seen == []
    journal.rmdir()
    RecordingGateway(governance, journal, lambda: AT).sync_bulletin(document)
    assert len(governance.seen) == 1


def test_a_full_disk_is_no_damage_and_holds_the_message_back(journal, monkeypatch):
    record_departure(journal, LINE)
    with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    opened = sqlite3.connect

    def full(*args, **options):
        connection = opened(*args, **options)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", full)
    long = replace(LINE, event="x" * 100_000)
    with pytest.raises(FedError) as error:
        record_departure(journal, long)
    assert error.value.code == "state.unwritable"
    monkeypatch.undo()
    record_departure(journal, LINE)
    assert stat.S_ISREG(journal.stat().st_mode)
