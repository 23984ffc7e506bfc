"""Duties of an incident in words, with their clock, for the console and the commands."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from fedcore.incidents import DutyName, IncidentDuty

_TODO: Mapping[DutyName, str] = {
    "document": "write down what Art. 33(5) asks for",
    "assess_risk": "assess the risk",
    "notify_authority": "notify the authority",
    "explain_delay": "say why the authority was told late",
    "tell_subjects": "tell the people concerned",
}


def say_duty(duty: IncidentDuty, now: datetime) -> str:
    """Return a duty as a sentence with its clock: `31 h 12 min left to notify the authority`."""
    todo = f"to {_TODO[duty.duty]} ({duty.article})"
    if duty.due_at is None:
        return f"without undue delay {todo}"
    left = duty.due_at - now
    if left < timedelta(0):
        return f"OVERDUE since {duty.due_at.isoformat()} {todo}"
    minutes = int(left.total_seconds()) // 60
    return f"{minutes // 60} h {minutes % 60} min left {todo}"
