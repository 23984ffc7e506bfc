"""Enrolled units, permits, and what the gate decided."""

from datetime import datetime

from sqlalchemy import Text
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class UnitRow(Row, table=True):
    """An enrolled unit, its newest key and its newest certificate."""

    __tablename__ = "units"

    unit: str = Field(max_length=80, primary_key=True)
    node_key: str = Field(max_length=64, unique=True)
    enrolment: str = Field(max_length=71, foreign_key="documents.digest")
    certificate: str = Field(max_length=71, foreign_key="documents.digest")


class UnitKeyRow(Row, table=True):
    """A key that a unit has or had. `ended_by` is the rotation or revocation that ended it."""

    __tablename__ = "unit_keys"

    node_key: str = Field(max_length=64, primary_key=True)
    unit: str = Field(max_length=80, index=True, foreign_key="units.unit")
    transport_key: str | None = Field(default=None, max_length=300, unique=True)
    certificate: str = Field(max_length=71, foreign_key="documents.digest")
    started_at: datetime = Field(sa_type=UtcTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcTime)
    ended_by: str | None = Field(default=None, max_length=71, foreign_key="documents.digest")


class PermitRow(Row, table=True):
    """The permit of a run, and whether it was revoked."""

    __tablename__ = "permits"

    run_id: str = Field(max_length=80, primary_key=True)
    permit: str = Field(max_length=71, unique=True, foreign_key="documents.digest")
    dpia: str = Field(max_length=71, index=True, foreign_key="dpias.digest")
    revocation: str | None = Field(default=None, max_length=71, foreign_key="documents.digest")


class PermitUnitRow(Row, table=True):
    """A unit of a permit's cohort."""

    __tablename__ = "permit_units"

    unit: str = Field(max_length=80, primary_key=True)
    run_id: str = Field(max_length=80, primary_key=True, foreign_key="permits.run_id")


class GateDecisionRow(Row, table=True):
    """What the gate answered, yes or no, from which facts."""

    __tablename__ = "gate_decisions"

    id: int | None = Field(default=None, primary_key=True)
    run_id: str = Field(max_length=80, index=True)
    plan: str = Field(max_length=71)
    facts: str = Field(max_length=71)
    codes: str = Field(sa_type=Text)
    decided_at: datetime = Field(sa_type=UtcTime)
    document: str | None = Field(default=None, sa_type=Text)
    rules: str | None = Field(default=None, max_length=40)
