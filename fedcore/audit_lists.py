"""Fairness audits as governance lists them, unsigned: what became of each bound of a DPIA; and what
people ask for about them.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from fedcore.fairness import Outcome, Verdict
from fedcore.record import At, Digest, Name, Part, Text
from fedcore.signing import Envelope

_Number = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Compared(Part):
    """One rate of one group against that of the rest: the gap of the noised rates, its interval at
    confidence 1 - 2 alpha, and what follows from it.
    """

    group: Text
    rate: Name
    gap: float | None = None
    low: float
    high: float
    outcome: Outcome


class WidestGap(Part):
    """The largest absolute gap of a bound: where the noised one is largest, and an interval of that
    in the population. Those of all bounds hold together at confidence 1 - alpha.
    """

    group: Text
    rate: Name
    low: float
    high: float

    @property
    def interval_told(self) -> str:
        """The interval in words."""
        return f"{self.low:.3f} to {self.high:.3f}"


class BoundOutcome(Part):
    """What became of one bound of the DPIA. `between` is the metric in its usual form, between the
    groups of the largest and the smallest rate; it has no part in the verdict.
    """

    attribute: Text
    metric: Name
    largest_gap: float
    verdict: Verdict
    widest: WidestGap
    between: float | None = None
    compared: Annotated[tuple[Compared, ...], Field(min_length=1)]


class WaiverRequest(Part):
    """A waiver of an audit, for a reason and until a day; or the first person's that is joined."""

    audit: Digest
    reason: Text | None = None
    expires_at: At | None = None
    joins: Digest | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        alone = self.reason is not None and self.expires_at is not None
        neither = self.reason is None and self.expires_at is None
        if not (alone if self.joins is None else neither):
            raise ValueError("joins: either it, or reason and expires_at")
        return self


class AuditSummary(Part):
    """An audit in the list, with what became of its bounds; `document` is the signed one. Gaps at
    one `threshold` of the score say nothing of those at another; segments have none.
    """

    run_id: Name
    name: Name
    version: _Number
    number: _Number
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    verdict: Verdict
    bounds: tuple[BoundOutcome, ...]
    document: Digest
    audited_at: At


class AuditList(Part):
    """Audits in the order in which they were derived."""

    audits: tuple[AuditSummary, ...]


class AuditTables(Part):
    """The noised tables that an audit was derived from, as the server signed them, in its order."""

    tables: tuple[Envelope, ...]


class WaiverView(Part):
    """A waiver as it was signed."""

    document: Digest
    envelope: Envelope


class WaiverList(Part):
    """The waivers of a model version, oldest first."""

    waivers: tuple[WaiverView, ...]
