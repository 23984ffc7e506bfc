"""Since when units of a group act on each other's opt-outs: from bulletins, and from receipts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from fedcore.rounds import Receipt
from registry.tables.opt_out_groups import GroupDeliveryRow, GroupSetAsideRow


@dataclass(frozen=True)
class Delivery:
    """When a unit was first shown a source's group opt-outs up to a number; the first round under
    that, or None.
    """

    unit: str
    last_sequence: int
    issued_at: datetime
    epoch: int
    trained: tuple[str, int, datetime] | None


def note(session: Session, unit: str, shown: Mapping[str, int], at: datetime, epoch: int) -> None:
    """Note that a bulletin shows a unit the group opt-outs of each source up to a number."""
    query = (
        select(GroupDeliveryRow.source, func.max(GroupDeliveryRow.last_sequence))
        .where(GroupDeliveryRow.unit == unit)
        .group_by(col(GroupDeliveryRow.source))
    )
    known = dict(session.exec(query).all())
    for source, last in shown.items():
        if last > known.get(source, 0):
            session.add(
                GroupDeliveryRow(
                    unit=unit, source=source, last_sequence=last, issued_at=at, epoch=epoch
                )
            )
    session.flush()


def note_trained(
    session: Session, receipts: Sequence[Receipt], issued: Mapping[str, datetime]
) -> None:
    """Note the first rounds under what units were shown; `issued` says when the bulletins that
    receipts name were, by digest.
    """
    waiting = select(GroupDeliveryRow.unit).where(
        col(GroupDeliveryRow.unit).in_({receipt.unit for receipt in receipts}),
        col(GroupDeliveryRow.run_id).is_(None),
    )
    units = set(session.exec(waiting.distinct()))
    for receipt in sorted(receipts, key=lambda receipt: receipt.answered_at):
        if receipt.unit in units and receipt.bulletin in issued:
            session.connection().execute(
                update(GroupDeliveryRow)
                .where(
                    col(GroupDeliveryRow.unit) == receipt.unit,
                    col(GroupDeliveryRow.run_id).is_(None),
                    col(GroupDeliveryRow.issued_at) <= issued[receipt.bulletin],
                )
                .values(
                    run_id=receipt.run_id,
                    round=receipt.round,
                    answered_at=receipt.answered_at,
                )
            )


def list_of(session: Session, source: str) -> tuple[Delivery, ...]:
    """Return how a source's group opt-outs were shown to units, by unit and number."""
    query = (
        select(GroupDeliveryRow)
        .where(GroupDeliveryRow.source == source)
        .order_by(col(GroupDeliveryRow.unit), col(GroupDeliveryRow.last_sequence))
        .execution_options(populate_existing=True)
    )
    return tuple(
        Delivery(row.unit, row.last_sequence, row.issued_at, row.epoch, _trained(row))
        for row in session.exec(query)
    )


def list_set_aside(session: Session, unit: str) -> Mapping[int, tuple[str, ...]]:
    """Return who has set aside which of a unit's group opt-outs, by number."""
    query = (
        select(GroupSetAsideRow.sequence, GroupSetAsideRow.by_unit)
        .where(GroupSetAsideRow.unit == unit)
        .order_by(col(GroupSetAsideRow.sequence), col(GroupSetAsideRow.by_unit))
    )
    found: dict[int, tuple[str, ...]] = {}
    for sequence, by in session.exec(query):
        found[sequence] = (*found.get(sequence, ()), by)
    return found


def _trained(row: GroupDeliveryRow) -> tuple[str, int, datetime] | None:
    if row.run_id is None or row.round is None or row.answered_at is None:
        return None
    return row.run_id, row.round, row.answered_at
