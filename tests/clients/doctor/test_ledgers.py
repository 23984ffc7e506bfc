import sqlite3
from contextlib import closing

import pytest

from clients.budget import Cap, Reservation
from clients.doctor.ledgers import check_budget, check_journal, check_ledger
from clients.ledger import Ledger
from clients.ledger_entries import append
from clients.sent import Departure, journal_path, record_departure
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.events import PrivacyEvent

EVENT = PrivacyEvent(
    mechanism="gaussian", l2_sensitivity=1.0, sampling_rate=1.0, noise_multiplier=8.0, steps=4
)


@pytest.fixture
def spend(unit, order_of, digest, now):
    """Reserve a run of four exchanges, and begin so many of them."""

    def reserve(run_id, begun=1, epsilon_cap=4.0):
        path = unit.state_dir / "ledger.db"
        cap = Cap(epsilon=epsilon_cap, delta=unit.delta)
        reservation = Reservation(run_id, digest(run_id), EVENT, 4, 100.0)
        with closing(Ledger(path, "north", "customer-number", cap)) as ledger:
            for round_ in range(1, begun + 1):
                ledger.begin(order_of(round_, run_id=run_id), reservation, now)

    return reserve


def altered(path, statement):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(statement)


def test_a_whole_ledger_is_unbroken(found, spend):
    spend("run-1")
    (finding,) = check_ledger(found())
    assert finding.outcome == "ok"
    assert "3 entries" in finding.sentence


def test_an_altered_ledger_is_a_failure_that_keeps_the_node_from_starting(found, unit, spend):
    spend("run-1")
    change = "DROP TRIGGER entries_fixed; UPDATE entries SET body = '{}' WHERE sequence = 2"
    altered(unit.state_dir / "ledger.db", change)
    (finding,) = check_ledger(found())
    assert (finding.code, finding.blocks) == ("ledger.corrupt", True)
    assert list(check_budget(found())) == []


def test_a_run_closed_as_one_of_which_less_was_begun_is_a_failure(found, unit, spend, now):
    spend("run-1", begun=2)
    closed = {"kind": "close", "run_id": "run-1", "exchanges": 1, "why": "unit"}
    path, cap = unit.state_dir / "ledger.db", Cap(epsilon=4.0, delta=unit.delta)
    with closing(Ledger(path, "north", "customer-number", cap)) as ledger:
        append(ledger._connection, {**closed, "at": now.isoformat()})
    (finding,) = check_ledger(found())
    assert (finding.code, finding.blocks) == ("ledger.corrupt", True)


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"unit": "south"}, "ledger.other_base"), ({"subject_namespace": "x"}, "ledger.other_base")],
)
def test_a_ledger_of_another_base_is_a_failure(found, changes, code):
    (finding,) = check_ledger(found(**changes))
    assert finding.code == code


def test_a_missing_ledger_is_a_failure(found, unit):
    (unit.state_dir / "ledger.db").unlink()
    (finding,) = check_ledger(found())
    assert finding.code == "ledger.missing"


def test_a_whole_journal_is_told_by_its_length_and_a_damaged_one_by_its_code(found, unit, now):
    journal = journal_path(unit.state_dir)
    record_departure(journal, Departure(now, "server", "cosignature", 10))
    (finding,) = check_journal(found())
    assert "1 lines" in finding.sentence
    journal.write_bytes(b"no database" * 1000)
    (finding,) = check_journal(found())
    assert (finding.code, finding.blocks) == ("sent.corrupt", True)


def test_a_ledger_without_runs_has_spent_nothing(found):
    (finding,) = check_budget(found())
    assert finding.outcome == "ok"
    assert "of at most 4 " in finding.sentence


def test_what_is_spent_and_left_is_told_and_whether_another_run_fits(found, spend):
    spend("run-1", begun=3)
    once = renyi_epsilon([EVENT], 1e-5)
    (finding,) = check_budget(found())
    assert finding.outcome == "ok"
    assert f"{once:.4f}" in finding.sentence
    assert "run-1, has 1 exchanges left; another like it would fit" in finding.sentence


@pytest.mark.parametrize("fits", [False, True])
def test_a_closed_run_counts_as_what_was_begun_and_another_like_it_as_a_whole_one(
    found, spend, unit, now, fits
):
    """Of four exchanges two were begun: three count, and seven with those of another such run."""
    six, seven, eight = (
        renyi_epsilon([EVENT.model_copy(update={"steps": steps})], 1e-5) for steps in (6, 7, 8)
    )
    cap = (seven + (eight if fits else six)) / 2
    spend("run-1", begun=2, epsilon_cap=cap)
    path = unit.state_dir / "ledger.db"
    with closing(Ledger(path, "north", "customer-number", Cap(cap, unit.delta))) as ledger:
        ledger.close_runs(("run-1",), "unit", now)
    (finding,) = check_budget(found(epsilon_cap=cap))
    told = "another like it would fit" if fits else "another like it would pass the cap"
    assert f"the last run, run-1, is closed; {told}" in finding.sentence
    assert finding.outcome == ("ok" if fits else "warning")


def test_a_run_like_the_last_that_would_not_fit_is_a_warning(found, spend):
    once, twice = (renyi_epsilon([EVENT] * runs, 1e-5) for runs in (1, 2))
    cap = (once + twice) / 2
    spend("run-1", epsilon_cap=cap)
    (finding,) = check_budget(found(epsilon_cap=cap))
    assert (finding.outcome, finding.blocks) == ("warning", False)
    assert "would pass the cap" in finding.sentence


@pytest.mark.parametrize("changes", [{"epsilon_cap": 4.5}, {"delta": 1e-6}])
def test_settings_with_another_cap_than_the_ledger_was_begun_with_are_a_failure(
    found, spend, changes
):
    spend("run-1")
    (finding,) = check_budget(found(**changes))
    assert (finding.code, finding.blocks) == ("ledger.other_cap", False)
    assert "cap 4 at delta 1e-05" in finding.sentence
