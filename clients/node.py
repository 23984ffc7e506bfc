"""One unit's node: it obeys what is signed, keeps its own policy, and has the last word over its
rows.

A train order is worked off in this order, and any step may refuse: permit and policy, order, model,
ledger (written), bulletin (governance witnesses the ledger's head), rows, training, permit again,
reply stored, reply sent.
"""

from pathlib import Path

import structlog

from clients import policy
from clients.admission import (
    AdmittedOrder,
    admit,
    admit_order,
    admit_signed,
    verify_cosignatures,
    verify_vouched,
)
from clients.data import Examples, Inputs, load_examples
from clients.ledger import Reservation
from clients.replies import decode_reply, encode_reply
from clients.settings import NodeSettings
from clients.site import Site
from clients.sources import source_of
from clients.training import train_locally
from fedcore import canonical
from fedcore.errors import FedError
from fedcore.optouts import Bulletin
from fedcore.plans import TrainingPlan
from fedcore.rounds import Cosignature, Receipt
from fedcore.signing import sign_record
from fedcore.tasks.task import load_task
from fedcore.trust import verify_permit_time
from fedcore.version import VERSION
from fedcore.weights import Weights, encode_weights
from fedcore.wire import RollCallReply, RollCallRequest, TrainReply, TrainRequest

log = structlog.get_logger("fedpact.node")


class Node(Site):
    """A node, opened for one message; nothing is kept in memory between messages."""

    def roll_call(self, request: RollCallRequest) -> RollCallReply:
        """Say that this unit is there, which log it has seen, and how fresh its opt-outs are.

        Raises: FedError of permit, policy, check or bulletin.
        """
        admitted = admit(self, request)
        self.require_checked(admitted.plan)
        bulletin = self.bulletin_in_force()
        policy.verify_not_revoked(bulletin, admitted.permit)
        verify_vouched(self, admitted)  # of a hand-over the bulletin may have been the first word
        return self._cosigned(bulletin)

    def witness(self, request: RollCallRequest) -> RollCallReply:
        """Look at governance's log as it is now, and cosign it, also after the permit has expired.

        Raises: FedError.
        """
        admit_signed(self, request)
        return self._cosigned(self.synchronise())

    def train(self, request: TrainRequest) -> TrainReply:
        """Answer one train order: the stored bytes for a repeat, else one new, charged update.

        Raises: FedError of any step; after the ledger was written the order stays charged.
        """
        admitted = admit_order(self, request)
        order = admitted.order
        stored = self.ledger.stored_reply(order)
        if stored is not None:
            policy.verify_not_revoked(self.witnessed_bulletin(), admitted.permit)
            return decode_reply(stored)
        self.require_checked(admitted.plan)
        self.ledger.begin(order, self._reservation(admitted), self.runtime.clock.now())
        bulletin = self.witnessed_bulletin()
        verify_vouched(self, admitted)
        policy.verify_not_revoked(bulletin, admitted.permit)
        policy.verify_epoch(bulletin, admitted.permit)
        verify_cosignatures(self, request.cosignatures, admitted.permit)
        examples = self.examples(admitted.plan)
        update = encode_weights(self._update(admitted, examples))
        snapshot, snapshot_key = examples.commitment()
        receipt = self._receipt(admitted, bulletin, snapshot, canonical.digest(update))
        self._verify_release(admitted)
        reply = TrainReply(
            receipt=sign_record(receipt, self.key, self.settings.realm), update=update
        )
        self.ledger.settle(order, encode_reply(reply), snapshot_key, self.runtime.clock.now())
        log.info("order.answered", unit=order.unit, run_id=order.run_id, round=order.round)
        return reply

    def _cosigned(self, bulletin: Bulletin) -> RollCallReply:
        cosignature = Cosignature(
            unit=self.settings.unit, log=bulletin.log, seen_at=self.runtime.clock.now()
        )
        return RollCallReply(
            cosignature=sign_record(cosignature, self.key, self.settings.realm),
            epoch=bulletin.epoch,
        )

    def _reservation(self, admitted: AdmittedOrder) -> Reservation:
        grant = admitted.permit.grant(self.settings.unit)
        return Reservation(
            run_id=admitted.permit.run_id,
            permit=admitted.permit.digest,
            event=admitted.plan.run_event(),
            exchanges=admitted.plan.exchanges,
            epsilon_granted=grant.epsilon if grant else 0.0,
        )

    def examples(self, plan: TrainingPlan) -> Examples:
        """Return what the node trains on now; opt-outs, consents and retention are applied.

        Raises: DataError.
        """
        contract = self.contract(plan.contract)
        return load_examples(
            source_of(self.settings),
            contract,
            Inputs(plan.features, plan.absent_at(self.settings.unit)),
            self.pseudonymiser(contract),
            self.opt_outs.left_out(contract, plan.purpose),
            self.runtime.clock.now().date(),
        )

    def _update(self, admitted: AdmittedOrder, examples: Examples) -> Weights:
        order, plan = admitted.order, admitted.plan
        noise = self.runtime.noise
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
        self, admitted: AdmittedOrder, bulletin: Bulletin, snapshot: str, update: str
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
            noise_source=self.runtime.noise.kind,
            ledger_sequence=head.sequence,
            ledger_hash=head.hash,
            log=bulletin.log,
            model_in=order.model,
            update=update,
            software=VERSION,
            answered_at=self.runtime.clock.now(),
        )

    def _verify_release(self, admitted: AdmittedOrder) -> None:
        verify_permit_time(admitted.permit, self.runtime.clock.now(), admitted.renewals)
        policy.verify_not_revoked(self.bulletin_in_force(), admitted.permit)


def open_node(settings_path: Path) -> Node:
    """Return the node of a settings file. Raises: FedError."""
    try:
        return Node(NodeSettings.load(settings_path))
    except OSError as error:
        raise FedError("node.unavailable", "the node's files cannot be read", str(error)) from error
