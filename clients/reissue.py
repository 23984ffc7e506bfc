"""What is known of customers under former pseudonym keys, carried over to the present one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from clients.pseudonyms import Pseudonymiser
from clients.statements import Seen, Statement
from fedcore.optouts import Entry, States, Subject, advance, live_versions, microseconds

CHANNEL = "rotation"


class Histories:
    """All that a unit's events say of each objection and consent, in sequence."""

    def __init__(self) -> None:
        self.sequence = 0
        self._entries: dict[Subject, list[tuple[int, Entry]]] = {}
        self._subjects: dict[str, list[Subject]] = {}
        self._states: States = {}

    def note(self, entries: Iterable[Entry]) -> None:
        """Note the events that come next. Raises: ConflictError `opt_out.act_not_open`."""
        found = list(entries)
        advance(self._states, found)
        for entry in found:
            self.sequence += 1
            if entry.subject not in self._entries:
                self._entries[entry.subject] = []
                self._subjects.setdefault(entry.pseudonym, []).append(entry.subject)
            self._entries[entry.subject].append((self.sequence, entry))

    def live(self, pseudonym: str) -> list[Subject]:
        """Return what is known under a pseudonym and was not re-issued."""
        known = self._subjects.get(pseudonym, ())
        return [
            subject
            for subject in known
            if self._states[subject[1], subject[2]][subject[0]] != "reissued"
        ]

    def of(self, subject: Subject) -> tuple[tuple[int, Entry], ...]:
        """Return the events of one objection or consent, each with its sequence."""
        return tuple(self._entries[subject])

    def live_versions(self) -> Mapping[int, int]:
        """Return how many objections and consents still need each key version."""
        every = (entry for kept in self._entries.values() for _, entry in kept)
        return live_versions(every, self._states)


@dataclass(frozen=True)
class Draft:
    """Events of a unit that are about to be stored, numbered from its next sequence on.

    Attributes:
        key_version: of the present pseudonym key.
        pseudonymiser: with the present key, and with the former ones.
        now_us: when they are taken in, in microseconds since 1970.
        next_sequence: the number of the first of them.
        histories: what the store holds; None where there is no former key.
        seen: which statements are known; None to take each as new.
        entries: the draft so far.
        numbers: of the new statements among them.
    """

    key_version: int
    pseudonymiser: Pseudonymiser
    now_us: int
    next_sequence: int
    histories: Histories | None
    seen: Seen | None
    entries: list[Entry] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def take(self, statement: Statement) -> None:
        """Add a statement unless it is known; what is known of its customer under former keys is
        carried over before, so that what follows it follows all of that.

        Raises: DataError `data.subject_missing`; ConflictError `opt_out.act_not_open`, where there
            are former keys.
        """
        self.carry(statement.identifier)
        at = statement.received_at
        entry = Entry(
            pseudonym=self.pseudonymiser.pseudonym(statement.identifier),
            said=statement.said,
            received_us=microseconds(at) if at else self.now_us,
            key_version=self.key_version,
        )
        if self.seen is None or self.seen.is_new(entry):
            self.numbers.append(self.next_sequence + len(self.entries))
            self._write(entry)

    def carry(self, identifier: str) -> bool:
        """Add the events that carry a customer over from former keys to the present one.

        Each objection and consent is repeated from its first word to its last, with channel,
        ground, reason and times as they were: its state is the same, and the same statement is
        still known. Only then is the old one ended, by the name of its successor.
        Returns: whether anything was known of the customer under a former key.
        """
        if self.histories is None:
            return False
        present, before = self.pseudonymiser.pseudonym(identifier), len(self.entries)
        for pseudonym in self.pseudonymiser.former(identifier):
            for subject in self.histories.live(pseudonym):
                self._carry(self.histories.of(subject), present)
        if self.seen is not None:
            for entry in self.entries[before:]:
                self.seen.is_new(entry)
        return len(self.entries) > before

    def _carry(self, known: tuple[tuple[int, Entry], ...], present: str) -> None:
        for sequence, entry in known:
            first = entry._replace(repeats=entry.repeats or sequence)
            self._write(first._replace(pseudonym=present, key_version=self.key_version))
        end = first.said._replace(act="reissued", channel=CHANNEL)
        self._write(first._replace(said=end, received_us=self.now_us, successor=present))

    def _write(self, entry: Entry) -> None:
        if self.histories is not None:
            self.histories.note([entry])
        self.entries.append(entry)
