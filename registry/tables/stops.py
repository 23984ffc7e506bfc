"""Stops, in the order in which they were pulled."""

from sqlmodel import Field

from registry.tables.row import Row


class StopRow(Row, table=True):
    """A stop; it is in force until `lift` names what lifted it."""

    __tablename__ = "stops"

    sequence: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    stop: str = Field(max_length=71, unique=True, foreign_key="documents.digest")
    lift: str | None = Field(default=None, max_length=71, foreign_key="documents.digest")
