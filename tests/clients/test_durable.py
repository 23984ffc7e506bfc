import sqlite3
from contextlib import closing

import pytest

from clients.durable import closed_on_error, connect, damage_named, transaction
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


@pytest.mark.parametrize(
    "error", [sqlite3.DatabaseError("x"), KeyError("x"), TypeError("x"), ValueError("x")]
)
def test_damage_has_one_name_and_the_operators_way_out(error):
    refused = pytest.raises(TrustError, match="restore it from its backup")
    with refused as found, damage_named("ledger.corrupt", "the ledger file"):
        raise error
    assert found.value.code == "ledger.corrupt"
    assert found.value.__cause__ is error


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
