"""The migrations lead to exactly the schema that the code expects, and back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from registry.database import MIGRATIONS, alembic_config
from registry.schema import metadata


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path / 'schema.db'}")
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def tables(connection):
    connection.commit()
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


def revisions():
    script = ScriptDirectory(str(MIGRATIONS))
    return [found.revision for found in reversed(list(script.walk_revisions()))]


def test_the_newest_migration_is_exactly_the_schema_of_the_code(connection):
    command.upgrade(alembic_config(connection), "head")
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    assert compare_metadata(context, metadata()) == []
    assert tables(connection) == set(metadata().tables)


def test_there_is_one_line_of_migrations():
    script = ScriptDirectory(str(MIGRATIONS))
    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1


def test_every_migration_goes_up_and_down_again(connection):
    config = alembic_config(connection)
    for revision in revisions():
        command.upgrade(config, revision)
        command.downgrade(config, "-1")
        command.upgrade(config, revision)
    command.downgrade(config, "base")
    assert tables(connection) == set()


def test_migrations_are_data_and_import_nothing_of_the_tables():
    assert not (MIGRATIONS / "__init__.py").exists()
    sources = [path.read_text() for path in (MIGRATIONS / "versions").glob("*.py")]
    assert sources
    assert not [text for text in sources if "registry" in text or "sqlmodel" in text]


def fill_first_schema(connection):
    """Write a unit, an account and what hangs on them, as version 0.1 did."""
    document = "INSERT INTO documents (digest, kind, envelope, recorded_at) VALUES "
    for statement in (
        document + "('e', 'enrolment', '{}', '2025-06-01 12:00:00')",
        document + "('c', 'unit-certificate', '{}', '2025-06-01 12:00:01')",
        "INSERT INTO units VALUES ('north', 'key', 'e', 'c')",
        "INSERT INTO ledger_heads VALUES ('north', 1, 'h', '2025-06-01 12:00:00')",
        "INSERT INTO accounts (name, role, key_id, key_hash, created_at) "
        "VALUES ('ada', 'admin', 'i', 'h', '2025-06-01 12:00:00')",
    ):
        connection.execute(text(statement))
    connection.commit()


def rows(connection, query):
    return [tuple(row) for row in connection.execute(text(query))]


def test_the_units_of_the_first_schema_keep_their_keys_and_their_ledgers(connection):
    config = alembic_config(connection)
    command.upgrade(config, "0001")
    fill_first_schema(connection)
    command.upgrade(config, "0002")
    keys = "SELECT node_key, unit, certificate, ended_at, transport_key FROM unit_keys"
    assert rows(connection, keys) == [("key", "north", "c", None, None)]
    [(started_at,)] = rows(connection, "SELECT started_at FROM unit_keys")
    assert str(started_at).startswith("2025-06-01 12:00:01")
    assert rows(connection, "SELECT name, revoked_at FROM accounts") == [("ada", None)]
    command.downgrade(config, "0001")
    assert rows(connection, "SELECT unit, sequence FROM ledger_heads") == [("north", 1)]
    assert rows(connection, "SELECT node_key FROM units") == [("key",)]
    assert rows(connection, "SELECT name FROM accounts") == [("ada",)]


def test_the_outbox_comes_empty_and_goes_without_the_units(connection):
    config = alembic_config(connection)
    command.upgrade(config, "0001")
    fill_first_schema(connection)
    command.upgrade(config, "0007")
    connection.execute(
        text("INSERT INTO notices VALUES (1, 'e', 'o', '{}', '2025-06-01 12:00:00')")
    )
    connection.execute(
        text("INSERT INTO notice_deliveries VALUES ('e', 'r', 0, '2025-06-01 12:00:00', NULL)")
    )
    connection.commit()
    command.downgrade(config, "0002")
    assert not {"notices", "notice_deliveries"} & tables(connection)
    assert rows(connection, "SELECT unit FROM units") == [("north",)]
