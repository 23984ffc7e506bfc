"""Model versions and their artifacts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from fedcore.models import ModelVersion
from fedcore.rounds import Receipt
from registry.documents import kind_of
from registry.tables.documents import DocumentRow
from registry.tables.models import ArtifactRow, ModelRow
from registry.tables.permits import PermitUnitRow


@dataclass(frozen=True)
class StoredModel:
    """A model version and the digests of its document and artifact."""

    name: str
    version: int
    run_id: str
    document: str
    artifact: str


def append(session: Session, model: ModelVersion, artifact: bytes) -> None:
    """Store a version with its bytes; its document must be stored before."""
    session.flush()
    if session.get(ArtifactRow, model.artifact) is None:
        session.add(ArtifactRow(digest=model.artifact, content=artifact))
        session.flush()
    session.add(
        ModelRow(
            name=model.name,
            version=model.version,
            run_id=model.run_id,
            document=model.digest,
            artifact=model.artifact,
            registered_at=model.registered_at,
        )
    )
    session.flush()


def next_version(session: Session, name: str) -> int:
    """Return the number that the next version of a model gets."""
    query = select(func.max(ModelRow.version)).where(ModelRow.name == name)
    return (session.exec(query).one() or 0) + 1


def find(session: Session, name: str, version: int) -> StoredModel | None:
    """Return a version of a model, or None."""
    query = select(ModelRow).where(ModelRow.name == name, ModelRow.version == version)
    return _stored(session.exec(query).first())


def find_each(session: Session, name: str, versions: Collection[int]) -> tuple[StoredModel, ...]:
    """Return those of these versions of a model that there are, in order of registration."""
    query = select(ModelRow).where(ModelRow.name == name, col(ModelRow.version).in_(versions))
    rows = session.exec(query.order_by(col(ModelRow.id)))
    return tuple(model for row in rows if (model := _stored(row)) is not None)


def find_of_run(session: Session, run_id: str) -> StoredModel | None:
    """Return the version that came from a run, or None."""
    return _stored(session.exec(select(ModelRow).where(ModelRow.run_id == run_id)).first())


def list_of_artifacts(session: Session, artifacts: Sequence[str]) -> tuple[StoredModel, ...]:
    """Return the versions that have one of these bytes, in order of registration."""
    query = select(ModelRow).where(col(ModelRow.artifact).in_(artifacts)).order_by(col(ModelRow.id))
    return tuple(model for row in session.exec(query) if (model := _stored(row)) is not None)


def list_after(
    session: Session, after: int, limit: int, of_unit: str | None = None
) -> tuple[tuple[int, StoredModel], ...]:
    """Return at most `limit` versions in the order in which they were registered, each with its
    place; `after` is the place that the first one follows, `of_unit` a unit of the run's permit.
    """
    query = select(ModelRow).where(col(ModelRow.id) > after)
    if of_unit is not None:
        runs = select(PermitUnitRow.run_id).where(PermitUnitRow.unit == of_unit)
        query = query.where(col(ModelRow.run_id).in_(runs))
    rows = session.exec(query.order_by(col(ModelRow.id)).limit(limit))
    return tuple((row.id or 0, model) for row in rows if (model := _stored(row)) is not None)


def list_before(session: Session, before: int, limit: int) -> tuple[tuple[int, StoredModel], ...]:
    """Return at most `limit` versions whose place is below `before`, the newest first, each with
    its place in the order in which they were registered.
    """
    query = select(ModelRow).where(col(ModelRow.id) < before)
    rows = session.exec(query.order_by(col(ModelRow.id).desc()).limit(limit))
    return tuple((row.id or 0, model) for row in rows if (model := _stored(row)) is not None)


def list_trained_by(session: Session, unit: str) -> tuple[StoredModel, ...]:
    """Return the versions of all runs in which a unit gave a receipt, in order of registration."""
    runs = select(DocumentRow.run_id).where(
        DocumentRow.unit == unit, DocumentRow.kind == kind_of(Receipt)
    )
    query = select(ModelRow).where(col(ModelRow.run_id).in_(runs)).order_by(col(ModelRow.id))
    return tuple(model for row in session.exec(query) if (model := _stored(row)) is not None)


def load_artifact(session: Session, digest: str) -> bytes:
    """Return the bytes of an artifact. Raises: NoResultFound for an unknown digest."""
    return session.exec(select(ArtifactRow.content).where(ArtifactRow.digest == digest)).one()


def _stored(row: ModelRow | None) -> StoredModel | None:
    if row is None:
        return None
    return StoredModel(row.name, row.version, row.run_id, row.document, row.artifact)
