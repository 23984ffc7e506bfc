"""Incidents and the documents of their phases."""

from collections.abc import Sequence

from sqlalchemy import func
from sqlmodel import Session, col, select

from fedcore.incidents import Incident
from registry.tables.incidents import IncidentPhaseRow


def append(session: Session, incident: Incident) -> None:
    """Store a phase, whose document must be stored before."""
    session.flush()
    session.add(
        IncidentPhaseRow(number=incident.number, phase=incident.phase, document=incident.digest)
    )
    session.flush()


def next_number(session: Session) -> int:
    """Return the number that the next incident gets."""
    return (session.exec(select(func.max(IncidentPhaseRow.number))).one() or 0) + 1


def list_phases(session: Session, number: int) -> tuple[str, ...]:
    """Return the documents of an incident, oldest first; none for one that there is not."""
    query = (
        select(IncidentPhaseRow.document)
        .where(IncidentPhaseRow.number == number)
        .order_by(col(IncidentPhaseRow.phase))
    )
    return tuple(session.exec(query))


def list_after(session: Session, number: int, limit: int | None) -> Sequence[tuple[int, str]]:
    """Return at most `limit` incidents after one, oldest first, each with its newest document."""
    newest = (
        select(IncidentPhaseRow.number, func.max(IncidentPhaseRow.phase).label("phase"))
        .where(col(IncidentPhaseRow.number) > number)
        .group_by(col(IncidentPhaseRow.number))
        .order_by(col(IncidentPhaseRow.number))
        .limit(limit)
        .subquery()
    )
    query = (
        select(IncidentPhaseRow.number, IncidentPhaseRow.document)
        .join(
            newest,
            (newest.c.number == IncidentPhaseRow.number)
            & (newest.c.phase == IncidentPhaseRow.phase),
        )
        .order_by(col(IncidentPhaseRow.number))
    )
    return list(session.exec(query))
