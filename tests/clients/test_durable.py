import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from clients.durable import (
    closed_on_error,
    connect,
    damage_named,
    exclusive,
    has_table,
    snapshot,
    storage_named,
    transaction,
)
from fedcore.errors import ConflictError, TrustError


@pytest.fixture
def database(tmp_path):
    with closing(connect(tmp_path / "file.db")) as connection:
        connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        yield connection


def numbers(connection):
    return [row[0] for row in connection.execute("SELECT number FROM numbers")]


def test_a_committed_transaction_is_on_disk(database):
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_table_is_known_once_it_is_there(database):
    assert has_table(database, "numbers")
    assert not has_table(database, "letters")
    database.execute("CREATE TABLE letters (letter TEXT)")
    assert has_table(database, "letters")


def test_all_writes_of_a_transaction_are_done_or_none(database):
    def two_writes(error):
        with transaction(database):
            database.execute("INSERT INTO numbers VALUES (1)")
            database.execute("INSERT INTO numbers VALUES (2)")
            if error:
                raise error

    for error in (ConflictError("x.y", "x"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            two_writes(error)
        assert numbers(database) == []
    two_writes(None)
    assert numbers(database) == [1, 2]


def test_a_transaction_holds_the_write_lock_from_its_start(database, tmp_path):
    with closing(sqlite3.connect(tmp_path / "file.db", timeout=0, isolation_level=None)) as other:
        refused = pytest.raises(sqlite3.OperationalError, match="locked")
        with transaction(database), refused:
            other.execute("INSERT INTO numbers VALUES (1)")
        other.execute("INSERT INTO numbers VALUES (1)")


def test_a_snapshot_sees_nothing_of_what_is_written_meanwhile(database, tmp_path):
    with closing(connect(tmp_path / "file.db")) as other:
        with snapshot(database):
            assert numbers(database) == []
            other.execute("INSERT INTO numbers VALUES (1)")
            assert numbers(database) == []
        assert numbers(database) == [1]


DAMAGE = "ledger.corrupt", "the ledger file"


@pytest.mark.parametrize(
    "error", [sqlite3.DatabaseError("x"), KeyError("x"), TypeError("x"), ValueError("x")]
)
def test_damage_has_one_name_and_the_operators_way_out(error):
    refused = pytest.raises(TrustError, match="restore it from its backup")
    with refused as found, damage_named(*DAMAGE):
        raise error
    assert found.value.code == "ledger.corrupt"
    assert found.value.__cause__ is error


def failing(path, failure):
    """Open a sound database and have SQLite itself fail."""
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS numbers (number INTEGER PRIMARY KEY, t)")
        failure(connection, path)


def held(connection, path):
    connection.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with transaction(connection):
            pass


def full(connection, _path):
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with transaction(connection):
        connection.execute("INSERT INTO numbers VALUES (1, ?)", (bytes(100_000),))


def readonly(connection, _path):
    connection.execute("PRAGMA query_only = ON")
    connection.execute("INSERT INTO numbers VALUES (1, 0)")


def no_folder(_connection, path):
    connect(path.parent / "nowhere" / "file.db")


def another_schema(connection, _path):
    connection.execute("SELECT * FROM letters")


def no_database(_connection, path):
    other = path.with_name("other.db")
    other.write_bytes(b"no database" * 100)
    connect(other)


def garbled_text(connection, _path):
    connection.execute("SELECT CAST(x'ff' AS TEXT)").fetchone()


def a_directory(_connection, path):
    path.with_name("folder").mkdir()
    connect(path.with_name("folder"))


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        (held, ConflictError, "state.busy"),
        (full, ConflictError, "state.unwritable"),
        (readonly, ConflictError, "state.unwritable"),
        (no_folder, ConflictError, "state.unwritable"),
        (another_schema, TrustError, "ledger.corrupt"),
        (no_database, TrustError, "ledger.corrupt"),
        (garbled_text, TrustError, "ledger.corrupt"),
        (a_directory, TrustError, "ledger.corrupt"),
    ],
)
def test_only_damage_is_called_damage(tmp_path, failure, kind, code):
    with pytest.raises(kind) as error, damage_named(*DAMAGE):
        failing(tmp_path / "file.db", failure)
    assert error.value.code == code
    assert ("restore it from its backup" in error.value.public) == (kind is TrustError)


def twice(connection, _path):
    for _ in range(2):
        connection.execute("INSERT INTO numbers VALUES (1, 0)")


def closed(connection, _path):
    connection.close()
    connection.execute("SELECT 1")


@pytest.mark.parametrize(
    ("defect", "kind"), [(twice, sqlite3.IntegrityError), (closed, sqlite3.ProgrammingError)]
)
def test_a_defect_is_not_called_damage(tmp_path, defect, kind):
    with pytest.raises(kind), damage_named(*DAMAGE):
        failing(tmp_path / "file.db", defect)


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), ValueError("x")])
def test_an_error_out_of_a_computation_is_not_called_damage(error):
    with pytest.raises(type(error)) as found, storage_named(*DAMAGE):
        raise error
    assert found.value is error


def test_an_error_with_a_name_of_its_own_keeps_it():
    with pytest.raises(ConflictError), damage_named("ledger.corrupt", "the ledger file"):
        raise ConflictError("order.old", "x")


def test_a_connection_is_closed_when_what_is_done_with_it_fails(database):
    with closed_on_error(database):
        pass
    assert numbers(database) == []
    with pytest.raises(KeyError), closed_on_error(database):
        raise KeyError
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        numbers(database)


def test_one_at_a_time_is_inside(tmp_path):
    inside, most = [], []

    def act():
        for _ in range(20):
            with exclusive(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=act) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1] * 80


HOLDER = """
import sys
from pathlib import Path
from clients.durable import exclusive

with exclusive(Path(sys.argv[1])):
    print("inside", flush=True)
    sys.stdin.read()
"""


def test_another_process_waits_and_a_killed_holder_keeps_nobody_out(tmp_path):
    path, entered = tmp_path / "lock", threading.Event()

    def act():
        with exclusive(path):
            entered.set()

    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"inside\n"  # type: ignore[union-attr]
        waiting = threading.Thread(target=act)
        waiting.start()
        assert not entered.wait(0.3)
        holder.kill()
    waiting.join(20)
    assert entered.is_set()


def test_a_failure_inside_ends_the_lock(tmp_path):
    with pytest.raises(KeyError), exclusive(tmp_path / "lock"):
        raise KeyError
    with exclusive(tmp_path / "lock"):
        pass


def test_a_lock_that_cannot_be_made_is_no_damage(tmp_path):
    with pytest.raises(ConflictError) as error, exclusive(tmp_path / "nowhere" / "lock"):
        pass
    assert error.value.code == "state.unwritable"
