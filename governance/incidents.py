"""Incidents: opened, updated in phases, closed; and what they stop at once."""

from collections.abc import Sequence

from fedcore.errors import NotFoundError, RefusedError
from fedcore.incidents import (
    Incident,
    IncidentFacts,
    IncidentHistory,
    IncidentOpening,
    IncidentUpdate,
    IncidentView,
    StopTarget,
)
from fedcore.signing import Envelope
from governance import stops
from governance.auth import verify_not_future
from governance.decisions.incidents import decide_closing, decide_duties, decide_update
from governance.office import Desk
from registry import documents, incidents
from registry.accounts import Account


def open_incident(desk: Desk, opening: IncidentOpening, account: Account) -> Envelope:
    """Open an incident and return its first signed document.

    Guarantees: what it stops is stopped in the same transaction, by this account, as by
        `governance.stops.stop`; another person must lift it.
    Raises: ExpiredError `request.from_future` for a time that is still to come.
    """
    _verify_past(desk, opening.facts)
    number = incidents.next_number(desk.session)
    incident = Incident(
        number=number,
        phase=1,
        status="open",
        facts=opening.facts,
        stops=_pull(desk, number, opening.facts, opening.stop, account),
        reported_by=account.name,
        reported_at=desk.now,
    )
    return _file(desk, incident)


def update_incident(desk: Desk, number: int, update: IncidentUpdate, account: Account) -> Envelope:
    """Add a phase to an incident and return its signed document, which names the one before.

    Guarantees: closed only when no duty is open; stops as `open_incident`.
    Raises: NotFoundError `incident.unknown`; ExpiredError `request.from_future`; RefusedError
        `incident.clock_moved`, `incident.duty_open`.
    """
    phases = find_phases(desk, number)
    before = desk.open_own(Incident, phases[-1])
    _verify_past(desk, update.facts)
    refusals = decide_update(before.facts, update.facts)
    if update.close:
        refusals += decide_closing(update.facts, desk.now)
    if refusals:
        raise RefusedError(refusals)
    incident = Incident(
        number=number,
        phase=before.phase + 1,
        previous=phases[-1],
        status="closed" if update.close else "open",
        facts=update.facts,
        stops=_pull(desk, number, update.facts, update.stop, account),
        reported_by=account.name,
        reported_at=desk.now,
    )
    return _file(desk, incident)


def find_phases(desk: Desk, number: int) -> tuple[str, ...]:
    """Return the documents of an incident, oldest first.

    Raises: NotFoundError `incident.unknown`.
    """
    phases = incidents.list_phases(desk.session, number)
    if not phases:
        raise NotFoundError("incident.unknown", "there is no incident with this number")
    return phases


def view_incident(desk: Desk, number: int) -> IncidentHistory:
    """Return an incident as it stands now, with all its phases.

    Raises: NotFoundError `incident.unknown`.
    """
    phases = find_phases(desk, number)
    found = documents.find_named(desk.session, Incident, phases)
    view = _view(desk, number, found[phases[-1]])
    envelopes = tuple(found[digest] for digest in phases)
    return IncidentHistory(**dict(view), phases=envelopes)


def view_incidents(desk: Desk, stored: Sequence[tuple[int, str]]) -> tuple[IncidentView, ...]:
    """Return stored incidents as they stand now, each by its number and newest document."""
    digests = [digest for _, digest in stored]
    found = documents.find_named(desk.session, Incident, digests)
    return tuple(_view(desk, number, found[digest]) for number, digest in stored)


def _view(desk: Desk, number: int, envelope: Envelope) -> IncidentView:
    incident = desk.open_signed_here(envelope, Incident)
    return IncidentView(
        number=number,
        document=envelope.digest,
        envelope=envelope,
        duties=decide_duties(incident.facts, desk.now),
    )


def _verify_past(desk: Desk, facts: IncidentFacts) -> None:
    """What is still to come has not happened: nobody was aware, told or notified yet."""
    for moment in (facts.aware_at, facts.authority_notified_at, facts.subjects_told_at):
        if moment is not None:
            verify_not_future(moment, desk.now)


def _pull(
    desk: Desk, number: int, facts: IncidentFacts, targets: Sequence[StopTarget], account: Account
) -> tuple[str, ...]:
    reason = f"incident {number}: {facts.title}"[:4000]
    return tuple(
        stops.stop(desk, target.scope, target.subject, reason, account).digest for target in targets
    )


def _file(desk: Desk, incident: Incident) -> Envelope:
    envelope = desk.issue(incident)
    incidents.append(desk.session, incident)
    return envelope
