"""The migrations lead to exactly the schema that the code expects, and back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect

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
