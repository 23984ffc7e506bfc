"""Fairness audits by run and by model version, and the waivers beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from fedcore.fairness_audits import FairnessAudit, Waiver
from registry.tables.audits import FairnessAuditRow, WaiverRow
from registry.tables.permits import PermitUnitRow


@dataclass(frozen=True)
class StoredAudit:
    """An audit: which one of which version it is, and the digest of its document."""

    run_id: str
    name: str
    version: int
    number: int
    document: str
    audited_at: datetime


def append(session: Session, audit: FairnessAudit) -> None:
    """Store an audit, whose document and evaluation must be stored before.

    Guarantees: of two audits with one number of a version only one is stored.
    Raises: IntegrityError for the other one.
    """
    session.flush()
    session.add(
        FairnessAuditRow(
            run_id=audit.run_id,
            name=audit.name,
            version=audit.version,
            number=audit.number,
            document=audit.digest,
            audited_at=audit.audited_at,
        )
    )
    session.flush()


def find_document(session: Session, run_id: str) -> str | None:
    """Return the digest of a run's audit, or None."""
    return session.exec(
        select(FairnessAuditRow.document).where(FairnessAuditRow.run_id == run_id)
    ).first()


def list_of_version(session: Session, name: str, version: int) -> tuple[str, ...]:
    """Return the documents of a version's audits, the one that decides first."""
    query = (
        select(FairnessAuditRow.document)
        .where(FairnessAuditRow.name == name, FairnessAuditRow.version == version)
        .order_by(col(FairnessAuditRow.number))
    )
    return tuple(session.exec(query))


def list_after(
    session: Session, after: int, limit: int, of_unit: str | None = None
) -> Sequence[tuple[int, StoredAudit]]:
    """Return at most `limit` audits in the order in which they were derived, each with its place;
    `after` is the place that the first one follows, `of_unit` a unit of the run's permit.
    """
    query = select(FairnessAuditRow).where(col(FairnessAuditRow.id) > after)
    if of_unit is not None:
        runs = select(PermitUnitRow.run_id).where(PermitUnitRow.unit == of_unit)
        query = query.where(col(FairnessAuditRow.run_id).in_(runs))
    return [
        (
            row.id or 0,
            StoredAudit(
                row.run_id, row.name, row.version, row.number, row.document, row.audited_at
            ),
        )
        for row in session.exec(query.order_by(col(FairnessAuditRow.id)).limit(limit))
    ]


def append_waiver(session: Session, waiver: Waiver) -> None:
    """Store a waiver, whose document must be stored before."""
    session.flush()
    session.add(
        WaiverRow(
            name=waiver.name,
            version=waiver.version,
            number=waiver.number,
            document=waiver.digest,
        )
    )
    session.flush()


def list_waivers(session: Session, name: str, version: int) -> tuple[str, ...]:
    """Return the documents of a version's waivers, oldest first."""
    query = (
        select(WaiverRow.document)
        .where(WaiverRow.name == name, WaiverRow.version == version)
        .order_by(col(WaiverRow.number))
    )
    return tuple(session.exec(query))
