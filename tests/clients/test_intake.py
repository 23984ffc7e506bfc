"""Files of opt-outs and consents: what acts, what is named, and what a crash leaves behind."""

import csv
import multiprocessing
import os
import signal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clients import intake
from clients.intake import BATCH, MAX_LINE, import_consents, import_objections
from clients.statements import Seen, Statement
from fedcore.errors import DataError
from fedcore.optouts import excluded_from, states_of

HEADER = "identifier,purpose,channel,ground,received_at"
AT = "2026-03-01T09:00:00Z"


@pytest.fixture
def written_file(tmp_path):
    def write(*lines, header=HEADER, newline="\n"):
        path = tmp_path / "from-crm.csv"
        path.write_bytes(newline.join([header, *lines]).encode())
        return path

    return write


def excluded(site):
    return excluded_from(states_of(site.opt_outs.entries()), ("marketing",))


def line(customer, ground="art21_2", at=AT):
    return f"{customer},marketing,web,{ground},{at}"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\n")))
@example("a\rb")
@example('"a,b",c')
def test_a_line_is_what_the_reader_of_csv_makes_of_it(text):
    text = text.rstrip("\r\n")
    try:
        expected = next(csv.reader([text], strict=True), None) if text else None
    except csv.Error:
        expected = None
    assert (intake._cells(f"{text}\r\n".encode()) if text else None) == expected


def test_a_file_acts_at_once_and_a_second_time_changes_nothing(site, contract, written_file):
    path = written_file(line("C1"), line(" c2 "), line("C1", "gpc"), "", line("C1"))
    assert import_objections(site, contract, path) == intake.Imported(3, 1, ())
    pseudonym = site.pseudonymiser(contract).pseudonym
    assert excluded(site) == {pseudonym("C1"), pseudonym("C2")}
    events = site.opt_outs.events()
    assert [event.sequence for event in events] == [1, 2, 3]
    assert {event.channel for event in events} == {"web"}
    assert import_objections(site, contract, path) == intake.Imported(0, 4, ())
    assert site.opt_outs.events() == events
    assert site.synchronise().last_sequence == 3


def test_the_same_file_does_not_bring_back_an_objection_that_was_withdrawn(
    site, contract, written_file
):
    """The unit's systems may write all they know every night."""
    path = written_file(line("C1"))
    import_objections(site, contract, path)
    site.take_in([Statement("C1", "marketing", "art21_2", act="withdrawn")], contract)
    assert import_objections(site, contract, path).added == 0
    assert excluded(site) == frozenset()
    newer = written_file(line("C1"), line("C1", at="2026-03-01T09:00:01Z"))
    assert import_objections(site, contract, newer).added == 1
    assert len(excluded(site)) == 1


def test_a_dry_run_says_the_same_and_does_nothing(site, contract, written_file):
    path = written_file(line("C1"), line("C1"), line("C2"), line("C3", "art99"))
    dry = import_objections(site, contract, path, dry_run=True)
    assert site.opt_outs.events() == []
    assert dry == import_objections(site, contract, path)
    assert (dry.added, dry.known, [fault.line for fault in dry.faults]) == (2, 1, [5])


FAULTY = [
    (line(""), "data.subject_missing"),
    (line("123456.0"), "opt_out.identifier_decimal"),
    (line("secret-7").replace("marketing", "baking"), "opt_out.purpose_unknown"),
    (line("secret-7").replace("web", "the web"), "opt_out.channel_invalid"),
    (line("secret-7", "art6"), "opt_out.ground_unknown"),
    (line("secret-7", at="2026-03-01T09:00:00"), "opt_out.time_invalid"),
    (line("secret-7", at="2026-03-03T09:00:00Z"), "opt_out.from_future"),
    (line("secret-7") + ",more", "opt_out.line_invalid"),
    ("secret-7", "opt_out.line_invalid"),
    ('"secret-7', "opt_out.line_invalid"),
    (line("x" * MAX_LINE), "opt_out.line_invalid"),
    (line("x" * 3 * MAX_LINE), "opt_out.line_invalid"),
]


@pytest.mark.parametrize(("faulty", "code"), FAULTY, ids=range(len(FAULTY)))
def test_a_faulty_line_is_named_by_number_and_rule_and_the_others_act(
    site, contract, written_file, faulty, code
):
    path = written_file(line("C1"), "", faulty, line("C2"))
    found = import_objections(site, contract, path)
    assert (found.added, found.known) == (2, 0)
    assert [(fault.line, fault.code) for fault in found.faults] == [(4, code)]
    assert "secret-7" not in found.faults[0].sentence
    assert len(excluded(site)) == 2


