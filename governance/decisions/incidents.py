"""Which duties towards authority and people an incident leaves open (Art. 33, 34 GDPR)."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from fedcore.incidents import DutyName, IncidentDuty, IncidentFacts

# Art. 33(1). In hours it runs through weekends and holidays: the strict reading.
NOTIFICATION_TIME = timedelta(hours=72)
_DOCUMENTED = (
    "data_categories",
    "subject_categories",
    "subjects_band",
    "records_band",
    "consequences",
    "measures",
)
_SAID: Mapping[DutyName, str] = {
    "assess_risk": "Say what the risk is (risk)",
    "notify_authority": "Tell the authority (authority, authority_notified_at)",
    "explain_delay": "Say why the authority was told late (delay_reason)",
    "tell_subjects": "Tell the people concerned (subjects_told_at), or name the exemption",
}


def notify_by(facts: IncidentFacts) -> datetime:
    """Return until when the authority is to be told, if it is."""
    return facts.aware_at + NOTIFICATION_TIME


def decide_duties(facts: IncidentFacts, now: datetime) -> tuple[IncidentDuty, ...]:
    """Return the duties that are not met, in the order of the articles.

    Guarantees: time that passes never closes a duty, and never makes an overdue one timely; as long
        as nobody has assessed the risk, the authority is to be told.
    """
    return (*_to_authority(facts, now), *_to_subjects(facts), *_to_document(facts))


def decide_update(before: IncidentFacts, after: IncidentFacts) -> tuple[tuple[str, str], ...]:
    """Return every reason against what is now said to be known; none means yes.

    Guarantees: the clock of Art. 33(1) is never set back: `aware_at` may become earlier only.
    """
    if after.aware_at <= before.aware_at:
        return ()
    sentence = (
        f"It was said to be known at {before.aware_at.isoformat()}: that stays, or is earlier."
    )
    return (("incident.clock_moved", sentence),)


def decide_closing(facts: IncidentFacts, now: datetime) -> tuple[tuple[str, str], ...]:
    """Return every reason against closing; none means yes. A risk that is unlikely, with its
    reason, is what leaves authority and people untold.
    """
    return tuple(
        ("incident.duty_open", f"{_said(duty, facts)}, as {duty.article} GDPR asks.")
        for duty in decide_duties(facts, now)
    )


def _to_authority(facts: IncidentFacts, now: datetime) -> Iterator[IncidentDuty]:
    due_at = notify_by(facts)
    if facts.risk is None:
        yield _duty("assess_risk", "Art. 33(1)", due_at, now)
    if facts.risk == "unlikely_risk":
        return
    if facts.authority_notified_at is None:
        yield _duty("notify_authority", "Art. 33(1)", due_at, now)
    if (facts.authority_notified_at or now) > due_at and facts.delay_reason is None:
        yield _duty("explain_delay", "Art. 33(1)", due_at, now)


def _to_subjects(facts: IncidentFacts) -> Iterator[IncidentDuty]:
    if facts.risk == "high_risk" and facts.subjects_told_at is None and facts.exemption is None:
        yield IncidentDuty(duty="tell_subjects", article="Art. 34(1)", due_at=None, overdue=False)


def _to_document(facts: IncidentFacts) -> Iterator[IncidentDuty]:
    if _unwritten(facts):
        yield IncidentDuty(duty="document", article="Art. 33(5)", due_at=None, overdue=False)


def _unwritten(facts: IncidentFacts) -> list[str]:
    return [name for name in _DOCUMENTED if not getattr(facts, name)]


def _said(duty: IncidentDuty, facts: IncidentFacts) -> str:
    if duty.duty == "document":
        return f"Write {', '.join(_unwritten(facts))}"
    return _SAID[duty.duty]


def _duty(name: DutyName, article: str, due_at: datetime, now: datetime) -> IncidentDuty:
    return IncidentDuty(duty=name, article=article, due_at=due_at, overdue=now > due_at)
