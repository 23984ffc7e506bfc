"""Groups of units, and the opt-outs that act at all of a group: gapless per unit."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import func
from sqlmodel import Session, col, select

from fedcore.group_opt_outs import GroupOptOut, GroupSetAside
from fedcore.signing import Envelope
from registry.tables.documents import DocumentRow
from registry.tables.opt_out_groups import (
    GroupOptOutRow,
    GroupSetAsideRow,
    OptOutGroupRow,
    OptOutGroupUnitRow,
)
from registry.tables.permits import UnitKeyRow


def put(session: Session, group: str, document: str, units: Sequence[str]) -> None:
    """Store a group's newest document, which is stored already, and the units that it has."""
    session.flush()
    row = session.get(OptOutGroupRow, group) or OptOutGroupRow(group_name=group, document=document)
    row.document = document
    session.add(row)
    session.flush()
    for unit in units:
        session.merge(OptOutGroupUnitRow(unit=unit, group_name=group))
    session.flush()


def find(session: Session, group: str) -> str | None:
    """Return the digest of a group's newest document, or None."""
    row = session.get(OptOutGroupRow, group)
    return row.document if row else None


def find_of_unit(session: Session, unit: str) -> str | None:
    """Return the digest of the newest document of a unit's group, or None."""
    row = session.get(OptOutGroupUnitRow, unit)
    return find(session, row.group_name) if row else None


def append(session: Session, event: GroupOptOut, envelope: Envelope, at: datetime) -> None:
    """Store a group opt-out; the caller has checked that its sequence is the next one."""
    session.add(
        GroupOptOutRow(
            unit=event.unit,
            sequence=event.sequence,
            digest=event.digest,
            envelope=envelope.to_bytes().decode(),
            recorded_at=at,
        )
    )
    session.flush()


def find_digest(session: Session, unit: str, sequence: int) -> str | None:
    """Return the digest of a unit's group opt-out with this sequence, or None."""
    row = session.get(GroupOptOutRow, (unit, sequence))
    return row.digest if row else None


def last_sequences(session: Session, units: Sequence[str]) -> Mapping[str, int]:
    """Return the highest sequence of each of these units; units that have none are left out."""
    query = (
        select(GroupOptOutRow.unit, func.max(GroupOptOutRow.sequence))
        .where(col(GroupOptOutRow.unit).in_(units))
        .group_by(col(GroupOptOutRow.unit))
    )
    return dict(session.exec(query).all())


def list_events(
    session: Session, unit: str, after: int, limit: int
) -> list[tuple[GroupOptOut, datetime]]:
    """Return at most `limit` of a unit's group opt-outs after a sequence, and when each came."""
    query = (
        select(GroupOptOutRow.envelope, GroupOptOutRow.recorded_at)
        .where(GroupOptOutRow.unit == unit, GroupOptOutRow.sequence > after)
        .order_by(col(GroupOptOutRow.sequence))
        .limit(limit)
    )
    return [
        (GroupOptOut.from_bytes(Envelope.from_bytes(text.encode()).payload_bytes), at)
        for text, at in session.exec(query)
    ]


def list_after(session: Session, unit: str, sequence: int, limit: int) -> list[Envelope]:
    """Return at most `limit` of a unit's own signed group opt-outs after a sequence, in order."""
    query = (
        select(GroupOptOutRow.envelope)
        .where(GroupOptOutRow.unit == unit, GroupOptOutRow.sequence > sequence)
        .order_by(col(GroupOptOutRow.sequence))
        .limit(limit)
    )
    return [Envelope.from_bytes(text.encode()) for text in session.exec(query)]


def set_aside(session: Session, said: GroupSetAside) -> None:
    """Note what a unit said of a group opt-out; its document is stored already."""
    session.flush()
    session.add(
        GroupSetAsideRow(
            unit=said.unit, sequence=said.sequence, by_unit=said.by, document=said.digest
        )
    )
    session.flush()


def has_set_aside(session: Session, by: str, unit: str, sequence: int) -> bool:
    """Return whether a unit has said it of this group opt-out."""
    return session.get(GroupSetAsideRow, (unit, sequence, by)) is not None


def list_set_aside(session: Session, unit: str, after: int, limit: int) -> list[Envelope]:
    """Return what sets aside a unit's group opt-outs after a sequence, in their order."""
    query = (
        select(DocumentRow.envelope)
        .join(GroupSetAsideRow, col(GroupSetAsideRow.document) == col(DocumentRow.digest))
        .where(GroupSetAsideRow.unit == unit, GroupSetAsideRow.sequence > after)
        .order_by(col(GroupSetAsideRow.sequence), col(GroupSetAsideRow.by_unit))
        .limit(limit)
    )
    return [Envelope.from_bytes(text.encode()) for text in session.exec(query)]


def node_keys(session: Session, units: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the keys that the nodes of these units have and had, oldest first."""
    query = (
        select(UnitKeyRow.unit, UnitKeyRow.node_key)
        .where(col(UnitKeyRow.unit).in_(units))
        .order_by(col(UnitKeyRow.started_at), col(UnitKeyRow.node_key))
    )
    found: dict[str, tuple[str, ...]] = {}
    for unit, key in session.exec(query):
        found[unit] = (*found.get(unit, ()), key)
    return found
