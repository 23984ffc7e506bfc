"""Model versions and the bytes of models."""

from datetime import datetime

from sqlalchemy import LargeBinary, UniqueConstraint
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class ArtifactRow(Row, table=True):
    """The bytes of a model under their digest."""

    __tablename__ = "artifacts"

    digest: str = Field(max_length=71, primary_key=True)
    content: bytes = Field(sa_type=LargeBinary)


class ModelRow(Row, table=True):
    """A version of a named model; one per run."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=80)
    version: int
    run_id: str = Field(max_length=80, unique=True, foreign_key="permits.run_id")
    document: str = Field(max_length=71, unique=True, foreign_key="documents.digest")
    artifact: str = Field(max_length=71, foreign_key="artifacts.digest")
    registered_at: datetime = Field(sa_type=UtcTime)
