"""Permits, their revocations, and what the gate decided."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, insert
from sqlmodel import Session, col, select

from fedcore.permits import Permit
from registry.tables.evaluations import EvaluationRow
from registry.tables.models import ModelRow
from registry.tables.permits import GateDecisionRow, PermitRow, PermitUnitRow

_UNFINISHED = (
    col(PermitRow.run_id).not_in(select(ModelRow.run_id)),
    col(PermitRow.run_id).not_in(select(EvaluationRow.run_id)),
)
_OPEN = (col(PermitRow.revocation).is_(None), *_UNFINISHED)

_FIND = select(PermitRow.run_id, PermitRow.permit, PermitRow.revocation).where(
    PermitRow.run_id == bindparam("run_id")
)


@dataclass(frozen=True)
class StoredPermit:
    """The digests of a run's permit and, when it was revoked, of its revocation."""

    run_id: str
    permit: str
    revocation: str | None


@dataclass(frozen=True)
class GateDecision:
    """What the gate answered: no codes mean yes.

    Attributes:
        facts: the digest of what it looked at.
        document: what it looked at, as canonical JSON; None for decisions of version 0.2.
        rules: the version of the rules that it decided by; None for decisions of version 0.2.
    """

    run_id: str
    plan: str
    facts: str
    codes: tuple[str, ...]
    decided_at: datetime
    document: str | None
    rules: str | None


def append(session: Session, permit: Permit) -> None:
    """Store a permit, whose document must be stored before."""
    session.flush()
    connection = session.connection()
    connection.execute(
        insert(PermitRow),
        {"run_id": permit.run_id, "permit": permit.digest, "dpia": permit.dpia},
    )
    units = [{"unit": grant.unit, "run_id": permit.run_id} for grant in permit.cohort]
    connection.execute(insert(PermitUnitRow), units)


def list_units(session: Session, run_id: str) -> tuple[str, ...]:
    """Return the units of a run's permit."""
    return tuple(session.exec(select(PermitUnitRow.unit).where(PermitUnitRow.run_id == run_id)))


def list_of_unit(session: Session, unit: str) -> tuple[str, ...]:
    """Return the digests of all permits that ever named a unit, by run."""
    query = (
        select(PermitRow.permit)
        .join(PermitUnitRow, col(PermitUnitRow.run_id) == col(PermitRow.run_id))
        .where(PermitUnitRow.unit == unit)
        .order_by(col(PermitRow.run_id))
    )
    return tuple(session.exec(query))


def set_revocation(session: Session, run_id: str, revocation: str) -> None:
    """Store the digest of a permit's revocation, whose document must be stored before."""
    session.flush()
    row = session.exec(select(PermitRow).where(PermitRow.run_id == run_id)).one()
    row.revocation = revocation
    session.add(row)
    session.flush()


def find(session: Session, run_id: str) -> StoredPermit | None:
    """Return the permit of a run, or None."""
    row = session.exec(_FIND, params={"run_id": run_id}).first()
    return None if row is None else StoredPermit(*row)


def list_open_under(session: Session, dpia: str) -> tuple[StoredPermit, ...]:
    """Return the permits under a DPIA version that are not revoked."""
    query = select(PermitRow).where(PermitRow.dpia == dpia, col(PermitRow.revocation).is_(None))
    return tuple(StoredPermit(row.run_id, row.permit, None) for row in session.exec(query))


def list_open(session: Session) -> tuple[StoredPermit, ...]:
    """Return the permits that are not revoked and whose run has neither a registered model nor an
    evaluation, by run.
    """
    query = select(PermitRow).where(*_OPEN).order_by(col(PermitRow.run_id))
    return tuple(StoredPermit(row.run_id, row.permit, None) for row in session.exec(query))


def list_unfinished(session: Session) -> tuple[StoredPermit, ...]:
    """Return the permits whose run has neither a registered model nor an evaluation, also those
    that are revoked, by run.
    """
    query = select(PermitRow).where(*_UNFINISHED).order_by(col(PermitRow.run_id))
    return tuple(
        StoredPermit(row.run_id, row.permit, row.revocation) for row in session.exec(query)
    )


def count_open(session: Session) -> int:
    """Return how many permits `list_open` has."""
    return session.exec(select(func.count()).select_from(PermitRow).where(*_OPEN)).one()


def list_revoked_runs(session: Session, unit: str) -> tuple[str, ...]:
    """Return the revoked runs whose cohort has this unit, by name."""
    query = (
        select(PermitRow.run_id)
        .join(PermitUnitRow, col(PermitUnitRow.run_id) == col(PermitRow.run_id))
        .where(PermitUnitRow.unit == unit, col(PermitRow.revocation).is_not(None))
        .order_by(col(PermitRow.run_id))
    )
    return tuple(session.exec(query))


def append_decision(session: Session, decision: GateDecision) -> None:
    """Store what the gate answered."""
    session.connection().execute(
        insert(GateDecisionRow),
        {
            "run_id": decision.run_id,
            "plan": decision.plan,
            "facts": decision.facts,
            "codes": json.dumps(decision.codes),
            "decided_at": decision.decided_at,
            "document": decision.document,
            "rules": decision.rules,
        },
    )


def list_decisions(
    session: Session, run_id: str, after: int = 0, limit: int | None = None
) -> Sequence[tuple[int, GateDecision]]:
    """Return what the gate answered for a run, oldest first, each with its place.

    Args: `after` is the place that the first one follows.
    """
    query = (
        select(GateDecisionRow)
        .where(GateDecisionRow.run_id == run_id, col(GateDecisionRow.id) > after)
        .order_by(col(GateDecisionRow.id))
        .limit(limit)
    )
    return [(row.id or 0, _decision(row)) for row in session.exec(query)]


def _decision(row: GateDecisionRow) -> GateDecision:
    return GateDecision(
        run_id=row.run_id,
        plan=row.plan,
        facts=row.facts,
        codes=tuple(json.loads(row.codes)),
        decided_at=row.decided_at,
        document=row.document,
        rules=row.rules,
    )


def any_under(session: Session, dpia: str) -> bool:
    """Return whether a permit was ever given under this version of a DPIA."""
    query = select(PermitRow.run_id).where(PermitRow.dpia == dpia)
    return session.exec(query).first() is not None
