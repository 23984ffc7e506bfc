"""May this person answer for a version that its fairness audit does not pass? And which answer
counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from fedcore.fairness_audits import FairnessAudit, Waiver
from governance.decisions.gate_rule import Refusal

# Nobody answers for longer than this.
LONGEST = timedelta(days=366)
PEOPLE = 2
# Whether a waiver counts, has ended, waits for a second person, or gives way to a newer one.
Standing = Literal["counts", "ended", "alone", "newer"]


@dataclass(frozen=True)
class WaiverWish:
    """What somebody asks for: the audit that they saw, until when, and the waiver that is joined.

    `deciding` is the version's first audit, `plan_author` who wrote the plan of its training.
    """

    person: str
    plan_author: str | None
    seen: str
    deciding: FairnessAudit
    expires_at: datetime
    joined: Waiver | None = None


def list_reasons_against_waiver(wish: WaiverWish, now: datetime) -> tuple[Refusal, ...]:
    """Return every (code, sentence) against a waiver; none means yes. Pure."""
    return tuple(_reasons(wish, now))


def choose_waiver(waivers: Sequence[Waiver], audit: str, now: datetime) -> Waiver | None:
    """Return the waiver of an audit that counts: the newest of two people that has time left, else
    the newest of all, whose faults the gate then names.

    Args: `waivers` oldest first.
    """
    own = [waiver for waiver in waivers if waiver.audit == audit]
    whole = [w for w in own if len(w.people) >= PEOPLE and now < w.expires_at]
    return next(reversed(whole or own), None)


def tell_waivers(
    waivers: Sequence[Waiver], audit: str, now: datetime
) -> tuple[tuple[Waiver, Standing], ...]:
    """Return the waivers that stand, oldest first, each with how it stands to an audit: one that a
    second person has joined is told once, as that of both. Pure.

    Args: `waivers` oldest first.
    """
    joined = {waiver.joins for waiver in waivers}
    chosen = choose_waiver(waivers, audit, now)
    return tuple(
        (waiver, _standing(waiver, chosen, now))
        for waiver in waivers
        if waiver.audit == audit and waiver.digest not in joined
    )


def _standing(waiver: Waiver, chosen: Waiver | None, now: datetime) -> Standing:
    if now >= waiver.expires_at:
        return "ended"
    if len(waiver.people) < PEOPLE:
        return "alone"
    return "counts" if waiver == chosen else "newer"


def _reasons(wish: WaiverWish, now: datetime) -> Iterator[Refusal]:
    if wish.deciding.found.verdict == "PASS":
        yield "waiver.not_needed", "The audit says PASS: there is nothing to waive."
    if wish.seen != wish.deciding.digest:
        yield "waiver.other_audit", "The version's first audit decides: look at that one."
    if wish.plan_author is None or wish.person == wish.plan_author:
        yield "waiver.own_plan", "Who wrote the plan does not waive: two other people do."
    if not now < wish.expires_at <= now + LONGEST:
        yield "waiver.expiry_unfit", f"A waiver ends within {LONGEST.days} days from now."
    if wish.joined is not None:
        yield from _reasons_against_joining(wish, wish.joined)


def _reasons_against_joining(wish: WaiverWish, joined: Waiver) -> Iterator[Refusal]:
    if wish.person in joined.people:
        yield "waiver.same_person", "You stand for this waiver already: another person joins it."
    if len(joined.people) >= PEOPLE:
        yield "waiver.joined_already", "Two people stand for this waiver: there is nothing to join."
    if joined.audit != wish.seen:
        yield "waiver.other_audit", "The waiver is about another audit: make a new one."
