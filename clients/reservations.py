"""What a ledger's reservations add up to: an open run counts whole, a closed one as it was begun.

Guarantees:
    - a run counts as less than it reserved only after the entry that closes it, and never as less
      than its orders that were begun: each of them is an event that was chosen, and charged,
      before a row was read (ADR 0051);
    - a closed run counts one exchange more than the ledger has orders, as far as it had reserved
      one: a disk from before the newest order, which may have been ahead of the witness, knows
      nothing of it;
    - an order of a closed run is no part of a sound ledger, whoever wrote it.
"""

from collections import Counter
from dataclasses import replace
from datetime import datetime
from typing import Any

from clients.budget import Groups, Reserved, Why, read_reserved
from clients.ledger_entries import Entry
from fedcore.errors import RefusedError

# So many orders may be answered ahead of the last witnessed head, and be lost with the disk.
UNSEEN = 1


class Reservations:
    """The reservations of a ledger, noted entry by entry.

    Attributes:
        groups: the same, those of equal terms as one.
    """

    def __init__(self) -> None:
        self.groups = Groups()
        self._reserved: list[Reserved] = []
        self._places: dict[str, int] = {}
        self._exchanges: dict[str, int] = {}
        self._begun: Counter[str] = Counter()

    def note(self, entry: Entry) -> None:
        """Count the next entry in.

        Raises: KeyError, ValueError for one that is damaged, or does not follow from those before.
        """
        if entry.kind == "reserve":
            self._reserve(entry)
        elif entry.kind == "order":
            self._order(entry)
        elif entry.kind == "close":
            self._close(entry)

    def listed(self) -> list[Reserved]:
        """Return them as they count now, in the order in which they were made."""
        return list(self._reserved)

    def find(self, run_id: str) -> Reserved | None:
        """Return what a run has reserved, as it counts now; None where it has reserved nothing."""
        place = self._places.get(run_id)
        return None if place is None else self._reserved[place]

    def begun(self, run_id: str) -> int:
        """Return how many exchanges of a run were begun."""
        return self._begun[run_id]

    def is_open(self, run_id: str) -> bool:
        """Return whether a run has reserved and may go on."""
        run = self.find(run_id)
        return run is not None and run.closed is None and not run.rebuilt

    def verify_open(self, run_id: str) -> None:
        """Refuse a run that was closed; one that has reserved nothing yet is not.

        Raises: RefusedError `permit.revoked` when governance's revocation has closed it, else
            `order.run_closed`.
        """
        run = self.find(run_id)
        if run is None or run.closed is None:
            return
        if run.closed == "revoked":
            text = "governance has revoked the permit of this run"
            raise RefusedError([("permit.revoked", text)])
        raise RefusedError([("order.run_closed", "the run is closed at this unit")])

    def _reserve(self, entry: Entry) -> None:
        one = read_reserved(entry.body)
        self._places.setdefault(one.run_id, len(self._reserved))
        self._exchanges.setdefault(one.run_id, entry.body["exchanges"])
        self._reserved.append(one)
        self.groups.add(one)

    def _order(self, entry: Entry) -> None:
        run = self.find(entry.body["run_id"])
        if run is not None and run.closed:
            raise ValueError("an order follows the entry that closes its run")
        self._begun[entry.body["run_id"]] += 1

    def _close(self, entry: Entry) -> None:
        place = self._places[entry.body["run_id"]]
        whole, exchanges = self._reserved[place], self._exchanges[entry.body["run_id"]]
        begun = self._begun[whole.run_id]
        if whole.closed or whole.rebuilt or begun != entry.body["exchanges"]:
            raise ValueError("a run is closed that was not open, or as another one")
        steps = whole.event.steps // exchanges * min(begun + UNSEEN, exchanges)
        event = whole.event.model_copy(update={"steps": steps})
        self._reserved[place] = replace(whole, event=event, closed=entry.body["why"])
        self.groups.remove(whole)
        self.groups.add(self._reserved[place])


def close_body(run_id: str, why: Why, noted: Reservations, at: datetime) -> dict[str, Any]:
    """Return the entry that closes a run, of which so much was begun."""
    return {
        "kind": "close",
        "run_id": run_id,
        "exchanges": noted.begun(run_id),
        "why": why,
        "at": at.isoformat(),
    }
