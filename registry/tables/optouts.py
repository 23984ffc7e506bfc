"""Opt-outs, bulletins and the ledger heads that governance has seen."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Text, UniqueConstraint
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class OptOutRow(Row, table=True):
    """One opt-out event; gapless per unit from 1."""

    __tablename__ = "opt_out_events"

    unit: str = Field(max_length=80, primary_key=True, foreign_key="units.unit")
    sequence: int = Field(
        sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False}
    )
    digest: str = Field(max_length=71, unique=True)
    pseudonym: str = Field(max_length=64)
    purpose: str = Field(max_length=80)
    envelope: str = Field(sa_type=Text)
    recorded_at: datetime = Field(sa_type=UtcTime)


class OptOutBatchRow(Row, table=True):
    """Many opt-out events under one signature: the events are in the envelope, and nowhere else."""

    __tablename__ = "opt_out_batches"

    unit: str = Field(max_length=80, primary_key=True, foreign_key="units.unit")
    sequence: int = Field(
        sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False}
    )
    last_sequence: int = Field(sa_type=BigInteger)
    digest: str = Field(max_length=71, unique=True)
    envelope: str = Field(sa_type=Text)
    recorded_at: datetime = Field(sa_type=UtcTime)


class OptOutBucketRow(Row, table=True):
    """The digest of one bucket of a unit's states; there is none for one that has changed since."""

    __tablename__ = "opt_out_buckets"

    unit: str = Field(max_length=80, primary_key=True, foreign_key="units.unit")
    bucket: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    digest: str = Field(max_length=64)


class OptOutStateRow(Row, table=True):
    """The one current state of a customer's objection to a purpose on a ground.

    That there is such a unit was asked for the event, in the same transaction; to ask it for each
    state as well would take as long as to write it.
    """

    __tablename__ = "opt_out_states"

    unit: str = Field(max_length=80, primary_key=True)
    pseudonym: str = Field(max_length=64, primary_key=True)
    purpose: str = Field(max_length=80, primary_key=True)
    ground: str = Field(max_length=16, primary_key=True)
    state: str = Field(max_length=16)
    sequence: int = Field(sa_type=BigInteger)


class BulletinRow(Row, table=True):
    """A bulletin that was issued. A nonce counts once per unit."""

    __tablename__ = "bulletins"
    __table_args__ = (
        UniqueConstraint("unit", "nonce"),
        Index("ix_bulletins_unit_last_sequence", "unit", "last_sequence"),
    )

    id: int | None = Field(default=None, primary_key=True)
    unit: str = Field(max_length=80, foreign_key="units.unit")
    nonce: str = Field(max_length=64)
    digest: str = Field(max_length=71, index=True)
    epoch: int = Field(sa_type=BigInteger)
    last_sequence: int = Field(sa_type=BigInteger)
    issued_at: datetime = Field(sa_type=UtcTime)


class LedgerHeadRow(Row, table=True):
    """A head of a unit's ledger that governance has witnessed."""

    __tablename__ = "ledger_heads"

    unit: str = Field(max_length=80, primary_key=True, foreign_key="units.unit")
    sequence: int = Field(
        sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False}
    )
    hash: str = Field(max_length=64)
    witnessed_at: datetime = Field(sa_type=UtcTime)
