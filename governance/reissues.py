"""An objection across changes of pseudonym keys: one history, under whichever key it goes on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from fedcore.errors import MismatchError
from fedcore.optouts import Entry, Subject, is_repeat
from registry.enforcement import find_states
from registry.optouts import StoredEvent, find_entries, find_events


@dataclass(frozen=True)
class Followed:
    """What is known of an event beyond its own words.

    Attributes:
        said: the event; for one that repeats another under a later key, that one.
        newest: the event that led to the state, as it was first said.
        state: of the objection now, under the key that it goes on under.
    """

    said: StoredEvent
    newest: StoredEvent
    state: str


def follow(session: Session, unit: str, found: Sequence[StoredEvent]) -> dict[int, Followed]:
    """Return what is known of each of these events of a unit, by its sequence.

    Guarantees: a re-issue makes nothing younger, and nothing older than what it repeats; where
        nothing was re-issued there are two queries, whatever the number of events.
    """
    current = _current(session, unit, {stored.event.subject for stored in found})
    while missing := {heir for heir in _heirs(current).values() if heir not in current}:
        current |= _current(session, unit, missing)
    newest = [stored for stored, _ in current.values()]
    firsts = _firsts(session, unit, [*found, *newest])
    heirs, followed = _heirs(current), {}
    for stored in found:
        subject = stored.event.subject
        while subject in heirs:  # it ends: each was re-issued later than the one before it
            subject = heirs[subject]
        last, state = current[subject]
        followed[stored.event.sequence] = Followed(
            said=firsts.get(stored.event.repeats or 0, stored),
            newest=firsts.get(last.event.repeats or 0, last),
            state=state,
        )
    return followed


def verify_repeats(session: Session, unit: str, entries: Iterable[Entry]) -> None:
    """Refuse events of a unit of which one repeats another event than it says.

    Guarantees: as many queries for many as for one.
    Raises: MismatchError `opt_out.repeat_differs`.
    """
    repeated = [(entry, entry.repeats) for entry in entries if entry.repeats is not None]
    firsts = find_entries(session, unit, {number for _, number in repeated}) if repeated else {}
    for entry, number in repeated:
        if number not in firsts or not is_repeat(entry, firsts[number]):
            raise MismatchError(
                "opt_out.repeat_differs", f"opt-out {number} of this unit says something else"
            )


def _current(
    session: Session, unit: str, subjects: Iterable[Subject]
) -> dict[Subject, tuple[StoredEvent, str]]:
    states = find_states(session, unit, set(subjects))
    events = find_events(session, unit, {state.sequence for state in states.values()})
    return {subject: (events[found.sequence], found.state) for subject, found in states.items()}


def _heirs(current: dict[Subject, tuple[StoredEvent, str]]) -> dict[Subject, Subject]:
    return {
        subject: stored.event.heir
        for subject, (stored, _) in current.items()
        if stored.event.heir is not None
    }


def _firsts(session: Session, unit: str, found: Sequence[StoredEvent]) -> dict[int, StoredEvent]:
    wanted = {stored.event.repeats for stored in found if stored.event.repeats is not None}
    return find_events(session, unit, wanted) if wanted else {}
