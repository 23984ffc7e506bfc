"""What pytest-alembic asks of every history of migrations, on both kinds of database.

One head, a way up, models that match the schema, and a way down again.
"""

import pytest
from alembic.config import Config
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import Connection

from registry import database

__all__ = [
    "test_model_definitions_match_ddl",
    "test_single_head_revision",
    "test_up_down_consistency",
    "test_upgrade",
]


@pytest.fixture
def alembic_config(connection: Connection) -> Config:
    """Alembic as the service configures it."""
    return database.alembic_config(connection)


@pytest.fixture
def alembic_engine(connection: Connection) -> Connection:
    """The connection that the migrations run on."""
    return connection
