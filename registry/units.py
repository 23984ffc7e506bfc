"""Enrolled units."""

from dataclasses import dataclass

from sqlmodel import Session, col, select

from registry.tables.permits import UnitRow


@dataclass(frozen=True)
class EnrolledUnit:
    """A unit, its key, and the digests of its enrolment and certificate."""

    unit: str
    node_key: str
    enrolment: str
    certificate: str


def append(session: Session, unit: EnrolledUnit) -> None:
    """Store a unit; its documents must be stored before."""
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


def find(session: Session, unit: str) -> EnrolledUnit | None:
    """Return the unit of this name, or None."""
    return _unit(session.exec(select(UnitRow).where(UnitRow.unit == unit)).first())


def find_by_key(session: Session, node_key: str) -> EnrolledUnit | None:
    """Return the unit that signs with this key, or None."""
    return _unit(session.exec(select(UnitRow).where(UnitRow.node_key == node_key)).first())


def list_named(session: Session, names: tuple[str, ...]) -> tuple[EnrolledUnit, ...]:
    """Return those of the named units that are enrolled, by name."""
    query = select(UnitRow).where(col(UnitRow.unit).in_(names)).order_by(col(UnitRow.unit))
    return tuple(unit for row in session.exec(query) if (unit := _unit(row)) is not None)


def _unit(row: UnitRow | None) -> EnrolledUnit | None:
    if row is None:
        return None
    return EnrolledUnit(row.unit, row.node_key, row.enrolment, row.certificate)
