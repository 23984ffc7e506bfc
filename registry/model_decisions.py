"""Decisions on model versions: kept for good, the newest one of each unit in force."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Subquery, and_, func
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from fedcore.model_decisions import ModelDecision
from registry.tables.models import ModelRow
from registry.tables.trainings import ModelDecisionRow

Version = tuple[str, int]

_OF_ITS_MODEL = and_(
    col(ModelRow.name) == col(ModelDecisionRow.name),
    col(ModelRow.version) == col(ModelDecisionRow.version),
)
_IS_WITHDRAWN = col(ModelDecisionRow.outcome) == "withdrawn"


@dataclass(frozen=True)
class StoredDecision:
    """A decision: its place on its version, its document, and whether a newer one of its unit has
    taken its place.
    """

    name: str
    version: int
    number: int
    document: str
    unit: str
    up_to: int
    outcome: str
    due_at: datetime | None
    in_force: bool


def append(session: Session, decision: ModelDecision) -> None:
    """Store a decision, whose document must be stored before."""
    session.flush()
    session.add(
        ModelDecisionRow(
            name=decision.name,
            version=decision.version,
            number=decision.number,
            document=decision.digest,
            unit=decision.unit,
            up_to=decision.up_to,
            outcome=decision.outcome,
            due_at=decision.due_at,
        )
    )
    session.flush()


def find_newest(session: Session, name: str, version: int) -> StoredDecision | None:
    """Return the newest decision on a version, of whatever unit, or None."""
    query = _of_version(name, version).order_by(col(ModelDecisionRow.number).desc()).limit(1)
    row = session.exec(query).first()
    return None if row is None else _stored(row, in_force=True)


def find_in_force(session: Session, name: str, version: int, unit: str) -> StoredDecision | None:
    """Return the decision in force on a version for a unit, or None."""
    query = _of_version(name, version).where(ModelDecisionRow.unit == unit)
    row = session.exec(query.order_by(col(ModelDecisionRow.number).desc()).limit(1)).first()
    return None if row is None else _stored(row, in_force=True)


def list_after(
    session: Session, name: str, version: int, after: int, limit: int | None
) -> tuple[StoredDecision, ...]:
    """Return at most `limit` decisions on a version after a number, oldest first."""
    newest = _newest()
    query = (
        select(ModelDecisionRow, newest.c.number)
        .join(newest, _of_its_unit(newest))
        .where(_same_version(name, version), col(ModelDecisionRow.number) > after)
        .order_by(col(ModelDecisionRow.number))
        .limit(limit)
    )
    rows = session.exec(query)
    return tuple(_stored(row, in_force=row.number == number) for row, number in rows)


def list_in_force(session: Session, unit: str) -> Mapping[Version, StoredDecision]:
    """Return the decisions in force of a unit, by model version."""
    rows = session.exec(_in_force().where(ModelDecisionRow.unit == unit))
    return {(row.name, row.version): _stored(row, in_force=True) for row in rows}


def list_due(session: Session, now: datetime) -> Sequence[StoredDecision]:
    """Return the decisions in force whose date has come, by model version."""
    query = _in_force().where(col(ModelDecisionRow.due_at) <= now)
    order = (col(ModelDecisionRow.name), col(ModelDecisionRow.version))
    return [_stored(row, in_force=True) for row in session.exec(query.order_by(*order))]


def list_withdrawn(session: Session) -> Mapping[Version, str]:
    """Return the versions that a decision in force of any unit has withdrawn, in order of
    registration, each with the digest of its bytes.
    """
    newest = _newest()
    query = (
        select(ModelRow.name, ModelRow.version, ModelRow.artifact)
        .join(ModelDecisionRow, _OF_ITS_MODEL)
        .join(newest, _of_its_unit(newest))
        .where(col(ModelDecisionRow.number) == newest.c.number, _IS_WITHDRAWN)
        .order_by(col(ModelRow.id))
    )
    return {(name, version): artifact for name, version, artifact in session.exec(query)}


def is_withdrawn(session: Session, name: str, version: int) -> bool:
    """Return whether a decision in force of any unit has withdrawn a version."""
    return session.exec(_withdrawn().where(_same_version(name, version))).first() is not None


def list_outcomes(session: Session, name: str, version: int) -> frozenset[str]:
    """Return the outcomes of the decisions in force on a version, of all units."""
    rows = session.exec(_in_force().where(_same_version(name, version)))
    return frozenset(row.outcome for row in rows)


def is_artifact_withdrawn(session: Session, artifact: str) -> bool:
    """Return whether a version with these bytes is withdrawn."""
    query = _withdrawn().join(ModelRow, _OF_ITS_MODEL)
    return session.exec(query.where(ModelRow.artifact == artifact)).first() is not None


def _of_version(name: str, version: int) -> SelectOfScalar[ModelDecisionRow]:
    return select(ModelDecisionRow).where(_same_version(name, version))


def _same_version(name: str, version: int) -> ColumnElement[bool]:
    return and_(col(ModelDecisionRow.name) == name, col(ModelDecisionRow.version) == version)


def _newest() -> Subquery:
    """Return the number of the newest decision of each unit on each version."""
    keys = (
        col(ModelDecisionRow.name),
        col(ModelDecisionRow.version),
        col(ModelDecisionRow.unit),
    )
    return (
        select(*keys, func.max(ModelDecisionRow.number).label("number")).group_by(*keys).subquery()
    )


def _of_its_unit(newest: Subquery) -> ColumnElement[bool]:
    return and_(
        col(ModelDecisionRow.name) == newest.c.name,
        col(ModelDecisionRow.version) == newest.c.version,
        col(ModelDecisionRow.unit) == newest.c.unit,
    )


def _in_force() -> SelectOfScalar[ModelDecisionRow]:
    newest = _newest()
    query = select(ModelDecisionRow).join(newest, _of_its_unit(newest))
    return query.where(col(ModelDecisionRow.number) == newest.c.number)


def _withdrawn() -> SelectOfScalar[ModelDecisionRow]:
    return _in_force().where(_IS_WITHDRAWN)


def _stored(row: ModelDecisionRow, *, in_force: bool) -> StoredDecision:
    return StoredDecision(
        name=row.name,
        version=row.version,
        number=row.number,
        document=row.document,
        unit=row.unit,
        up_to=row.up_to,
        outcome=row.outcome,
        due_at=row.due_at,
        in_force=in_force,
    )
