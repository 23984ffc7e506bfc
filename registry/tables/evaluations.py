"""Evaluations and the models that they are about."""

from datetime import datetime

from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class EvaluationRow(Row, table=True):
    """An evaluation; one per run. `id` keeps the order in which they were derived."""

    __tablename__ = "evaluations"

    id: int | None = Field(default=None, primary_key=True)
    run_id: str = Field(max_length=80, unique=True, foreign_key="permits.run_id")
    document: str = Field(max_length=71, unique=True, foreign_key="documents.digest")
    evaluated_at: datetime = Field(sa_type=UtcTime)


class EvaluatedModelRow(Row, table=True):
    """A model of an evaluation, by its place in the plan."""

    __tablename__ = "evaluated_models"

    run_id: str = Field(max_length=80, primary_key=True, foreign_key="evaluations.run_id")
    place: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    artifact: str = Field(max_length=71, index=True, foreign_key="artifacts.digest")
