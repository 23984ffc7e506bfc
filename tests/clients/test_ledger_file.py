"""The ledger's file under trouble: locks, full disks, large replies, other processes."""

import sqlite3
import threading
import tracemalloc
from contextlib import closing

import pytest

from clients.budget import Cap, Reservation
from clients.ledger import Ledger
from clients.ledger_entries import append
from fedcore.errors import ConflictError, TrustError
from fedcore.privacy.events import PrivacyEvent

EVENT = PrivacyEvent(
    mechanism="gaussian", l2_sensitivity=1.0, sampling_rate=1.0, noise_multiplier=8.0, steps=4
)
BASE = ("north", "customer-number")


def reservation(event=EVENT, exchanges=4):
    return Reservation("run-1", "sha256:" + "1" * 64, event, exchanges, 50.0)


def opened(path):
    return closing(Ledger(path, *BASE, Cap(10.0, 1e-5)))


@pytest.fixture
def path(tmp_path, start):
    Ledger.create(tmp_path / "ledger.db", *BASE, start)
    return tmp_path / "ledger.db"


@pytest.fixture
def used(path, order_of, start):
    """A ledger with one order answered, and one begun and not answered."""
    with opened(path) as ledger:
        ledger.begin(order_of(1), reservation(), start)
        ledger.settle(order_of(1), b"reply one", bytes(32), start)
        ledger.begin(order_of(2), reservation(), start)
    return path


def held(connection, path):
    connection.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other.close


def full(connection, _path):
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    return lambda: connection.execute("PRAGMA max_page_count = 100000")


@pytest.mark.parametrize(("trouble", "code"), [(held, "state.busy"), (full, "state.unwritable")])
def test_a_lock_and_a_full_disk_write_nothing_and_ask_for_no_backup(
    used, order_of, start, trouble, code
):
    reply = bytes(100_000)
    with opened(used) as ledger:
        before = ledger.entries()
        end = trouble(ledger._connection, used)
        with pytest.raises(ConflictError) as error:
            ledger.settle(order_of(2), reply, bytes(32), start)
        end()
        assert error.value.code == code
        assert "from its backup" not in error.value.public
        assert ledger.entries() == before
        ledger.settle(order_of(2), reply, bytes(32), start)
        assert ledger.stored_reply(order_of(2)) == reply


def test_a_failing_computation_is_not_called_a_damaged_ledger(path, order_of, start):
    senseless = EVENT.model_copy(update={"noise_multiplier": "much"})
    with opened(path) as ledger:
        with pytest.raises((TypeError, ValueError, KeyError)):
            ledger.begin(order_of(1), reservation(event=senseless), start)
        assert len(ledger.entries()) == 1
        ledger.begin(order_of(1), reservation(), start)


@pytest.mark.parametrize("body", [{"kind": "order", "run_id": "run-1"}, {"kind": "gift"}, {}])
def test_an_entry_that_says_too_little_is_damage_however_well_it_is_chained(used, body):
    with opened(used) as ledger:
        append(ledger._connection, body)
        with pytest.raises(TrustError) as error:
            ledger.entries()
        assert error.value.code == "ledger.corrupt"


def test_opening_holds_one_reply_in_memory_at_a_time(path, order_of, start):
    size, rounds = 1_000_000, range(1, 13)
    with opened(path) as ledger:
        for round_ in rounds:
            ledger.begin(order_of(round_), reservation(exchanges=20), start)
            ledger.settle(order_of(round_), bytes([round_]) * size, bytes(32), start)
    tracemalloc.start()
    try:
        with opened(path) as ledger:
            peak = tracemalloc.get_traced_memory()[1]
            assert ledger.stored_reply(order_of(7)) == bytes([7]) * size
    finally:
        tracemalloc.stop()
    assert peak < 4 * size
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE replies SET reply = zeroblob(length(reply)) WHERE rowid = 12")
    with pytest.raises(TrustError), opened(path):
        pass


def test_a_ledger_opens_while_another_process_writes_answers(path, order_of, start):
    """What is read belongs to one moment: no answer is taken for an added one."""
    failures, opened_times = [], 0  # type: ignore[var-annotated]
    writer = threading.Thread(target=answer_rounds, args=(path, order_of, start, failures))
    writer.start()
    while writer.is_alive():
        with opened(path):
            opened_times += 1
    assert (failures, opened_times > 3) == ([], True)


def answer_rounds(path, order_of, start, failures):
    try:
        with opened(path) as ledger:
            for round_ in range(1, 40):
                ledger.begin(order_of(round_), reservation(exchanges=40), start)
                ledger.settle(order_of(round_), bytes(20_000), bytes(32), start)
    except Exception as error:  # noqa: BLE001 - the test looks at it
        failures.append(error)
