"""The line that a unit's opt-outs take between its store and governance.

Guarantees: each document reaches governance once, in sequence; what was taken in over a store that
    had been lost, or restored from an older copy, goes on acting under other numbers.
"""

from dataclasses import dataclass
from pathlib import Path

from clients.bulletin import BulletinStore
from clients.clock import Clock
from clients.durable import exclusive
from clients.settings import NodeSettings
from fedcore.errors import ConflictError, RollbackError
from fedcore.gateway import NodeGateway
from fedcore.opt_out_batches import is_batch
from fedcore.opt_out_history import HistoryRequest, unpack
from fedcore.signing import Envelope, SigningKey, sign_record


@dataclass(frozen=True)
class OptOutLine:
    """A unit's opt-outs on their way to governance and back, signed with the node's key.

    Attributes:
        lock: of the unit's state; held for each write, and never while governance is asked.
    """

    store: BulletinStore
    governance: NodeGateway
    settings: NodeSettings
    key: SigningKey
    clock: Clock
    lock: Path

    def hand_over(self) -> None:
        """Hand what is pending to governance.

        Raises: ConflictError `opt_out.sequence_known` when governance has others under these
            numbers; UnreachableError.
        """
        for document in self.store.pending_signed_by(self.key):
            if is_batch(document, self.settings.realm):
                self.governance.submit_opt_outs(document)
            else:
                self.governance.submit_opt_out(document)

    def fetch_missing(self, last_sequence: int) -> None:
        """Take back the unit's own events up to a sequence, as far as the store lacks them.

        Raises: RollbackError `bulletin.rollback` when governance leaves some out; SignatureError of
            what none of the unit's keys has signed.
        """
        while (held := self.store.next_sequence() - 1) < last_sequence:
            part = self._part(held)
            with exclusive(self.lock):
                self.store.add(*part)
            if self.store.next_sequence() - 1 <= held:
                raise RollbackError("bulletin.rollback", "governance leaves out opt-outs")

    def give_way(self) -> None:
        """Put what is pending behind all that governance has of the unit.

        Raises: as `BulletinStore.give_way`, and as `fetch_missing`; nothing changes then.
        """
        after = self.store.confirmed_sequence()
        known: list[Envelope] = []
        last = after
        while part := self._part_or_none(last):
            known += part
            reached = self.store.reach(part)
            if reached <= last:
                raise RollbackError("bulletin.rollback", "governance repeats opt-outs")
            last = reached
        with exclusive(self.lock):
            self.store.give_way(known, self.key)

    def _part_or_none(self, after: int) -> list[Envelope]:
        try:
            return self._part(after)
        except ConflictError as error:
            if error.code != "opt_out.history_ended":
                raise
            return []

    def _part(self, after: int) -> list[Envelope]:
        """Return the next of the unit's documents that governance has; not to be believed yet."""
        request = HistoryRequest(
            unit=self.settings.unit, after_sequence=after, requested_at=self.clock.now()
        )
        signed = sign_record(request, self.key, self.settings.realm)
        return list(unpack(self.governance.fetch_opt_outs(signed), self.settings.realm))