def test_bytes_that_are_no_text_spoil_their_own_line_alone(site, contract, written_file):
    path = written_file(line("C1"), line("C2"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"C1", b"\xff1"))
    found = import_objections(site, contract, path)
    assert (found.added, [fault.line for fault in found.faults]) == (1, [2])


def test_columns_may_stand_in_any_order_and_lines_end_as_on_any_system(
    site, contract, written_file
):
    header = "ground,received_at,identifier,channel,purpose"
    path = written_file(f'art18,{AT},"C1",shop,marketing', header=header, newline="\r\n")
    assert import_objections(site, contract, path).added == 1
    assert site.opt_outs.events()[0].ground == "art18"


@pytest.mark.parametrize(
    "header",
    ["", "identifier,purpose", f"{HEADER},withdrawn_at", HEADER.replace("channel", "purpose")],
)
def test_a_file_with_other_columns_is_refused_whole(site, contract, written_file, header):
    """A column that nobody reads may say the opposite of the line."""
    path = written_file(line("C1"), header=header)
    with pytest.raises(DataError) as error:
        import_objections(site, contract, path)
    assert error.value.code == "opt_out.header_invalid"
    assert site.opt_outs.events() == []
    assert import_objections(site, contract, written_file(line("C1"))).added == 1


def test_a_file_that_is_not_there_is_refused(site, contract, tmp_path):
    with pytest.raises(DataError) as error:
        import_objections(site, contract, tmp_path / "none.csv")
    assert error.value.code == "opt_out.file_unreadable"


def test_a_file_of_consents_lets_in_and_a_second_time_changes_nothing(site, contract, written_file):
    lines = [f"C{number},analytics,web,{AT}" for number in (1, 2)]
    path = written_file(*lines, header=HEADER.replace(",ground", ""))
    assert import_consents(site, contract, path).added == 2
    is_out = site.opt_outs.left_out(contract, "analytics")
    pseudonym = site.pseudonymiser(contract).pseudonym
    assert [is_out(pseudonym(f"C{number}")) for number in (1, 2, 3)] == [False, False, True]
    site.take_in([Statement("C1", "analytics", "art7_3")], contract)
    assert import_consents(site, contract, path) == intake.Imported(0, 2, ())
    assert site.opt_outs.left_out(contract, "analytics")(pseudonym("C1"))


def test_two_imports_at_once_take_each_statement_in_once(
    federation, opened, contract, written_file
):
    path = written_file(*(line(f"C{number}") for number in range(BATCH + 200)))
    with opened(federation) as first, opened(federation) as second:
        interleaved = intake._sound(
            first, contract, intake._rows(path, intake.OBJECTION_COLUMNS), []
        )
        seen = Seen()
        batches = intake._batches(interleaved)
        assert len(first.take_in(next(batches), contract, seen)) == BATCH
        assert import_objections(second, contract, path) == intake.Imported(200, BATCH, ())
        assert first.take_in(next(batches), contract, seen) == []
        assert len(first.opt_outs.events()) == BATCH + 200


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_a_kill_between_or_in_batches_leaves_whole_batches_and_the_repeat_goes_on(
    federation, opened, contract, written_file, commits
):
    """Killed in the midst of the batch after so many whole ones."""
    path = written_file(*(line(f"C{number}") for number in range(2 * BATCH + 50)))
    child = multiprocessing.get_context("fork").Process(
        target=killed_import, args=(opened(federation), contract, path, commits)
    )
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    with opened(federation) as site:
        assert len(site.opt_outs.events()) == commits * BATCH
        found = import_objections(site, contract, path)
        assert (found.added, found.known) == (2 * BATCH + 50 - commits * BATCH, commits * BATCH)
        assert len(excluded(site)) == 2 * BATCH + 50


def killed_import(opening, contract, path, commits):
    with opening as site:
        written = 0

        def count(statement):
            nonlocal written
            written += statement.startswith("INSERT INTO events")
            if written == commits + 1:
                os.kill(os.getpid(), signal.SIGKILL)

        site.opt_outs._connection.set_trace_callback(count)
        import_objections(site, contract, path)
