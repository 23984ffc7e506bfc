"""Alembic's environment: migrations run on the connection that `registry.database` opens."""

from typing import Any, Literal

from alembic import context
from sqlmodel.sql.sqltypes import AutoString

from registry.schema import metadata
from registry.tables.row import UtcTime


def render_plain_type(kind: str, item: Any, _autogen: object) -> str | Literal[False]:
    """Write our types as the plain ones that they are: old migrations outlive our classes."""
    if kind == "type" and isinstance(item, UtcTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, AutoString):
        return f"sa.String(length={item.length})"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata(),
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=render_plain_type,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
