"""A unit's own side: keys, ledger, opt-outs, contract, and the line to governance."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog

from clients import runtime
from clients.budget import Cap
from clients.bulletin import BulletinStore
from clients.data import Faults, Reading, check_source, holds_customer, refuse_faults
from clients.durable import exclusive
from clients.groups import GroupStore, part_of, reading_with
from clients.handovers import KeyStore
from clients.ledger import Ledger
from clients.left_out import LeftOut
from clients.opt_out_line import OptOutLine
from clients.pseudonyms import Pseudonymiser
from clients.reissue import Draft, Histories
from clients.sent import open_gateway
from clients.settings import NodeSettings
from clients.sources import source_of
from clients.splits import Split, open_split
from clients.state import StateDir
from clients.statements import Seen, Statement, parse_ground, verify_statement
from fedcore.atomic import write_atomically
from fedcore.bulletins import AnyBulletin, Bulletin, BulletinRequest
from fedcore.contracts import Contract
from fedcore.errors import ConflictError, DataError, MismatchError, RefusedError, UnreachableError
from fedcore.group_opt_outs import GroupPart
from fedcore.handovers import GovernanceKeys
from fedcore.opt_out_batches import documents_of
from fedcore.optouts import microseconds
from fedcore.record import Record
from fedcore.signing import Envelope, sign_record
from fedcore.trust import verify_bulletin, verify_bulletin_time

R = TypeVar("R", bound=Record)
log = structlog.get_logger("fedpact.node")


class Site:
    """A unit's files and keys, opened from its settings.

    Attributes:
        settings: the unit's settings and policy.
        runtime: clock, randomness and gateway.
        key: the node's signing key.
        ledger: the privacy ledger of the customer base.
        opt_outs: the unit's opt-outs and its bulletin.
        group: the opt-outs of the unit's group.
    """

    def __init__(self, settings: NodeSettings) -> None:
        """Open keys, ledger and opt-outs. Raises: FedError of any of them."""
        self.settings = settings
        self.runtime = runtime.SEAM.current(settings.realm)
        self.state = StateDir(settings.state_dir)
        self._gateway = open_gateway(settings)
        self.key = self.state.node_key()
        self._keys = KeyStore(settings)
        self._contracts: dict[str, Contract] = {}
        self.state.pseudonym_keys()  # without them nothing may be read or taken in
        self._histories = Histories()
        self.ledger = Ledger(
            self.state.ledger,
            settings.unit,
            settings.subject_namespace,
            Cap(epsilon=settings.epsilon_cap, delta=settings.delta),
        )
        self.opt_outs = BulletinStore(
            self.state.bulletin,
            settings.unit,
            self.key.public,
            settings.realm,
            self.state.former_keys(),
        )
        own_keys = (self.key.public, *self.state.former_keys())
        self.group = GroupStore(self.state, settings.unit, own_keys, settings.realm)

    def close(self) -> None:
        """Close the files."""
        self.ledger.close()
        self.opt_outs.close()
        self.group.close()

    def check(
        self,
        contract_digest: str,
        watch: Callable[[Reading, LeftOut], None] = lambda *_: None,
    ) -> Faults:
        """Hold the source against a contract for the operator, and record whether the node is
        available.

        Args: `watch` is shown what was read, whatever comes of the check, and who of it must be
            in nothing that is made of it.
        Returns: the faults whose customers are left out, none unless the settings say `drop`.
        Raises: DataError that names columns and rules; the node then stays unavailable for this
            contract until a later check succeeds.
        """
        contract = self.contract(contract_digest)
        absent, now = self.settings.absent_fields, self.runtime.clock.now()
        source = source_of(self.settings)
        pseudonymiser, left_out = self.reading(contract, None)
        try:
            faults = check_source(
                source, contract, pseudonymiser, now.date(), lambda found: watch(found, left_out)
            )
            if self.settings.faulty_rows == "refuse":
                refuse_faults(faults)
        except DataError:
            self.state.set_checked(available=False, at=now, contract=contract_digest, absent=absent)
            raise
        self.state.set_checked(available=True, at=now, contract=contract_digest, absent=absent)
        log.info("node.checked", unit=self.settings.unit, faults=faults.sentence())
        return faults

    def opt_out(self, identifier: str, purpose: str, contract: Contract, ground: str) -> int:
        """Take in an opt-out; it acts at once here. Returns: its sequence number.

        Governance is told at the next synchronisation, under the pseudonym only.
        Raises: DataError `opt_out.ground_unknown`, and as `verify_statement`.
        """
        statement = Statement(identifier, purpose, parse_ground(ground))
        return self.take_in([statement], contract)[0]

    def verify_statement(self, statement: Statement, contract: Contract) -> None:
        """Refuse a statement that must not become an event.

        Raises: DataError; for a confirmed erasure also `opt_out.still_in_source`.
        """
        verify_statement(statement, contract, self.runtime.clock.now())
        if statement.act == "erased" and holds_customer(
            source_of(self.settings), contract, self.pseudonymiser(contract), statement.identifier
        ):
            raise DataError(
                "opt_out.still_in_source",
                "the customer is still in the unit's source: erase the row first",
            )

    def take_in(
        self, statements: Sequence[Statement], contract: Contract, seen: Seen | None = None
    ) -> list[int]:
        """Number, sign and store statements, all of them or none; they act at once here.

        Args: `seen` leaves out those that the store holds already.
        Returns: the sequence numbers of the new ones.
        Raises: DataError as `verify_statement`; ConflictError `opt_out.act_not_open`.
        """
        for statement in statements:
            self.verify_statement(statement, contract)
        return self.take_in_verified(statements, contract, seen)

    def take_in_verified(
        self, statements: Sequence[Statement], contract: Contract, seen: Seen | None = None
    ) -> list[int]:
        """Do as `take_in` with statements that `verify_statement` was asked about."""
        with exclusive(self.state.lock):
            draft = self._draft(statements, contract, seen)
            self._store(draft)
        if seen is not None:
            seen.sequence += len(draft.entries)
        return draft.numbers

    def count_new(self, statements: Sequence[Statement], contract: Contract, seen: Seen) -> int:
        """Return how many of these statements the store does not hold yet."""
        return len(self._draft(statements, contract, seen).numbers)

    def reissue(self, identifiers: Sequence[str], contract: Contract) -> int:
        """Carry what is known of these customers over to the present pseudonym key, all or none.

        Returns: how many of them were carried over; nobody twice.
        """
        with exclusive(self.state.lock):
            draft = self._draft((), contract, None)
            carried = sum(draft.carry(identifier) for identifier in identifiers)
            self._store(draft)
        return carried

    def key_versions(self) -> Mapping[int, int]:
        """Return how many objections and consents still need each pseudonym key, by version."""
        histories = Histories()
        histories.note(self.opt_outs.entries())
        return histories.live_versions()

    def _draft(
        self, statements: Sequence[Statement], contract: Contract, seen: Seen | None
    ) -> Draft:
        ring, histories = self.state.pseudonym_keys(), None
        newest = self.opt_outs.newest_key_version()
        ring.verify_has(frozenset() if newest is None else frozenset({newest}))
        if seen is not None:
            seen.catch_up(self.opt_outs.entries(seen.sequence))
        if ring.has_former:
            # What is drafted and not stored must not be remembered.
            histories, self._histories = self._histories, Histories()
            histories.note(self.opt_outs.entries(histories.sequence))
        draft = Draft(
            key_version=ring.version,
            pseudonymiser=ring.pseudonymiser(contract.subject),
            now_us=microseconds(self.runtime.clock.now()),
            next_sequence=self.opt_outs.next_sequence(),
            histories=histories,
            seen=seen,
        )
        for statement in statements:
            draft.take(statement)
        return draft

    def _store(self, draft: Draft) -> None:
        documents = documents_of(self.settings.unit, draft.next_sequence, draft.entries)
        signed = [sign_record(document, self.key, self.settings.realm) for document in documents]
        self.opt_outs.add(*signed, known_open=draft.histories is not None)
        self._histories = draft.histories or self._histories

    def synchronise(self) -> Bulletin:
        """Hand pending opt-outs to governance, have the ledger's head witnessed, take its bulletin,
        and close the runs that it revokes.

        Guarantees: heads reach governance in the order of the ledger, whichever of the node's
            processes claims them: an overtaken claim would look like an older ledger; meanwhile
            opt-outs are taken in, however long governance takes to answer.
        Raises: UnreachableError; TrustError when the bulletin must not be believed; RollbackError
            `ledger.rollback` when governance has seen a newer ledger.
        """
        with exclusive(self.state.line_lock):
            self._hand_over()
            for event in self.group.pending(self.group_part(), self.key):
                self._gateway.submit_group_opt_out(event)
            before, asked = self.group_part(), self.runtime.clock.boot()
            bulletin = self._fetch_bulletin()
            while not self._take_group(bulletin, before):
                bulletin = self._fetch_bulletin()
            self._line().fetch_missing(bulletin.last_sequence)
            with exclusive(self.state.lock):
                self.opt_outs.apply(bulletin, asked)
                self.ledger.mark_witnessed(bulletin.witnessed)
                self.ledger.close_runs(bulletin.revoked_runs, "revoked", self.runtime.clock.now())
        return bulletin

    def _take_group(self, bulletin: Bulletin, before: GroupPart | None) -> bool:
        with exclusive(self.state.lock):
            return self.group.take(bulletin.group, before)

    def set_aside(self, statement: Envelope) -> None:
        """Hand a signed GroupSetAside to governance; it acts with the next bulletin."""
        self._gateway.set_aside_group_opt_out(statement)

    def _hand_over(self) -> None:
        try:
            self._line().hand_over()
        except ConflictError as error:
            if error.code != "opt_out.sequence_known":
                raise
            log.warning("opt_outs.renumbered", unit=self.settings.unit)
            self._line().give_way()
            self._histories = Histories()
            self._line().hand_over()

    def governance_keys(self, signer: str) -> GovernanceKeys:
        """Return governance's keys, learned anew when this signer is not one of them.

        Raises: TrustError when governance has gone back on a hand-over.
        """
        return self._keys.keys_for(signer, self._gateway)

    def governance_key(self) -> str:
        """Return the key that governance signs with now, as far as this unit has heard."""
        return self._keys.load().current

    def open_governed(self, envelope: Envelope, record_type: type[R]) -> R:
        """Return a record that governance signed, with the key that it had then.

        Raises: SignatureError; TrustError as `governance_keys`.
        """
        keys = self.governance_keys(envelope.signer)
        return keys.open(envelope, record_type, self.settings.realm)

    def _fetch_bulletin(self) -> Bulletin:
        seen = self.opt_outs.log_position()
        request = BulletinRequest(
            unit=self.settings.unit,
            nonce=os.urandom(32).hex(),
            after_sequence=self.opt_outs.confirmed_sequence(),
            checkpoint_size=seen.size if seen else 0,
            head=self.ledger.claim(),
            requested_at=self.runtime.clock.now(),
            answer="bulletin/2",
            group_seen=self.group.seen(self.group_part()),
        )
        answer = self._gateway.sync_bulletin(sign_record(request, self.key, self.settings.realm))
        keys = self.governance_keys(answer.signer)
        bulletin = keys.open_current(answer, Bulletin, self.settings.realm)
        verify_bulletin(bulletin, request, self.settings.realm)
        verify_bulletin_time(bulletin, self.runtime.clock.now())
        return bulletin

    def _line(self) -> OptOutLine:
        parts = (self.opt_outs, self._gateway, self.settings, self.key, self.runtime.clock)
        return OptOutLine(*parts, self.state.lock)

    def bulletin_in_force(self) -> AnyBulletin:
        """Return a fresh bulletin, pulling a new one when half of the old one's life is over."""
        latest, age = self.opt_outs.latest(), self.opt_outs.age(self.runtime.clock)
        if latest is None or age is None or age > (latest.valid_until - latest.issued_at) / 2:
            try:
                return self.synchronise()
            except UnreachableError:
                log.warning("governance.unreachable", unit=self.settings.unit)
        return self.opt_outs.verify_fresh(self.runtime.clock)

    def witnessed_bulletin(self) -> AnyBulletin:
        """Return a bulletin under which the head just written is witnessed, or one round may run
        ahead.
        """
        try:
            return self.synchronise()
        except UnreachableError:
            self.ledger.verify_one_unwitnessed()
            log.warning("governance.unreachable", unit=self.settings.unit)
            return self.opt_outs.verify_fresh(self.runtime.clock)

    def require_checked(self, contract: str, read: set[str]) -> None:
        """Refuse unless the operator's last check found the source fit for a contract, and nothing
        is read of the fields that the unit has declared to lack.

        Raises: RefusedError `node.unchecked`; DataError `data.field_absent`.
        """
        if not self.state.checked(contract, self.settings.absent_fields):
            raise RefusedError(
                [("node.unchecked", "run `fedpact node check` and mend what it names")]
            )
        source_of(self.settings).mapping.verify_has(read)

    def split(self, contract: Contract) -> Split:
        """Return who is set aside for evaluations. Raises: InvalidRecordError as `open_split`."""
        used = (one.split for one in self.ledger.reservations() if one.split)
        return open_split(self.state, contract.contract_id, next(used, None))

    def contract(self, digest: str) -> Contract:
        """Return the signed contract of this digest, fetched once and kept.

        Raises: TrustError when it must not be believed; UnreachableError.
        """
        if digest not in self._contracts:
            self._contracts[digest] = self._load_contract(digest)
        return self._contracts[digest]

    def _load_contract(self, digest: str) -> Contract:
        path = self.state.contract(digest)
        kept = path.exists()
        envelope = (
            Envelope.from_bytes(path.read_bytes()) if kept else self._gateway.fetch_contract(digest)
        )
        contract = self.open_governed(envelope, Contract)
        if contract.digest != digest:
            raise MismatchError(
                "contract.other_digest", "governance answered with another contract"
            )
        if contract.subject.namespace != self.settings.subject_namespace:
            raise MismatchError(
                "contract.other_namespace", "the contract identifies customers by another rule"
            )
        if not kept:
            write_atomically(path, envelope.to_bytes())
        return contract

    def pseudonymiser(self, contract: Contract) -> Pseudonymiser:
        """Return the unit's pseudonymiser under the contract's subject rule."""
        return self.state.pseudonym_keys().pseudonymiser(contract.subject)

    def reading(self, contract: Contract, purpose: str | None) -> tuple[Pseudonymiser, LeftOut]:
        """Return what the reader of rows needs for a purpose, or for none: the pseudonymiser, and
        what says whom it must not yield.

        Guarantees: the keys are all that the opt-outs need, whatever another process does to them
            meanwhile.
        Raises: InvalidRecordError `pseudonym.key_lost`; FedError as `GroupStore.excluded`.
        """
        left_out = self.opt_outs.left_out(contract, purpose)
        ring = self.state.pseudonym_keys()  # after the events: a key is listed before it is used
        ring.verify_has(left_out.key_versions)
        part = self.group_part()
        others = self.group.excluded(part, contract, purpose) if purpose else frozenset()
        maker = reading_with(ring, self.group, part, contract.subject)
        return maker, replace(left_out, excluded=left_out.excluded | others)

    def group_part(self) -> GroupPart | None:
        """Return what the bulletin in force says of the unit's group; None where there is none."""
        return part_of(self.opt_outs.latest())
