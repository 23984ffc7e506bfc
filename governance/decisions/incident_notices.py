"""Of what people are to be told while duties of an incident are open."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from fedcore.incidents import IncidentDuty, IncidentFacts
from governance.decisions.incidents import decide_duties
from governance.decisions.notice_kinds import Notice, NoticeTerms


@dataclass(frozen=True)
class IncidentStanding:
    """What is known of an incident now."""

    number: int
    facts: IncidentFacts


def notices_of_incident(
    incident: IncidentStanding, terms: NoticeTerms, now: datetime
) -> Iterator[Notice]:
    """Yield what is due: the authority soon and overdue, and the people at a high risk.

    Guarantees: nothing that was written about the incident is told, only its number and its clock.
    """
    for duty in decide_duties(incident.facts, now):
        said = _say(duty, terms, now)
        if said is not None:
            stage, text = said
            occasion = f"incident_due {incident.number} {stage}"
            yield Notice("incident_due", occasion, f"incident {incident.number}", text)


def _say(duty: IncidentDuty, terms: NoticeTerms, now: datetime) -> tuple[str, str] | None:
    if duty.duty == "tell_subjects":
        return "subjects", "is a high risk: the people concerned are not told yet (Art. 34 GDPR)"
    if duty.duty != "notify_authority" or duty.due_at is None:
        return None
    until = duty.due_at.isoformat()
    if duty.overdue:
        return (
            f"overdue {until}",
            f"is overdue: the authority was to be told by {until} (Art. 33 GDPR)",
        )
    if duty.due_at - now <= terms.incident_due:
        return f"soon {until}", f"is due: the authority is to be told by {until} (Art. 33 GDPR)"
    return None
