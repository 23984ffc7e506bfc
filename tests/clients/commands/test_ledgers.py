"""The ledger's commands, and runs that it knows of only because it was rebuilt."""

from contextlib import closing

import pytest

from clients.budget import Cap, Reservation
from clients.ledger import Ledger
from clients.ledger_entries import append
from clients.state import StateDir
from fedcore.privacy.events import PrivacyEvent

BASE = ("north", "customer-number")
EVENT = PrivacyEvent(
    mechanism="gaussian", l2_sensitivity=1.0, sampling_rate=1.0, noise_multiplier=8.0, steps=4
)


@pytest.fixture
def settings(node, write_settings):
    path = write_settings()
    assert node("init", "-s", path)[0] == 0
    return path


@pytest.fixture
def path(settings, tmp_path):
    return StateDir(tmp_path / "state").ledger


@pytest.fixture
def reservation(digest):
    return Reservation("run-1", digest("permit"), EVENT, 4, 100.0)


def opened(path):
    return closing(Ledger(path, *BASE, Cap(4.0, 1e-5)))


def test_entries_that_follow_from_each_other_and_not_from_the_runs_do_not_verify(
    node, settings, path, reservation, order_of, start
):
    """The chain is whole, and still a run is closed as one of which less was begun."""
    with opened(path) as ledger:
        for round_ in (1, 2):
            ledger.begin(order_of(round_), reservation, start)
    code, output = node("ledger", "verify", "-s", settings)
    assert (code, "4 entries, unbroken" in output) == (0, True)
    closed = {"kind": "close", "run_id": "run-1", "exchanges": 1, "why": "unit"}
    with opened(path) as ledger:
        append(ledger._connection, {**closed, "at": start.isoformat()})
    code, output = node("ledger", "verify", "-s", settings)
    assert (code, "ledger.corrupt" in output) == (1, True)


@pytest.fixture
def rebuilt(path, reservation, start):
    """Put a ledger in the place of the node's, whose only run was reserved in a lost one."""
    at = start.isoformat()
    body = {"kind": "reserve", **reservation.terms, "at": at}
    path.unlink()
    Ledger.create(path, *BASE, start, reserved=[{**body, "rebuilt": {"since": at, "until": at}}])


def test_a_run_of_a_lost_ledger_is_not_called_closed(node, settings, path, rebuilt):
    code, output = node("ledger", "close", "run-1", "-s", settings)
    assert (code, "ledger.rebuilt" in output, "closed before" in output) == (1, True, False)
    with opened(path) as ledger:
        assert [entry.kind for entry in ledger.entries()] == ["open", "reserve"]


def test_a_customer_is_told_that_a_run_of_a_lost_ledger_may_never_have_been(
    node, settings, rebuilt
):
    code, output = node("subject", "report", "C1", "-s", settings)
    assert code == 0
    assert "run-1" in output
    assert "counted in a ledger that was rebuilt" in output
    assert "permit and plan were not kept here" not in output


def test_a_customer_is_told_that_the_papers_of_a_run_were_not_kept(
    node, settings, path, reservation, order_of, start
):
    with opened(path) as ledger:
        ledger.begin(order_of(1), reservation, start)
    code, output = node("subject", "report", "C1", "-s", settings)
    assert code == 0
    assert "permit and plan were not kept here" in output
    assert "was rebuilt" not in output
