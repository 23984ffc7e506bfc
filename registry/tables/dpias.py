"""DPIA versions and the acts on them."""

from datetime import datetime

from sqlalchemy import BigInteger, Text, UniqueConstraint
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class DpiaRow(Row, table=True):
    """One version of a DPIA with its state; `decision` is the newest signed decision on it."""

    __tablename__ = "dpias"
    __table_args__ = (UniqueConstraint("dpia_id", "version"),)

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(max_length=71, unique=True)
    dpia_id: str = Field(max_length=80)
    version: int = Field(sa_type=BigInteger)
    state: str = Field(max_length=40, index=True)
    author: str = Field(max_length=80)
    decision: str | None = Field(default=None, max_length=71)
    record: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=UtcTime)


class DpiaActRow(Row, table=True):
    """One act of one person, in order; `details` is canonical JSON."""

    __tablename__ = "dpia_acts"

    dpia: str = Field(max_length=71, primary_key=True, foreign_key="dpias.digest")
    position: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    act: str = Field(max_length=40)
    actor: str = Field(max_length=80)
    note: str = Field(sa_type=Text)
    acted_at: datetime = Field(sa_type=UtcTime)
    details: str | None = Field(default=None, sa_type=Text)
