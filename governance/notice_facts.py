"""The facts that notices are about, read from what governance has kept."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlmodel import Session

from fedcore.incidents import Incident
from fedcore.permits import Permit
from fedcore.rounds import RoundReport
from governance.decisions.incident_notices import IncidentStanding
from governance.decisions.notices import DpiaStanding, NoticeFacts, UnitStanding
from governance.decisions.run_notices import BudgetStanding, OverdueModel, RunStanding
from registry import documents, dpias, incidents, model_decisions, notices

# A run that reported nothing for longer has nothing new to tell.
_LOOKED_BACK = timedelta(days=7)


def load_notice_facts(session: Session, now: datetime) -> NoticeFacts:
    """Return everything that notices are about, as it is kept now.

    The documents were verified when they came or were signed here; they are not verified again.
    """
    return NoticeFacts(
        dpias=tuple(
            DpiaStanding(
                dpia_id=stored.record.dpia_id,
                version=stored.record.version,
                digest=stored.record.digest,
                state=stored.state,
                valid_until=stored.record.valid_until,
                acts=stored.acts,
            )
            for stored in dpias.list_all(session)
        ),
        units=tuple(
            UnitStanding(c.unit, c.heard_at, c.pending_sequence, c.pending_since)
            for c in notices.list_contacts(session)
        ),
        incidents=tuple(_incidents(session)),
        runs=tuple(_runs(session, now)),
        budgets=_budgets(session),
        overdue_models=tuple(
            OverdueModel(each.name, each.version, each.document, each.due_at)
            for each in model_decisions.list_due(session, now)
            if each.due_at is not None
        ),
    )


def _incidents(session: Session) -> Iterator[IncidentStanding]:
    newest = incidents.list_after(session, 0, None)
    found = documents.find_named(session, Incident, [digest for _, digest in newest])
    for number, digest in newest:
        yield IncidentStanding(number, Incident.from_bytes(found[digest].payload_bytes).facts)


def _runs(session: Session, now: datetime) -> Iterator[RunStanding]:
    missing: dict[str, list[frozenset[str]]] = defaultdict(list)
    for envelope in notices.list_reports(session, now - _LOOKED_BACK):
        report = RoundReport.from_bytes(envelope.payload_bytes)
        missing[report.run_id].append(frozenset(report.unavailable))
    for run_id, found in missing.items():
        yield RunStanding(run_id, tuple(found))


def _budgets(session: Session) -> tuple[BudgetStanding, ...]:
    granted: dict[str, float] = defaultdict(float)
    for envelope in documents.of_kind(session, Permit):
        for grant in Permit.from_bytes(envelope.payload_bytes).cohort:
            granted[grant.unit] += grant.epsilon
    return tuple(BudgetStanding(unit, granted[unit]) for unit in sorted(granted))
