"""One unit's node: it obeys what is signed, keeps its own policy, and has the last word over its
rows.

A train order is worked off in this order, and any step may refuse: permit, order, model, policy,
ledger (written), bulletin (governance witnesses the ledger's head), rows, training, permit again,
reply stored, reply sent.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import structlog

from clients import policy, runtime
from clients.bulletin import BulletinStore
from clients.data import Examples, check_source, load_examples, refuse_faults
from clients.ledger import Cap, Ledger, Reservation
from clients.pseudonyms import Pseudonymiser
from clients.replies import decode_reply, encode_reply
from clients.settings import NodeSettings
from clients.state import StateDir, write_atomically
from clients.training import train_locally
from fedcore import canonical
from fedcore.contracts import Contract, purpose_line
from fedcore.encodings import input_names
from fedcore.errors import (
    DataError,
    FedError,
    MismatchError,
    RefusedError,
    TrustError,
    UnreachableError,
)
from fedcore.optouts import Bulletin, BulletinRequest, OptOutEvent
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.rounds import Cosignature, Order, Receipt, RoundReport
from fedcore.signing import Envelope, open_envelope, sign_record
from fedcore.tasks.task import load_task, shapes_of
from fedcore.trust import (
    verify_bulletin,
    verify_bulletin_time,
    verify_not_forked,
    verify_order,
    verify_order_model,
    verify_permit,
    verify_permit_node,
    verify_permit_time,
)
from fedcore.version import VERSION
from fedcore.weights import Weights, decode_weights, encode_weights
from fedcore.wire import RollCallReply, RollCallRequest, TrainReply, TrainRequest

log = structlog.get_logger("fedpact.node")


@dataclass(frozen=True)
class _Admitted:
    """A train order after everything signed about it was verified."""

    permit: Permit
    plan: TrainingPlan
    order: Order
    weights: Weights


class Node:
    """A node, opened from its settings for one message; nothing is kept in memory between
    messages.
    """

    def __init__(self, settings: NodeSettings) -> None:
        """Open keys, ledger and opt-outs. Raises: FedError of any of them."""
        self._settings = settings
        self._runtime = runtime.current(settings.realm)
        self._gateway = self._runtime.gateway(settings)
        self.state = StateDir(settings.state_dir)
        self.key = self.state.node_key()
        self._contracts: dict[str, Contract] = {}
        self._pseudonym_key = self.state.pseudonym_key()
        self.ledger = Ledger(
            self.state.ledger,
            settings.unit,
            settings.subject_namespace,
            Cap(epsilon=settings.epsilon_cap, delta=settings.delta),
        )
        self.opt_outs = BulletinStore(
            self.state.bulletin, settings.unit, self.key.public, settings.realm
        )

    def close(self) -> None:
        """Close the files."""
        self.ledger.close()
        self.opt_outs.close()

    def check(self, contract_digest: str) -> Contract:
        """Hold the source against a contract for the operator, and record whether the node is
        available.

        Returns: the contract. Raises: DataError that names columns and rules; the node then stays
            unavailable for this contract until a later check succeeds.
        """
        contract = self.contract(contract_digest)
        now = self._runtime.clock.now()
        try:
            faults = check_source(self._settings.source, contract, self._pseudonymiser(contract))
            if self._settings.faulty_rows == "refuse":
                refuse_faults(faults)
        except DataError:
            self.state.set_checked(available=False, at=now, contract=contract_digest)
            raise
        self.state.set_checked(available=True, at=now, contract=contract_digest)
        log.info("node.checked", unit=self._settings.unit, faults=faults.sentence())
        return contract

    def opt_out(self, identifier: str, purpose: str, contract: Contract, ground: str) -> int:
        """Take in an opt-out; it acts at once here. Returns: its sequence number.

        Governance is told at the next synchronisation, under the pseudonym only.
        Raises: DataError `data.subject_missing`, `opt_out.purpose_unknown`.
        """
        if purpose not in {known.id for known in contract.purposes}:
            raise DataError(
                "opt_out.purpose_unknown",
                f"the contract has no purpose {purpose}: name one of its own",
            )
        event = OptOutEvent(
            unit=self._settings.unit,
            sequence=len(self.opt_outs.events()) + 1,
            pseudonym=self._pseudonymiser(contract).pseudonym(identifier),
            key_version=1,
            purpose=purpose,
            channel="unit",
            ground=policy.ground(ground),
            received_at=self._runtime.clock.now(),
        )
        self.opt_outs.add(sign_record(event, self.key, self._settings.realm))
        return event.sequence

    def synchronise(self) -> Bulletin:
        """Hand pending opt-outs to governance, have the ledger's head witnessed, take its bulletin.

        Raises: UnreachableError; TrustError when the bulletin must not be believed; RollbackError
            `ledger.rollback` when governance has seen a newer ledger.
        """
        for event in self.opt_outs.pending():
            self._gateway.submit_opt_out(event)
        seen = self.opt_outs.log_position()
        asked = self._runtime.clock.boot()
        request = BulletinRequest(
            unit=self._settings.unit,
            nonce=os.urandom(32).hex(),
            after_sequence=self.opt_outs.confirmed_sequence(),
            checkpoint_size=seen.size if seen else 0,
            head=self.ledger.claim(),
            requested_at=self._runtime.clock.now(),
        )
        answer = self._gateway.sync_bulletin(sign_record(request, self.key, self._settings.realm))
        bulletin = open_envelope(
            answer, Bulletin, self._settings.governance_key, self._settings.realm
        )
        verify_bulletin(bulletin, request, self._settings.realm)
        verify_bulletin_time(bulletin, self._runtime.clock.now())
        self.opt_outs.apply(bulletin, asked)
        self.ledger.mark_witnessed(bulletin.witnessed)
        return bulletin

    def roll_call(self, request: RollCallRequest) -> RollCallReply:
        """Say that this unit is there, which log it has seen, and how fresh its opt-outs are.

        Raises: FedError of permit, policy, check or bulletin.
        """
        permit, plan = self._admit(request.permit, request.plan)
        self._require_checked(plan.contract)
        bulletin = self._bulletin_in_force()
        policy.verify_not_revoked(bulletin, permit)
        return self._cosigned(bulletin)

    def witness(self, request: RollCallRequest) -> RollCallReply:
        """Look at governance's log as it is now, and cosign it. Raises: FedError."""
        self._admit(request.permit, request.plan)
        return self._cosigned(self.synchronise())

    def train(self, request: TrainRequest) -> TrainReply:
        """Answer one train order: the stored bytes for a repeat, else one new, charged update.

        Raises: FedError of any step; after the ledger was written the order stays charged.
        """
        admitted = self._admit_order(request)
        order = admitted.order
        stored = self.ledger.stored_reply(order)
        if stored is not None:
            return decode_reply(stored)
        self._require_checked(admitted.plan.contract)
        self.ledger.begin(order, self._reservation(admitted), self._runtime.clock.now())
        bulletin = self._witnessed_bulletin()
        policy.verify_not_revoked(bulletin, admitted.permit)
        policy.verify_epoch(bulletin, admitted.permit)
        examples = self._examples(admitted.plan)
        update = encode_weights(self._update(admitted, examples))
        snapshot, snapshot_key = examples.commitment()
        receipt = self._receipt(admitted, bulletin, snapshot, canonical.digest(update))
        self._verify_release(admitted.permit)
        reply = TrainReply(
            receipt=sign_record(receipt, self.key, self._settings.realm), update=update
        )
        self.ledger.settle(order, encode_reply(reply), snapshot_key, self._runtime.clock.now())
        log.info("order.answered", unit=order.unit, run_id=order.run_id, round=order.round)
        return reply

    def _cosigned(self, bulletin: Bulletin) -> RollCallReply:
        cosignature = Cosignature(
            unit=self._settings.unit, log=bulletin.log, seen_at=self._runtime.clock.now()
        )
        return RollCallReply(
            cosignature=sign_record(cosignature, self.key, self._settings.realm),
            epoch=bulletin.epoch,
        )

    def _admit(
        self, permit_envelope: Envelope, plan_envelope: Envelope
    ) -> tuple[Permit, TrainingPlan]:
        settings, now = self._settings, self._runtime.clock.now()
        self.opt_outs.verify_wall_time(now)
        permit = open_envelope(permit_envelope, Permit, settings.governance_key, settings.realm)
        plan = open_envelope(plan_envelope, TrainingPlan, permit.author_key, settings.realm)
        verify_permit(permit, plan, permit.run_id, settings.realm)
        verify_permit_time(permit, now)
        verify_permit_node(permit, settings.unit, self.key.public, VERSION)
        policy.verify_policy(settings, permit, plan, self.contract(plan.contract))
        return permit, plan

    def _admit_order(self, request: TrainRequest) -> _Admitted:
        realm = self._settings.realm
        permit, plan = self._admit(request.permit, request.plan)
        order = open_envelope(request.order, Order, permit.server_key, realm)
        verify_order(order, permit, self._settings.unit, self._runtime.clock.now())
        previous = (
            open_envelope(request.previous_report, RoundReport, permit.server_key, realm)
            if request.previous_report
            else None
        )
        verify_order_model(order, previous, plan.initial_model)
        if canonical.digest(request.model) != order.model:
            raise MismatchError("order.model_mismatch", "the model sent is not the model ordered")
        self._verify_cosignatures(request.cosignatures, permit)
        shapes = shapes_of(load_task(plan.task).build(plan.model, self._width(plan)))
        weights = decode_weights(request.model, shapes, plan.max_abs_weight)
        return _Admitted(permit=permit, plan=plan, order=order, weights=weights)

    def _verify_cosignatures(self, cosignatures: tuple[Envelope, ...], permit: Permit) -> None:
        seen = self.opt_outs.log_position()
        keys = {grant.node_key for grant in permit.cohort}
        for envelope in cosignatures:
            if envelope.signer not in keys:
                raise TrustError("log.foreign_cosignature", "a stranger cosigned the log")
            other = open_envelope(envelope, Cosignature, envelope.signer, self._settings.realm)
            if seen is not None:
                verify_not_forked(seen, other.log)

    def _reservation(self, admitted: _Admitted) -> Reservation:
        grant = admitted.permit.grant(self._settings.unit)
        return Reservation(
            run_id=admitted.permit.run_id,
            permit=admitted.permit.digest,
            event=admitted.plan.run_event(),
            exchanges=admitted.plan.exchanges,
            epsilon_granted=grant.epsilon if grant else 0.0,
        )

    def _bulletin_in_force(self) -> Bulletin:
        """Return a fresh bulletin, pulling a new one when half of the old one's life is over."""
        latest, age = self.opt_outs.latest(), self.opt_outs.age(self._runtime.clock)
        if latest is None or age is None or age > (latest.valid_until - latest.issued_at) / 2:
            try:
                return self.synchronise()
            except UnreachableError:
                log.warning("governance.unreachable", unit=self._settings.unit)
        return self.opt_outs.verify_fresh(self._runtime.clock)

    def _witnessed_bulletin(self) -> Bulletin:
        """Return a bulletin under which the head just written is witnessed, or one round may run
        ahead.
        """
        try:
            return self.synchronise()
        except UnreachableError:
            self.ledger.verify_one_unwitnessed()
            log.warning("governance.unreachable", unit=self._settings.unit)
            return self.opt_outs.verify_fresh(self._runtime.clock)

    def _examples(self, plan: TrainingPlan) -> Examples:
        contract = self.contract(plan.contract)
        excluded = self.opt_outs.excluded(purpose_line(contract.purposes, plan.purpose))
        return load_examples(
            self._settings.source,
            contract,
            plan.features,
            self._pseudonymiser(contract),
            excluded.__contains__,
        )

    def _update(self, admitted: _Admitted, examples: Examples) -> Weights:
        order, plan = admitted.order, admitted.plan
        noise = self._runtime.noise
        streams = (
            noise.stream(order.unit, f"{order.run_id}/{order.round}/{order.attempt}", "noise"),
            noise.stream(order.unit, f"{order.run_id}/{order.round}/{order.attempt}", "sampling"),
        )
        return train_locally(
            load_task(plan.task),
            plan,
            plan.public_n(order.unit),
            admitted.weights,
            examples,
            streams,
        )

    def _receipt(
        self, admitted: _Admitted, bulletin: Bulletin, snapshot: str, update: str
    ) -> Receipt:
        order, head = admitted.order, self.ledger.head()
        return Receipt(
            run_id=order.run_id,
            realm=order.realm,
            unit=order.unit,
            round=order.round,
            attempt=order.attempt,
            order=order.digest,
            permit=order.permit,
            plan=order.plan,
            contract=admitted.plan.contract,
            applied_epoch=bulletin.epoch,
            bulletin=bulletin.digest,
            snapshot=snapshot,
            event=admitted.plan.round_event(),
            noise_source=self._runtime.noise.kind,
            ledger_sequence=head.sequence,
            ledger_hash=head.hash,
            log=bulletin.log,
            model_in=order.model,
            update=update,
            software=VERSION,
            answered_at=self._runtime.clock.now(),
        )

    def _verify_release(self, permit: Permit) -> None:
        now = self._runtime.clock.now()
        verify_permit_time(permit, now)
        policy.verify_not_revoked(self.opt_outs.verify_fresh(self._runtime.clock), permit)

    def _require_checked(self, contract: str) -> None:
        if not self.state.checked(contract):
            raise RefusedError(
                [("node.unchecked", "run `fedpact node check` and mend what it names")]
            )

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
        contract = open_envelope(
            envelope, Contract, self._settings.governance_key, self._settings.realm
        )
        if contract.digest != digest:
            raise MismatchError(
                "contract.other_digest", "governance answered with another contract"
            )
        if contract.subject.namespace != self._settings.subject_namespace:
            raise MismatchError(
                "contract.other_namespace", "the contract identifies customers by another rule"
            )
        if not kept:
            write_atomically(path, envelope.to_bytes())
        return contract

    def _pseudonymiser(self, contract: Contract) -> Pseudonymiser:
        return Pseudonymiser(self._pseudonym_key, contract.subject)

    def _width(self, plan: TrainingPlan) -> int:
        return len(input_names(plan.features, self.contract(plan.contract)))


def open_node(settings_path: Path) -> Node:
    """Return the node of a settings file. Raises: FedError."""
    try:
        return Node(NodeSettings.load(settings_path))
    except OSError as error:
        raise FedError("node.unavailable", "the node's files cannot be read", str(error)) from error
