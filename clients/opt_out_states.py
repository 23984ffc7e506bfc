"""The states that a store's events lead to, worked out once for as long as nobody else writes."""

from collections.abc import Callable, Iterator
from itertools import islice

from fedcore.opt_out_batches import Document, entries_of, last_sequence_of
from fedcore.opt_out_states import key_versions_of, take
from fedcore.optouts import States, advance

Documents = Callable[[int], Iterator[Document]]


class KeptStates:
    """The states after all events of a store.

    To be asked in a transaction.
    Guarantees: they are those of the events that the transaction sees, if whoever writes through
        this connection calls `forget` when events were deleted or a transaction failed. What other
        processes write is noticed by SQLite's number of it, `PRAGMA data_version`.
    Attributes: `last` is the number of the last event, `key_versions` are those of the keys under
        which the events are.
    """

    def __init__(self, data_version: Callable[[], int], documents: Documents) -> None:
        """Take what returns SQLite's number, and what yields documents after an event's number."""
        self._number_now, self._documents = data_version, documents
        self.forget()

    def forget(self) -> None:
        """Work everything out anew when asked for the next time."""
        self._states, self.last, self._data_version = States(), 0, -1
        self.key_versions = set[int]()

    def current(self) -> States:
        """Return the states after all events; they are not to be changed.

        Raises: ConflictError `opt_out.act_not_open`.
        """
        version = self._number_now()
        if version != self._data_version:
            self.forget()
            self._data_version = version
        try:
            for document in self._documents(self.last):
                take(self._states, document)
                self.key_versions |= key_versions_of(document)
                self.last = last_sequence_of(document)
        except BaseException:
            self.forget()  # of the last document a part may have been taken in
            raise
        return self._states

    def after(self, sequence: int) -> States:
        """Return the states after the event of this number. Raises: as `current`."""
        current = self.current()
        if sequence == self.last:
            return current
        states = States()
        entries = (entry for document in self._documents(0) for entry in entries_of(document))
        advance(states, islice(entries, sequence))
        return states
