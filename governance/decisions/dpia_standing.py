"""A DPIA version as it stands, and the state that follows from it and the time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from fedcore.dpia_acts import (
    force_ends_at,
    has_high_residual_risk,
    open_review,
    participating_controllers,
)
from fedcore.dpia_record import AnyDpia
from fedcore.dpias import ActRecord, DpiaState

FINAL_STATES: frozenset[DpiaState] = frozenset({"rejected", "withdrawn", "superseded"})


@dataclass(frozen=True)
class Standing:
    """A DPIA version as it stands: its stored state, its author, the acts so far, and what of the
    record the rules look at.

    Attributes:
        entities: the controllers whose units take part; each needs its advice and its approval.
        items: what an evaluation may be about: sections, and `<section>.<id>`.
        lacks: what a submission would be refused for: code and sentence.
    """

    state: DpiaState
    author: str
    acts: Sequence[ActRecord]
    valid_until: datetime
    effective_from: datetime | None = None
    entities: tuple[str, ...] = ()
    items: frozenset[str] = frozenset()
    high_residual_risk: bool = False
    lacks: tuple[tuple[str, str], ...] = ()

    @property
    def force_ends_at(self) -> datetime:
        """When it stops yielding permits if nobody acts: expired, or a condition overdue."""
        return force_ends_at(self.valid_until, self.acts)


class Kept(Protocol):
    """A DPIA version as the registry keeps it."""

    @property
    def record(self) -> AnyDpia:
        """What the author wrote."""

    @property
    def state(self) -> DpiaState:
        """The state after the last act."""

    @property
    def author(self) -> str:
        """Who drafted it."""

    @property
    def acts(self) -> tuple[ActRecord, ...]:
        """The acts so far, in order."""


def standing_of(kept: Kept) -> Standing:
    """Return how a DPIA version stands, for all questions but that of a submission."""
    dpia = kept.record
    return Standing(
        state=kept.state,
        author=kept.author,
        acts=kept.acts,
        valid_until=dpia.valid_until,
        effective_from=dpia.effective_from,
        entities=participating_controllers(dpia),
        items=_items_of(dpia),
        high_residual_risk=has_high_residual_risk(dpia),
    )


def state_at(standing: Standing, now: datetime) -> DpiaState:
    """Return the state that counts at `now`.

    Guarantees: nothing open outlives its validity; what is in force is suspended while a condition
        of its approval is overdue.
    """
    if standing.state not in FINAL_STATES and now >= standing.valid_until:
        return "expired"
    if standing.state == "in_force" and now >= standing.force_ends_at:
        return "suspended"
    return standing.state


def is_expiring(standing: Standing, now: datetime, notice: timedelta) -> bool:
    """Return whether a DPIA in force expires within the notice: a flag, not a state."""
    return state_at(standing, now) == "in_force" and now >= standing.valid_until - notice


def review_of(standing: Standing, now: datetime) -> ActRecord | None:
    """Return the act that opened the review which a DPIA that may still carry runs is under, or
    None. Like `expiring` a flag, which no rule of the gate looks at.
    """
    if state_at(standing, now) not in ("in_force", "suspended"):
        return None
    return open_review(standing.acts)


def _items_of(dpia: AnyDpia) -> frozenset[str]:
    sections = set(type(dpia).model_fields) - {"schema_name"}
    parts = {
        f"{section}.{item.id}"
        for section in sections
        if isinstance(values := getattr(dpia, section), tuple)
        for item in values
        if hasattr(item, "id")
    }
    return frozenset(sections | parts)
