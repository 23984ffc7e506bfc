"""Fairness audits of model versions, and the waivers beside them; rows only come."""

from datetime import datetime

from sqlalchemy import ForeignKeyConstraint, UniqueConstraint
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class FairnessAuditRow(Row, table=True):
    """An audit of a run; the first number of a version decides. `id` keeps the order in which they
    were derived.
    """

    __tablename__ = "fairness_audits"
    __table_args__ = (
        UniqueConstraint("name", "version", "number"),
        ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),
    )

    id: int | None = Field(default=None, primary_key=True)
    run_id: str = Field(max_length=80, unique=True, foreign_key="evaluations.run_id")
    name: str = Field(max_length=80)
    version: int
    number: int
    document: str = Field(max_length=71, unique=True, foreign_key="documents.digest")
    audited_at: datetime = Field(sa_type=UtcTime)


class WaiverRow(Row, table=True):
    """A waiver of one person, or of two, on a version's audit."""

    __tablename__ = "waivers"
    __table_args__ = (ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),)

    name: str = Field(max_length=80, primary_key=True)
    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    document: str = Field(max_length=71, unique=True, foreign_key="documents.digest")
