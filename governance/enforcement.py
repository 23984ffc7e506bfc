"""How far a unit's opt-outs have come, and since when they act, as far as it can be shown."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from fedcore.contracts import purpose_line
from fedcore.enforcement import Decided, OptOutStatus, TrainedModel, TrainedRound
from fedcore.errors import NotFoundError
from fedcore.optouts import State, excludes
from fedcore.tomlfile import load_toml
from governance.decisions.enforcement import (
    Enforcement,
    History,
    Objection,
    Training,
    say_enforcement,
)
from governance.model_decisions import view_in_force
from governance.notice_settings import NoticeSettings
from governance.office import Desk
from governance.reissues import Followed, follow
from governance.settings import GovernanceSettings
from registry import enforcement, model_decisions, optouts
from registry.enforcement import Issued, StoredTraining
from registry.model_decisions import Version
from registry.models import StoredModel
from registry.optouts import StoredEvent

UNKNOWN = ("opt_out.unknown", "this unit has no opt-out with this number")


@dataclass(frozen=True)
class _Standing:
    """What all statuses of one answer are told from."""

    followed: dict[int, Followed]
    issued: tuple[Issued, ...]
    history: History
    models: Mapping[str, StoredModel]
    decided: Mapping[Version, Decided]
    withdrawn: frozenset[Version]
    sla: timedelta


def list_statuses(desk: Desk, unit: str, found: Sequence[StoredEvent]) -> tuple[OptOutStatus, ...]:
    """Return the status of each of these events of one unit.

    Guarantees: as many queries for many events as for one; nothing of another unit is looked at.
    """
    followed = follow(desk.session, unit, found)
    first = min((known.said.event.sequence for known in followed.values()), default=0)
    standing = _Standing(
        followed=followed,
        issued=enforcement.list_issued(desk.session, unit, first),
        history=_history(desk, unit),
        models=enforcement.find_models(desk.session, unit),
        decided=view_in_force(desk, unit),
        withdrawn=frozenset(model_decisions.list_withdrawn(desk.session)),
        sla=opt_out_sla(desk.settings),
    )
    return tuple(_status(desk, stored, standing) for stored in found)


def read_status(desk: Desk, unit: str, sequence: int) -> OptOutStatus:
    """Return the status of one event. Raises: NotFoundError `opt_out.unknown`."""
    found = optouts.find_events(desk.session, unit, {sequence})
    if not found:
        raise NotFoundError(*UNKNOWN)
    return list_statuses(desk, unit, list(found.values()))[0]


def opt_out_sla(settings: GovernanceSettings) -> timedelta:
    """Return how long an opt-out may wait for its node, as the notices count it."""
    if settings.notices is None:
        return timedelta(hours=NoticeSettings.model_fields["opt_out_sla_hours"].default)
    return load_toml(settings.notices, NoticeSettings).terms.opt_out_sla


def _history(desk: Desk, unit: str) -> History:
    stored = enforcement.list_trainings(desk.session, unit)
    contracts = {
        contract.digest: contract
        for contract in enforcement.list_contracts(desk.session, {each.contract for each in stored})
    }
    lines = {
        (each.contract, each.purpose): purpose_line(contracts[each.contract].purposes, each.purpose)
        for each in {(each.contract, each.purpose): each for each in stored}.values()
    }
    return History([_training(each, lines[each.contract, each.purpose]) for each in stored])


def _training(stored: StoredTraining, purposes: tuple[str, ...]) -> Training:
    return Training(
        run_id=stored.run_id,
        round=stored.round,
        answered_at=stored.answered_at,
        purposes=purposes,
        last_sequence=stored.last_sequence,
    )


def _status(desk: Desk, stored: StoredEvent, standing: _Standing) -> OptOutStatus:
    event, known = stored.event, standing.followed[stored.event.sequence]
    newest = known.newest
    objection = Objection(
        sequence=newest.event.sequence,
        purpose=event.purpose,
        ground=event.ground,
        state=cast("State", known.state),
        received_at=newest.event.received_at,
    )
    found = standing.history.decide_enforcement(objection)
    confirmed_at = _confirmed_at(known.said.event.sequence, standing.issued)
    lag = max((confirmed_at or desk.now) - event.received_at, timedelta(0))
    return OptOutStatus(
        unit=event.unit,
        sequence=event.sequence,
        purpose=event.purpose,
        ground=event.ground,
        act=event.act,
        received_at=event.received_at,
        recorded_at=stored.recorded_at,
        newest=objection.sequence,
        state=objection.state,
        excludes=excludes(objection.state),
        confirmed_at=confirmed_at,
        lag_s=lag.total_seconds(),
        sla_s=standing.sla.total_seconds(),
        within_sla=lag <= standing.sla,
        enforced_since=_round(found.since),
        not_shown=len(found.not_shown),
        trained_before=_models(objection, found, standing),
        sentence=say_enforcement(objection, found),
    )


def _round(training: Training | None) -> TrainedRound | None:
    if training is None:
        return None
    return TrainedRound(
        run_id=training.run_id, round=training.round, answered_at=training.answered_at
    )


def _confirmed_at(sequence: int, issued: Sequence[Issued]) -> datetime | None:
    place = bisect_left(issued, sequence, key=lambda item: item.last_sequence)
    return issued[place].issued_at if place < len(issued) else None


def _models(
    objection: Objection, found: Enforcement, standing: _Standing
) -> tuple[TrainedModel, ...]:
    if not excludes(objection.state):
        return ()
    return tuple(
        TrainedModel(
            name=model.name,
            version=model.version,
            run_id=run_id,
            rounds=found.before[run_id],
            decided=_decided(objection, standing.decided.get((model.name, model.version))),
            withdrawn=(model.name, model.version) in standing.withdrawn,
        )
        for run_id, model in standing.models.items()
        if run_id in found.before
    )


def _decided(objection: Objection, decided: Decided | None) -> Decided | None:
    """Return a decision if it was made in view of the objection as it stands now."""
    return decided if decided is not None and decided.up_to >= objection.sequence else None
