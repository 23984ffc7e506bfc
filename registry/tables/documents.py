"""Signed documents of every kind, the log over them, and the log positions that nodes cosigned."""

from datetime import datetime

from sqlalchemy import Text, UniqueConstraint
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class DocumentRow(Row, table=True):
    """One envelope. `id` keeps the order of arrival."""

    __tablename__ = "documents"

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(max_length=71, unique=True)
    kind: str = Field(max_length=80, index=True)
    unit: str | None = Field(default=None, max_length=80)
    run_id: str | None = Field(default=None, max_length=80, index=True)
    envelope: str = Field(sa_type=Text)
    recorded_at: datetime = Field(sa_type=UtcTime)


class LogEntryRow(Row, table=True):
    """One leaf of the log. `position` counts from 0 without gaps."""

    __tablename__ = "log_entries"

    position: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    document: str = Field(max_length=71, unique=True)
    entry: str = Field(sa_type=Text)
    leaf_hash: str = Field(max_length=64)


class LogNodeRow(Row, table=True):
    """The hash of a perfect subtree: 2**level leaves, at least two, from place * 2**level on."""

    __tablename__ = "log_nodes"

    level: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    place: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    hash: str = Field(max_length=64)


class CosignatureRow(Row, table=True):
    """A unit has seen the log at this size."""

    __tablename__ = "cosignatures"
    __table_args__ = (UniqueConstraint("unit", "size"),)

    id: int | None = Field(default=None, primary_key=True)
    unit: str = Field(max_length=80)
    size: int
    envelope: str = Field(sa_type=Text)
    recorded_at: datetime = Field(sa_type=UtcTime)
