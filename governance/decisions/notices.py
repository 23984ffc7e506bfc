"""Of what people are to be told, from facts and the time: pure, each occasion once."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from fedcore.dpia_acts import open_conditions
from fedcore.dpias import ActRecord, DpiaState
from governance.decisions.incident_notices import IncidentStanding, notices_of_incident
from governance.decisions.notice_kinds import Notice, NoticeTerms
from governance.decisions.run_notices import (
    BudgetStanding,
    OverdueModel,
    RunStanding,
    notices_of_budget,
    notices_of_model,
    notices_of_run,
)

_MOST_DELAY_S = 6 * 3600


@dataclass(frozen=True)
class DpiaStanding:
    """A DPIA version: its stored state, its end, and what was done on it."""

    dpia_id: str
    version: int
    digest: str
    state: DpiaState
    valid_until: datetime
    acts: tuple[ActRecord, ...]


@dataclass(frozen=True)
class UnitStanding:
    """When a unit was last heard of, and its oldest opt-out that no bulletin has held."""

    unit: str
    heard_at: datetime
    pending_sequence: int | None
    pending_since: datetime | None


@dataclass(frozen=True)
class NoticeFacts:
    """Everything that notices are about."""

    dpias: tuple[DpiaStanding, ...] = ()
    units: tuple[UnitStanding, ...] = ()
    incidents: tuple[IncidentStanding, ...] = ()
    runs: tuple[RunStanding, ...] = ()
    budgets: tuple[BudgetStanding, ...] = ()
    overdue_models: tuple[OverdueModel, ...] = ()


def decide_notices(facts: NoticeFacts, terms: NoticeTerms, now: datetime) -> tuple[Notice, ...]:
    """Return every notice that the facts ask for, those that were sent before included.

    Guarantees: an occasion that has passed between two looks is still found when it left a trace
        (a suspension that was lifted, rounds without a unit that has come back); no notice names a
        person, a pseudonym or a number of them.
    """
    found: list[Notice] = []
    for dpia in facts.dpias:
        found += _of_dpia(dpia, terms, now)
    for unit in facts.units:
        found += _of_unit(unit, terms, now)
    for incident in facts.incidents:
        found += notices_of_incident(incident, terms, now)
    for run in facts.runs:
        found += notices_of_run(run, terms)
    for budget in facts.budgets:
        found += notices_of_budget(budget, terms)
    for model in facts.overdue_models:
        found += notices_of_model(model)
    return tuple(found)


def decide_next_attempt(attempts: int, now: datetime) -> datetime:
    """Return when to try again after so many attempts: 30 s, doubled each time, at most 6 hours."""
    return now + timedelta(seconds=min(30 * 2 ** min(attempts, 20), _MOST_DELAY_S))


def _of_dpia(dpia: DpiaStanding, terms: NoticeTerms, now: datetime) -> Iterator[Notice]:
    subject = f"{dpia.dpia_id} version {dpia.version}"
    left = dpia.valid_until - now
    if dpia.state == "in_force" and timedelta(0) < left <= terms.dpia_expiring:
        text = f"expires at {dpia.valid_until.isoformat()}: without a new version runs end then"
        yield Notice("dpia_expiring", f"dpia_expiring {dpia.digest}", subject, text)
    for position, act in enumerate(dpia.acts):
        if act.act == "suspend":
            text = f"was suspended at {act.acted_at.isoformat()}: its permits are revoked"
            yield Notice(
                "dpia_suspended", f"dpia_suspended {dpia.digest} {position}", subject, text
            )
    overdue = [c.due_at for c in open_conditions(dpia.acts) if c.due_at <= now]
    if dpia.state == "in_force" and overdue:
        since = min(overdue).isoformat()
        text = f"is suspended since {since}: a condition of its approval is overdue"
        yield Notice("dpia_suspended", f"dpia_suspended {dpia.digest} {since}", subject, text)


def _of_unit(unit: UnitStanding, terms: NoticeTerms, now: datetime) -> Iterator[Notice]:
    if now - unit.heard_at >= terms.unit_stale:
        text = f"has fetched no bulletin since {unit.heard_at.isoformat()}"
        occasion = f"unit_stale {unit.unit} {unit.heard_at.isoformat()}"
        yield Notice("unit_stale", occasion, unit.unit, text)
    if unit.pending_since is not None and now - unit.pending_since >= terms.opt_out_sla:
        text = f"has an opt-out of {unit.pending_since.isoformat()} that its node did not confirm"
        occasion = f"opt_out_late {unit.unit} {unit.pending_sequence}"
        yield Notice("opt_out_late", occasion, unit.unit, text)
