"""Does a stop concern this plan or permit? May this person lift it?"""

from dataclasses import dataclass

from fedcore.contracts import Contract, purpose_line
from fedcore.stops import Stop


@dataclass(frozen=True)
class Reach:
    """What a run touches: its units, its purpose with all above it, its task and its DPIA."""

    units: frozenset[str]
    purposes: frozenset[str]
    dpia_id: str | None
    task: str


def concerns(stop: Stop, reach: Reach) -> bool:
    """Return whether a stop stops what has this reach. A stopped purpose stops all below it."""
    return (
        stop.scope == "all"
        or (stop.scope == "unit" and stop.subject in reach.units)
        or (stop.scope == "purpose" and stop.subject in reach.purposes)
        or (stop.scope == "task" and stop.subject == reach.task)
        or (stop.scope == "dpia" and stop.subject == reach.dpia_id)
    )


def purposes_of(contract: Contract | None, purpose: str) -> frozenset[str]:
    """Return a purpose and all above it; a purpose that no contract knows stands alone."""
    if contract is None or purpose not in {known.id for known in contract.purposes}:
        return frozenset({purpose})
    return frozenset(purpose_line(contract.purposes, purpose))


def decide_lift(stop: Stop, person: str) -> tuple[tuple[str, str], ...]:
    """Return every reason against a lift by this person; none means yes.

    Guarantees: who has stopped never lifts: two people look before anything runs again.
    """
    if person != stop.stopped_by:
        return ()
    sentence = "Who stopped it may not lift it: another person of compliance or the DPO must."
    return (("stop.same_person", sentence),)
