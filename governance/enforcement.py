"""How far a unit's opt-outs have come, and since when they act, as far as it can be shown."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from fedcore.contracts import purpose_line
from fedcore.enforcement import OptOutStatus, TrainedModel, TrainedRound
from fedcore.errors import NotFoundError
from fedcore.optouts import State, excludes
from fedcore.tomlfile import load_toml
from governance.decisions.enforcement import (
    Enforcement,
    Objection,
    Training,
    decide_enforcement,
    say_enforcement,
)
from governance.notice_settings import NoticeSettings
from governance.office import Desk
from governance.settings import GovernanceSettings
from registry import enforcement
from registry.enforcement import Issued, StoredEvent, StoredState
from registry.models import StoredModel

UNKNOWN = ("opt_out.unknown", "this unit has no opt-out with this number")


@dataclass(frozen=True)
class _Standing:
    """What all statuses of one answer are told from."""

    states: dict[tuple[str, str, str], StoredState]
    newest: dict[int, StoredEvent]
    issued: tuple[Issued, ...]
    trainings: tuple[Training, ...]
    models: dict[str, StoredModel]
    sla: timedelta


def list_statuses(desk: Desk, unit: str, found: Sequence[StoredEvent]) -> tuple[OptOutStatus, ...]:
    """Return the status of each of these events of one unit.

    Guarantees: as many queries for many events as for one; nothing of another unit is looked at.
    """
    issued = enforcement.list_issued(desk.session, unit)
    states = enforcement.find_states(desk.session, unit, found)
    trainings = _trainings(desk, unit, issued)
    runs = {training.run_id for training in trainings}
    standing = _Standing(
        states=states,
        newest=enforcement.find_events(
            desk.session, unit, {state.sequence for state in states.values()}
        ),
        issued=issued,
        trainings=trainings,
        models=enforcement.find_models(desk.session, runs),
        sla=opt_out_sla(desk.settings),
    )
    return tuple(_status(desk, stored, standing) for stored in found)


def read_status(desk: Desk, unit: str, sequence: int) -> OptOutStatus:
    """Return the status of one event. Raises: NotFoundError `opt_out.unknown`."""
    found = enforcement.find_events(desk.session, unit, {sequence})
    if not found:
        raise NotFoundError(*UNKNOWN)
    return list_statuses(desk, unit, list(found.values()))[0]


def opt_out_sla(settings: GovernanceSettings) -> timedelta:
    """Return how long an opt-out may wait for its node, as the notices count it."""
    if settings.notices is None:
        return timedelta(hours=NoticeSettings.model_fields["opt_out_sla_hours"].default)
    return load_toml(settings.notices, NoticeSettings).terms.opt_out_sla


def _trainings(desk: Desk, unit: str, issued: Sequence[Issued]) -> tuple[Training, ...]:
    receipts = enforcement.list_receipts(desk.session, unit)
    permits = enforcement.list_permits(desk.session, {receipt.run_id for receipt in receipts})
    contracts = {
        contract.digest: contract
        for contract in enforcement.list_contracts(
            desk.session, {permit.contract for permit in permits}
        )
    }
    purposes = {
        permit.run_id: purpose_line(contracts[permit.contract].purposes, permit.purpose)
        for permit in permits
    }
    sequences = {bulletin.digest: bulletin.last_sequence for bulletin in issued}
    trainings = (
        Training(
            run_id=receipt.run_id,
            round=receipt.round,
            answered_at=receipt.answered_at,
            purposes=purposes[receipt.run_id],
            applied_epoch=receipt.applied_epoch,
            last_sequence=sequences.get(receipt.bulletin),
        )
        for receipt in receipts
    )
    return tuple(sorted(trainings, key=lambda training: training.answered_at))


def _status(desk: Desk, stored: StoredEvent, standing: _Standing) -> OptOutStatus:
    event, current = stored.event, standing.states[stored.event.subject]
    newest = standing.newest[current.sequence]
    objection = Objection(
        sequence=current.sequence,
        purpose=event.purpose,
        ground=event.ground,
        state=cast("State", current.state),
        received_at=newest.event.received_at,
        recorded_at=newest.recorded_at,
    )
    found = decide_enforcement(objection, standing.trainings)
    held = (item.issued_at for item in standing.issued if item.last_sequence >= event.sequence)
    confirmed_at = next(held, None)
    lag = max((confirmed_at or desk.now) - event.received_at, timedelta(0))
    return OptOutStatus(
        unit=event.unit,
        sequence=event.sequence,
        purpose=event.purpose,
        ground=event.ground,
        act=event.act,
        received_at=event.received_at,
        recorded_at=stored.recorded_at,
        newest=current.sequence,
        state=current.state,
        excludes=excludes(objection.state),
        confirmed_at=confirmed_at,
        lag_s=lag.total_seconds(),
        sla_s=standing.sla.total_seconds(),
        within_sla=lag <= standing.sla,
        enforced_since=_round(found.since),
        not_shown=len(found.not_shown),
        trained_before=_models(objection, found, standing.models),
        sentence=say_enforcement(objection, found),
    )


def _round(training: Training | None) -> TrainedRound | None:
    if training is None:
        return None
    return TrainedRound(
        run_id=training.run_id, round=training.round, answered_at=training.answered_at
    )


def _models(
    objection: Objection, found: Enforcement, models: dict[str, StoredModel]
) -> tuple[TrainedModel, ...]:
    if not excludes(objection.state):
        return ()
    rounds = Counter(training.run_id for training in found.before)
    return tuple(
        TrainedModel(name=model.name, version=model.version, run_id=run_id, rounds=rounds[run_id])
        for run_id, model in models.items()
        if run_id in rounds
    )
