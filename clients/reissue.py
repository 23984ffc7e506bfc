"""What is known of customers under former pseudonym keys, carried over to the present one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from clients.pseudonyms import Pseudonymiser
from clients.statements import Seen, Statement
from fedcore.optouts import OptOutEvent, State, Subject, live_versions, state_after

CHANNEL = "rotation"


class Histories:
    """All that a unit's events say of each objection and consent, in sequence."""

    def __init__(self) -> None:
        self.sequence = 0
        self._events: dict[Subject, list[OptOutEvent]] = {}
        self._subjects: dict[str, list[Subject]] = {}
        self._states: dict[Subject, State] = {}

    def note(self, events: Iterable[OptOutEvent]) -> None:
        """Note the events that come next. Raises: ConflictError `opt_out.act_not_open`."""
        for event in events:
            self._states[event.subject] = state_after(event, self._states)
            if event.subject not in self._events:
                self._events[event.subject] = []
                self._subjects.setdefault(event.pseudonym, []).append(event.subject)
            self._events[event.subject].append(event)
            self.sequence = event.sequence

    def live(self, pseudonym: str) -> list[Subject]:
        """Return what is known under a pseudonym and was not re-issued."""
        known = self._subjects.get(pseudonym, ())
        return [subject for subject in known if self._states[subject] != "reissued"]

    def of(self, subject: Subject) -> tuple[OptOutEvent, ...]:
        """Return the events of one objection or consent."""
        return tuple(self._events[subject])

    def live_versions(self) -> Mapping[int, int]:
        """Return how many objections and consents still need each key version."""
        return live_versions((e for kept in self._events.values() for e in kept), self._states)


@dataclass(frozen=True)
class Draft:
    """Events of a unit that are about to be stored, numbered from its next sequence on.

    Attributes:
        unit: whose they are.
        key_version: of the present pseudonym key.
        pseudonymiser: with the present key, and with the former ones.
        now: when they are taken in.
        next_sequence: the number of the first of them.
        histories: what the store holds; None where there is no former key.
        seen: which statements are known; None to take each as new.
        events: the draft so far.
        numbers: of the new statements among the events.
    """

    unit: str
    key_version: int
    pseudonymiser: Pseudonymiser
    now: datetime
    next_sequence: int
    histories: Histories | None
    seen: Seen | None
    events: list[OptOutEvent] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def take(self, statement: Statement) -> None:
        """Add a statement unless it is known; what is known of its customer under former keys is
        carried over before, so that what follows it follows all of that.

        Raises: DataError `data.subject_missing`; ConflictError `opt_out.act_not_open`, where there
            are former keys.
        """
        self.carry(statement.identifier)
        event = OptOutEvent(
            unit=self.unit,
            sequence=self.next_sequence + len(self.events),
            pseudonym=self.pseudonymiser.pseudonym(statement.identifier),
            key_version=self.key_version,
            purpose=statement.purpose,
            channel=statement.channel,
            ground=statement.ground,
            received_at=statement.received_at or self.now,
            act=statement.act,
            reason=statement.reason,
        )
        if self.seen is None or self.seen.is_new(event):
            self._write(event)
            self.numbers.append(event.sequence)

    def carry(self, identifier: str) -> bool:
        """Add the events that carry a customer over from former keys to the present one.

        Each objection and consent is repeated from its first word to its last, with channel,
        ground, reason and times as they were: its state is the same, and the same statement is
        still known. Only then is the old one ended, by the name of its successor.
        Returns: whether anything was known of the customer under a former key.
        """
        if self.histories is None:
            return False
        present, before = self.pseudonymiser.pseudonym(identifier), len(self.events)
        for pseudonym in self.pseudonymiser.former(identifier):
            for subject in self.histories.live(pseudonym):
                said = self.histories.of(subject)
                for event in said:
                    self._repeat(event, pseudonym=present, key_version=self.key_version)
                end = {"act": "reissued", "successor": present}
                self._repeat(said[-1], **end, channel=CHANNEL, received_at=self.now)
        if self.seen is not None:
            self.seen.catch_up(self.events[before:])
        return len(self.events) > before

    def _repeat(self, event: OptOutEvent, **changes: Any) -> None:
        sequence = self.next_sequence + len(self.events)
        first = {"repeats": event.repeats or event.sequence}
        self._write(event.model_copy(update={**changes, **first, "sequence": sequence}))

    def _write(self, event: OptOutEvent) -> None:
        if self.histories is not None:
            self.histories.note([event])
        self.events.append(event)
