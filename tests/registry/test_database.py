"""Transactions: whole or not at all, one writer at a time, on the disk when committed."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.exc import IntegrityError, InternalError, StatementError

from registry import accounts, log
from registry.accounts import Account, KeyRecord
from registry.database import Database, migrate

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)


def add(session, name, moment=NOW):
    number = f"{abs(hash(name)):016x}"[:16]
    accounts.append(session, Account(name, "dpo", None), KeyRecord(number, "h" * 64), moment)


def test_a_transaction_that_raises_leaves_nothing(database):
    with database.reading() as session:
        before = accounts.any_exists(session), log.load_view(session).size
    with suppress(ZeroDivisionError), database.writing() as session:
        add(session, "anna")
        log.append(session, "x", "sha256:" + "0" * 64)
        raise ZeroDivisionError
    with database.reading() as session:
        assert (accounts.any_exists(session), log.load_view(session).size) == before == (False, 0)
    with database.writing() as session:
        add(session, "anna")
    with database.reading() as session:
        assert accounts.any_exists(session)


def test_reading_never_commits(database):
    """SQLite forgets what was written; PostgreSQL refuses it."""
    with suppress(InternalError), database.reading() as session:
        add(session, "anna")
    with database.reading() as session:
        assert not accounts.any_exists(session)


def test_a_writer_waits_from_its_beginning_for_the_one_before(database):
    """Both count first and write then: a writer that began early would count too few."""
    ready = threading.Barrier(8)

    def write(number):
        ready.wait()
        with database.writing() as session:
            known = len(accounts.list_all(session))
            add(session, f"number-{known}")
            return known

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(write, range(8))) == list(range(8))


def test_readers_do_not_wait_for_a_writer(database):
    with database.writing() as session:
        add(session, "anna")
        with database.reading() as other:
            assert not accounts.any_exists(other)


def test_commits_reach_the_disk_and_foreign_keys_hold(sqlite_database):
    with sqlite_database.reading() as session:
        connection = session.connection()
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
    }


def test_a_row_without_its_parent_is_refused(database):
    statement = "INSERT INTO permit_units (unit, run_id) VALUES ('north', 'a run without a permit')"
    with pytest.raises(IntegrityError), database.writing() as session:
        session.connection().exec_driver_sql(statement)


@pytest.mark.parametrize("hours", [0, 2, -5])
def test_times_come_back_in_utc(sqlite_database, hours):
    zone = timezone(timedelta(hours=hours))
    with sqlite_database.writing() as session:
        add(session, "anna", NOW.astimezone(zone))
        stored = session.connection().exec_driver_sql("SELECT created_at FROM accounts").scalar()
    assert stored.startswith("2025-06-01 12:00:00")


def test_a_time_without_a_zone_is_never_stored(database):
    with pytest.raises(StatementError, match="zone"), database.writing() as session:
        add(session, "anna", NOW.replace(tzinfo=None))


def test_migrating_twice_changes_nothing(empty_url):
    migrate(empty_url)
    opened = Database(empty_url)
    with opened.writing() as session:
        add(session, "anna")
    opened.close()
    migrate(empty_url)
    opened = Database(empty_url)
    with opened.reading() as session:
        assert accounts.any_exists(session)
    opened.close()


def test_a_killed_writer_leaves_nothing_behind(empty_url, database):
    """A process dies between its writes and its commit."""
    script = f"""
import os, sys
from datetime import UTC, datetime
from registry import log
from registry.database import Database
with Database({empty_url!r}).writing() as session:
    log.append(session, "x", "sha256:" + "0" * 64)
    session.flush()
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert done.returncode == -9
    with database.writing() as session:
        assert log.append(session, "x", "sha256:" + "0" * 64) == 0
