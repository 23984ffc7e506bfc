"""Databases with the real schema: each test on SQLite and on PostgreSQL from the wheel."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.database import Database, migrate


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an empty SQLite database."""
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        url: str = request.getfixturevalue("sqlite_url")
    else:
        url = request.getfixturevalue("new_url")()
    return url


@pytest.fixture
def database(empty_url: str) -> Iterator[Database]:
    """A migrated database of each kind."""
    migrate(empty_url)
    opened = Database(empty_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    """A migrated SQLite database."""
    migrate(sqlite_url)
    opened = Database(sqlite_url)
    yield opened
    opened.close()
