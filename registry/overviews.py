"""What people look over: the newest runs, refusals and opt-outs, without the documents as such."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlmodel import Session, col, select

from fedcore.rounds import Receipt
from fedcore.signing import Envelope
from registry.documents import kind_of
from registry.tables.documents import DocumentRow
from registry.tables.optouts import BulletinRow, OptOutBatchRow, OptOutRow
from registry.tables.permits import GateDecisionRow, PermitRow, PermitUnitRow


@dataclass(frozen=True)
class RunSummary:
    """A run with its permit; `place` orders runs by the time of their permits."""

    place: int
    run_id: str
    permit: str
    dpia: str
    revocation: str | None
    permitted_at: datetime


@dataclass(frozen=True)
class Refusal:
    """A run that the gate refused, and why; `place` orders the gate's answers."""

    place: int
    run_id: str
    plan: str
    codes: str
    decided_at: datetime


@dataclass(frozen=True)
class OptOutCount:
    """How many opt-outs of a unit are here, and when the newest one came."""

    last_sequence: int
    recorded_at: datetime


@dataclass(frozen=True)
class BulletinSummary:
    """A bulletin that was issued to a unit."""

    digest: str
    epoch: int
    last_sequence: int
    issued_at: datetime


def list_runs(session: Session, before: int, limit: int) -> tuple[RunSummary, ...]:
    """Return at most `limit` runs with a permit whose place is below `before`, newest first."""
    query = (
        select(DocumentRow.id, PermitRow, DocumentRow.recorded_at)
        .join(PermitRow, col(PermitRow.permit) == col(DocumentRow.digest))
        .where(col(DocumentRow.id) < before)
        .order_by(col(DocumentRow.id).desc())
        .limit(limit)
    )
    return tuple(
        RunSummary(place or 0, row.run_id, row.permit, row.dpia, row.revocation, at)
        for place, row, at in session.exec(query)
    )


def list_cohorts(session: Session, run_ids: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the units of each run's permit, by name."""
    query = (
        select(PermitUnitRow)
        .where(col(PermitUnitRow.run_id).in_(run_ids))
        .order_by(col(PermitUnitRow.unit))
    )
    cohorts: dict[str, list[str]] = {}
    for row in session.exec(query):
        cohorts.setdefault(row.run_id, []).append(row.unit)
    return cohorts


def list_refusals(session: Session, before: int, limit: int) -> tuple[Refusal, ...]:
    """Return at most `limit` refusals of the gate whose place is below `before`, newest first."""
    query = (
        select(GateDecisionRow)
        .where(col(GateDecisionRow.id) < before, GateDecisionRow.codes != "[]")
        .order_by(col(GateDecisionRow.id).desc())
        .limit(limit)
    )
    return tuple(
        Refusal(row.id or 0, row.run_id, row.plan, row.codes, row.decided_at)
        for row in session.exec(query)
    )


def count_opt_outs(session: Session, unit: str | None = None) -> dict[str, OptOutCount]:
    """Return the newest opt-out of each unit, or of one, that has any."""
    found: dict[str, OptOutCount] = {}
    for row, last in (
        (OptOutRow, OptOutRow.sequence),
        (OptOutBatchRow, OptOutBatchRow.last_sequence),
    ):
        query = select(row.unit, func.max(last), func.max(row.recorded_at)).group_by(row.unit)
        if unit is not None:
            query = query.where(row.unit == unit)
        for name, sequence, at in session.exec(query):
            known = found.get(name, OptOutCount(0, at))
            found[name] = OptOutCount(
                max(known.last_sequence, sequence), max(known.recorded_at, at)
            )
    return found


def newest_bulletins(session: Session, unit: str | None = None) -> dict[str, BulletinSummary]:
    """Return the newest bulletin of each unit, or of one, that has asked for one."""
    newest = select(func.max(BulletinRow.id)).group_by(BulletinRow.unit)
    if unit is not None:
        newest = newest.where(BulletinRow.unit == unit)
    rows = session.exec(select(BulletinRow).where(col(BulletinRow.id).in_(newest)))
    return {row.unit: _bulletin(row) for row in rows}


def newest_receipts(session: Session) -> tuple[Envelope, ...]:
    """Return the newest receipt of each unit that has trained."""
    newest = (
        select(func.max(DocumentRow.id))
        .where(DocumentRow.kind == kind_of(Receipt))
        .group_by(DocumentRow.unit)
    )
    rows = session.exec(select(DocumentRow.envelope).where(col(DocumentRow.id).in_(newest)))
    return tuple(Envelope.from_bytes(text.encode()) for text in rows)


def find_bulletins(session: Session, digests: tuple[str, ...]) -> dict[str, BulletinSummary]:
    """Return the bulletins of these digests that were issued here."""
    rows = session.exec(select(BulletinRow).where(col(BulletinRow.digest).in_(digests)))
    return {row.digest: _bulletin(row) for row in rows}


def _bulletin(row: BulletinRow) -> BulletinSummary:
    return BulletinSummary(row.digest, row.epoch, row.last_sequence, row.issued_at)
