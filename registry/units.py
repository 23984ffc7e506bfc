"""Enrolled units and the keys that they had one after the other."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from registry.tables.permits import UnitKeyRow, UnitRow

_UNITS_WITH_KEYS = select(UnitRow, UnitKeyRow).join(
    UnitKeyRow, col(UnitKeyRow.node_key) == col(UnitRow.node_key)
)

_NAMED = _UNITS_WITH_KEYS.where(col(UnitRow.unit).in_(bindparam("names", expanding=True))).order_by(
    col(UnitRow.unit)
)


@dataclass(frozen=True)
class EnrolledUnit:
    """A unit, its newest key, and the digests of its newest enrolment and certificate.

    Attributes:
        revocation: the digest of what revoked the newest key; None while the unit takes part.
    """

    unit: str
    node_key: str
    enrolment: str
    certificate: str
    revocation: str | None = None


@dataclass(frozen=True)
class UnitKey:
    """A key that a unit has or had; `ended_by` is the digest of what ended it, if anything did."""

    node_key: str
    unit: str
    certificate: str
    ended_by: str | None


def append(session: Session, unit: EnrolledUnit, transport_key: str | None, at: datetime) -> None:
    """Store a new unit with its first key; its documents must be stored before."""
    session.flush()
    session.add(
        UnitRow(
            unit=unit.unit,
            node_key=unit.node_key,
            enrolment=unit.enrolment,
            certificate=unit.certificate,
        )
    )
    session.flush()
    _append_key(session, unit, transport_key, at)


def replace_key(
    session: Session, unit: EnrolledUnit, transport_key: str | None, at: datetime
) -> None:
    """Give a known unit the key and documents in `unit`; its key before must have been ended."""
    session.flush()
    row = session.exec(select(UnitRow).where(UnitRow.unit == unit.unit)).one()
    row.node_key, row.enrolment, row.certificate = unit.node_key, unit.enrolment, unit.certificate
    session.add(row)
    session.flush()
    _append_key(session, unit, transport_key, at)


def end_key(session: Session, node_key: str, ended_by: str, at: datetime) -> None:
    """Store what ended a key; that document must be stored before."""
    session.flush()
    row = session.exec(select(UnitKeyRow).where(UnitKeyRow.node_key == node_key)).one()
    row.ended_at, row.ended_by = at, ended_by
    session.add(row)
    session.flush()


def find(session: Session, unit: str) -> EnrolledUnit | None:
    """Return the unit of this name, or None."""
    return _unit(session.exec(_UNITS_WITH_KEYS.where(UnitRow.unit == unit)).first())


def find_by_key(session: Session, node_key: str) -> EnrolledUnit | None:
    """Return the unit whose newest key this is, or None."""
    return _unit(session.exec(_UNITS_WITH_KEYS.where(UnitRow.node_key == node_key)).first())


def find_key(session: Session, node_key: str) -> UnitKey | None:
    """Return a key that any unit has or had, or None."""
    row = session.exec(select(UnitKeyRow).where(UnitKeyRow.node_key == node_key)).first()
    return None if row is None else UnitKey(row.node_key, row.unit, row.certificate, row.ended_by)


def transport_key_known(session: Session, transport_key: str) -> bool:
    """Return whether any unit has or had this transport key."""
    query = select(UnitKeyRow.node_key).where(UnitKeyRow.transport_key == transport_key)
    return session.exec(query).first() is not None


def list_named(session: Session, names: tuple[str, ...]) -> tuple[EnrolledUnit, ...]:
    """Return those of the named units that were ever enrolled, by name."""
    pairs = session.exec(_NAMED, params={"names": list(names)})
    return tuple(unit for pair in pairs if (unit := _unit(pair)) is not None)


def list_after(
    session: Session, name: str, limit: int, only: str | None = None
) -> tuple[EnrolledUnit, ...]:
    """Return at most `limit` units that were ever enrolled, by name, from the one after `name`;
    with `only` that one alone, if it comes after.
    """
    query = _UNITS_WITH_KEYS.where(col(UnitRow.unit) > name).order_by(col(UnitRow.unit))
    if only is not None:
        query = query.where(UnitRow.unit == only)
    pairs = session.exec(query.limit(limit))
    return tuple(unit for pair in pairs if (unit := _unit(pair)) is not None)


def _append_key(
    session: Session, unit: EnrolledUnit, transport_key: str | None, at: datetime
) -> None:
    session.add(
        UnitKeyRow(
            node_key=unit.node_key,
            unit=unit.unit,
            transport_key=transport_key,
            certificate=unit.certificate,
            started_at=at,
        )
    )
    session.flush()


def _unit(pair: tuple[UnitRow, UnitKeyRow] | None) -> EnrolledUnit | None:
    if pair is None:
        return None
    row, key = pair
    return EnrolledUnit(row.unit, row.node_key, row.enrolment, row.certificate, key.ended_by)
