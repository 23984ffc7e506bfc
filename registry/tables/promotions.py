"""Aliases of models: their moves, the approvals, and what the gate answered; rows only come."""

from datetime import datetime

from sqlalchemy import ForeignKeyConstraint, Text, UniqueConstraint
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class AliasMoveRow(Row, table=True):
    """A move of an alias. The newest number of (name, alias) is where it is now: as numbers are
    unique, no two moves can follow the same one, and no two versions can have one alias.
    """

    __tablename__ = "alias_moves"
    __table_args__ = (
        UniqueConstraint("name", "alias", "number"),
        ForeignKeyConstraint(["name", "to_version"], ["models.name", "models.version"]),
    )

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=80)
    alias: str = Field(max_length=16)
    number: int
    step: str = Field(max_length=16)
    to_version: int | None = None
    document: str = Field(max_length=71, unique=True, foreign_key="documents.digest")


class ModelApprovalRow(Row, table=True):
    """A person's approval of a version on some evidence; one for each evidence."""

    __tablename__ = "model_approvals"
    __table_args__ = (
        UniqueConstraint("name", "version", "evidence", "approved_by"),
        ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),
    )

    name: str = Field(max_length=80, primary_key=True)
    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    evidence: str = Field(max_length=71)
    approved_by: str = Field(max_length=80)
    document: str = Field(max_length=71, unique=True, foreign_key="documents.digest")


class PromotionAnswerRow(Row, table=True):
    """What the gate answered to a promotion, yes or no, from which facts."""

    __tablename__ = "promotion_answers"
    __table_args__ = (ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=80, index=True)
    version: int
    alias: str = Field(max_length=16)
    asked_by: str = Field(max_length=80)
    facts: str = Field(max_length=71)
    document: str = Field(sa_type=Text)
    codes: str = Field(sa_type=Text)
    rules: str = Field(max_length=40)
    decided_at: datetime = Field(sa_type=UtcTime)
