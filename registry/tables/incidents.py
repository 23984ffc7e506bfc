"""Incidents, phase by phase."""

from sqlmodel import Field

from registry.tables.row import Row


class IncidentPhaseRow(Row, table=True):
    """The document of one phase of an incident; the newest one counts."""

    __tablename__ = "incident_phases"

    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    phase: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    document: str = Field(max_length=71, unique=True, foreign_key="documents.digest")
