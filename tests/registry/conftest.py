"""Databases with the real schema: SQLite always, PostgreSQL from the wheel."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.database import Database, migrate


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an empty SQLite database."""
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """A migrated SQLite database."""
    migrate(sqlite_url)
    opened = Database(sqlite_url)
    yield opened
    opened.close()
