"""How far what a unit was told for its group has come, as far as it can be shown."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime

from fedcore.enforcement import ActsAt, GroupOptOutStatus, TrainedRound
from fedcore.group_opt_outs import GroupOptOut
from governance.office import Desk
from registry import group_deliveries
from registry.group_deliveries import Delivery


def list_group_statuses(
    desk: Desk, unit: str, found: Sequence[tuple[GroupOptOut, datetime]], only: str | None = None
) -> tuple[GroupOptOutStatus, ...]:
    """Return the status of each of these group opt-outs of a unit.

    Args: `only` is the one unit whose acting on them is shown, for who may see no other's.
    Guarantees: as many queries for many as for one.
    """
    aside = group_deliveries.list_set_aside(desk.session, unit)
    by_unit: dict[str, list[Delivery]] = {}
    for delivery in group_deliveries.list_of(desk.session, unit):
        if only in (None, delivery.unit):
            by_unit.setdefault(delivery.unit, []).append(delivery)
    return tuple(
        GroupOptOutStatus(
            unit=event.unit,
            sequence=event.sequence,
            purpose=event.purpose,
            ground=event.ground,
            act=event.act,
            received_at=event.received_at,
            recorded_at=recorded_at,
            set_aside_by=aside.get(event.sequence, ()),
            acts_at=tuple(_acts_at(event.sequence, by_unit.values())),
        )
        for event, recorded_at in found
    )


def _acts_at(sequence: int, by_unit: Iterable[Sequence[Delivery]]) -> Iterable[ActsAt]:
    for deliveries in by_unit:
        place = bisect_left(deliveries, sequence, key=lambda delivery: delivery.last_sequence)
        if place == len(deliveries):
            continue
        first = deliveries[place]
        round_ = None
        if first.trained is not None:
            run_id, number, answered_at = first.trained
            round_ = TrainedRound(run_id=run_id, round=number, answered_at=answered_at)
        yield ActsAt(unit=first.unit, since=first.issued_at, epoch=first.epoch, first_round=round_)
