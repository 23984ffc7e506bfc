"""What a notice is, and from when on something is worth one."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

NoticeKind = Literal[
    "dpia_expiring",
    "dpia_suspended",
    "opt_out_late",
    "unit_stale",
    "incident_due",
    "node_refusing",
    "budget_low",
    "retrain_overdue",
]


@dataclass(frozen=True)
class NoticeTerms:
    """From when on something is worth a notice.

    Attributes:
        refused_rounds: so many rounds in a row without an answer that counts.
        unit_epsilon_cap: what the units' nodes spend at most on their customer base, if that is
            known here; `budget_low` is the share of it that permits may add up to.
    """

    dpia_expiring: timedelta
    opt_out_sla: timedelta
    unit_stale: timedelta
    incident_due: timedelta
    refused_rounds: int
    unit_epsilon_cap: float | None
    budget_low: float


@dataclass(frozen=True)
class Notice:
    """What is to be told. `occasion` is equal for equal occasions and is not told; `subject` names
    a DPIA, a unit, a model version or an incident's number, never a person.
    """

    kind: NoticeKind
    occasion: str
    subject: str
    text: str
