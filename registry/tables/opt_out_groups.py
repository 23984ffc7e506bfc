"""Groups of units, and the opt-outs that act at all of a group."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKeyConstraint, Text
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class OptOutGroupRow(Row, table=True):
    """A group and its newest document."""

    __tablename__ = "opt_out_groups"

    group_name: str = Field(max_length=80, primary_key=True)
    document: str = Field(max_length=71, foreign_key="documents.digest")


class OptOutGroupUnitRow(Row, table=True):
    """A unit of a group; a unit is in one group at most, and for good."""

    __tablename__ = "opt_out_group_units"

    unit: str = Field(max_length=80, primary_key=True, foreign_key="units.unit")
    group_name: str = Field(max_length=80, index=True, foreign_key="opt_out_groups.group_name")


class GroupOptOutRow(Row, table=True):
    """One group opt-out; gapless per unit from 1."""

    __tablename__ = "group_opt_outs"

    unit: str = Field(max_length=80, primary_key=True, foreign_key="opt_out_group_units.unit")
    sequence: int = Field(
        sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False}
    )
    digest: str = Field(max_length=71, unique=True)
    envelope: str = Field(sa_type=Text)
    recorded_at: datetime = Field(sa_type=UtcTime)


class GroupDeliveryRow(Row, table=True):
    """The first bulletin of a unit that shows a source's group opt-outs up to a number, and the
    first round that was trained under it or a later one.
    """

    __tablename__ = "group_deliveries"

    unit: str = Field(max_length=80, primary_key=True, foreign_key="opt_out_group_units.unit")
    source: str = Field(max_length=80, primary_key=True, foreign_key="opt_out_group_units.unit")
    last_sequence: int = Field(
        sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False}
    )
    issued_at: datetime = Field(sa_type=UtcTime)
    epoch: int = Field(sa_type=BigInteger)
    run_id: str | None = Field(default=None, max_length=80)
    round: int | None = None
    answered_at: datetime | None = Field(default=None, sa_type=UtcTime)


class GroupSetAsideRow(Row, table=True):
    """What a unit of the group said of a group opt-out that has no seal of the group's key."""

    __tablename__ = "group_set_asides"
    __table_args__ = (
        ForeignKeyConstraint(
            ["unit", "sequence"], ["group_opt_outs.unit", "group_opt_outs.sequence"]
        ),
    )

    unit: str = Field(max_length=80, primary_key=True)
    sequence: int = Field(
        sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False}
    )
    by_unit: str = Field(max_length=80, primary_key=True, foreign_key="opt_out_group_units.unit")
    document: str = Field(max_length=71, unique=True, foreign_key="documents.digest")
