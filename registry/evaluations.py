"""Evaluations of models, by run."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from fedcore.evaluation_outcomes import Evaluation
from registry.tables.evaluations import EvaluatedModelRow, EvaluationRow
from registry.tables.permits import PermitUnitRow


@dataclass(frozen=True)
class StoredEvaluation:
    """An evaluation, the digests of its document and of the bytes of its models."""

    run_id: str
    document: str
    artifacts: tuple[str, ...]
    evaluated_at: datetime


def append(session: Session, evaluation: Evaluation) -> None:
    """Store an evaluation, whose document must be stored before."""
    session.flush()
    session.add(
        EvaluationRow(
            run_id=evaluation.run_id,
            document=evaluation.digest,
            evaluated_at=evaluation.evaluated_at,
        )
    )
    session.flush()
    for place, model in enumerate(evaluation.models):
        session.add(
            EvaluatedModelRow(run_id=evaluation.run_id, place=place, artifact=model.artifact)
        )
    session.flush()


def find_document(session: Session, run_id: str) -> str | None:
    """Return the digest of a run's evaluation, or None."""
    return session.exec(
        select(EvaluationRow.document).where(EvaluationRow.run_id == run_id)
    ).first()


def list_of_artifact(session: Session, artifact: str) -> tuple[str, ...]:
    """Return the documents of all evaluations of a model with these bytes, newest first."""
    query = (
        select(EvaluationRow.document)
        .join(EvaluatedModelRow, col(EvaluatedModelRow.run_id) == col(EvaluationRow.run_id))
        .where(EvaluatedModelRow.artifact == artifact)
        .order_by(col(EvaluationRow.id).desc())
    )
    return tuple(session.exec(query))


def list_after(
    session: Session, after: int, limit: int, of_unit: str | None = None
) -> tuple[tuple[int, StoredEvaluation], ...]:
    """Return at most `limit` evaluations in the order in which they were derived, each with its
    place; `after` is the place that the first one follows, `of_unit` a unit of the run's permit.
    """
    query = select(EvaluationRow).where(col(EvaluationRow.id) > after)
    if of_unit is not None:
        runs = select(PermitUnitRow.run_id).where(PermitUnitRow.unit == of_unit)
        query = query.where(col(EvaluationRow.run_id).in_(runs))
    rows = session.exec(query.order_by(col(EvaluationRow.id)).limit(limit)).all()
    artifacts = _artifacts(session, [row.run_id for row in rows])
    return tuple(
        (
            row.id or 0,
            StoredEvaluation(
                row.run_id, row.document, tuple(artifacts[row.run_id]), row.evaluated_at
            ),
        )
        for row in rows
    )


def _artifacts(session: Session, run_ids: list[str]) -> dict[str, list[str]]:
    query = (
        select(EvaluatedModelRow)
        .where(col(EvaluatedModelRow.run_id).in_(run_ids))
        .order_by(col(EvaluatedModelRow.run_id), col(EvaluatedModelRow.place))
    )
    found: dict[str, list[str]] = defaultdict(list)
    for row in session.exec(query):
        found[row.run_id].append(row.artifact)
    return found
