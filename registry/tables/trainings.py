"""What receipts say of the opt-outs that were applied, and what was decided about models."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class TrainingRow(Row, table=True):
    """A receipt, told short. `last_sequence` is the newest opt-out of the bulletin that it names; 0
    when no such bulletin was kept.
    """

    __tablename__ = "trainings"
    __table_args__ = (Index("ix_trainings_unit_answered_at", "unit", "answered_at"),)

    receipt: str = Field(max_length=71, primary_key=True, foreign_key="documents.digest")
    unit: str = Field(max_length=80, foreign_key="units.unit")
    run_id: str = Field(max_length=80, foreign_key="permits.run_id")
    round: int
    answered_at: datetime = Field(sa_type=UtcTime)
    purpose: str = Field(max_length=80)
    contract: str = Field(max_length=71)
    last_sequence: int = Field(sa_type=BigInteger)


class ModelDecisionRow(Row, table=True):
    """A decision on a model version; the newest one of a unit counts."""

    __tablename__ = "model_decisions"
    __table_args__ = (ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),)

    name: str = Field(max_length=80, primary_key=True)
    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    document: str = Field(max_length=71, unique=True, foreign_key="documents.digest")
    unit: str = Field(max_length=80, index=True, foreign_key="units.unit")
    up_to: int = Field(sa_type=BigInteger)
    outcome: str = Field(max_length=16)
    due_at: datetime | None = Field(default=None, sa_type=UtcTime)
