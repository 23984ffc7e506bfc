"""May a permit be used longer? The gate is asked anew, and the run must still be open."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fedcore import canonical
from governance.decisions.facts import GateFacts
from governance.decisions.gate import decide_permit
from governance.decisions.gate_rule import Refusal


@dataclass(frozen=True)
class RenewalFacts:
    """What a renewal depends on: the gate's facts as they are now, about the permit's own DPIA."""

    gate: GateFacts
    revoked: bool
    finished: bool

    @property
    def document(self) -> dict[str, Any]:
        """The facts as plain JSON, kept with the decision."""
        return {"gate": self.gate.document, "revoked": self.revoked, "finished": self.finished}

    @property
    def digest(self) -> str:
        """The digest of the facts, kept with the decision."""
        return canonical.digest_of(self.document)


def decide_renewal(facts: RenewalFacts) -> tuple[Refusal, ...]:
    """Return every reason against a renewal; none means yes.

    Guarantees: a revoked permit and a finished run are never renewed, nor is a permit whose plan
        would not get one today.
    """
    refusals: list[Refusal] = []
    if facts.revoked:
        refusals.append(
            ("permit.revoked", "The permit was revoked: request a permit for a new run.")
        )
    if facts.finished:
        refusals.append(("permit.run_finished", "The run has all that it was for: it is over."))
    return (*refusals, *decide_permit(facts.gate))


def decide_expiry(now: datetime, valid_s: int, dpia_ends_at: datetime) -> datetime:
    """Return until when a permit or renewal of now may be used: never beyond its DPIA, which ends
    when a condition of its approval is overdue, or at the latest with its validity.
    """
    return min(now + timedelta(seconds=valid_s), dpia_ends_at)


def decide_repeat(now: datetime, issued_at: datetime, expires_at: datetime) -> bool:
    """Return whether a renewal is answered once more instead of making another one: while more than
    half of its life is left.
    """
    return now - issued_at < (expires_at - issued_at) / 2
