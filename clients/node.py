"""One unit's node: it obeys what is signed, keeps its own policy, and has the last word over its
rows.

An order, to train or to evaluate, is worked off in this order, and any step may refuse: permit and
policy, order, models, permit and plans kept, ledger (written), bulletin (governance witnesses the
ledger's head), rows, whose they are (written), training or counting, permit again, reply stored,
reply sent.
"""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import structlog

from clients import policy
from clients.admission import (
    Admitted,
    AdmittedOrder,
    admit,
    admit_order,
    admit_signed,
    verify_cosignatures,
    verify_ended,
    verify_vouched,
)
from clients.budget import Reservation, use_of
from clients.checking import check_locally
from clients.clustering import count_locally, release_locally
from clients.data import Examples, Inputs
from clients.evaluating import evaluate_locally, noised
from clients.examples import read_examples
from clients.readings import Customers, keep_run, note_reading
from clients.replies import decode_reply, encode_reply
from clients.settings import NodeSettings
from clients.site import Site
from clients.splits import extent_of_evaluation, extent_of_training
from clients.training import train_locally
from fedcore import canonical
from fedcore.bulletins import AnyBulletin
from fedcore.errors import FedError
from fedcore.evaluations import EvaluationPlan, NoisedTables
from fedcore.mitigation import group_fields
from fedcore.plans import TrainingPlan
from fedcore.privacy.noise import KeyStream
from fedcore.rounds import Cosignature, NoisedGain, Order, Receipt
from fedcore.signing import sign_record
from fedcore.tasks.task import load_task
from fedcore.trust import verify_permit_time
from fedcore.version import VERSION
from fedcore.weights import encode_weights
from fedcore.wire import (
    EvaluateReply,
    EvaluateRequest,
    RollCallReply,
    RollCallRequest,
    TrainReply,
    TrainRequest,
)

log = structlog.get_logger("fedpact.node")


class Node(Site):
    """A node, opened for one message; nothing is kept in memory between messages."""

    def roll_call(self, request: RollCallRequest) -> RollCallReply:
        """Say that this unit is there, which log it has seen, and how fresh its opt-outs are.

        Raises: FedError of permit, policy, ledger, check or bulletin.
        """
        admitted = admit(self, request)
        self.ledger.verify_open(admitted.permit.run_id)  # else the others' round would be void
        self._require_checked(admitted)
        self._inputs(admitted)  # whoever has lost what customers are set aside by is not there
        bulletin = self.bulletin_in_force()
        policy.verify_not_revoked(bulletin, admitted.permit)
        verify_vouched(self, admitted)  # of a hand-over the bulletin may have been the first word
        return self._cosigned(bulletin)

    def witness(self, request: RollCallRequest) -> RollCallReply:
        """Look at governance's log as it is now, and cosign it, also after the permit has expired;
        before, close the run when its last report comes along, so that the closing is witnessed.

        Raises: FedError.
        """
        permit = admit_signed(self, request).permit
        if request.ended is not None:
            verify_ended(request.ended, permit, self.settings.realm)
            self.ledger.close_runs((permit.run_id,), "ended", self.runtime.clock.now())
        return self._cosigned(self.synchronise())

    def train(self, request: TrainRequest) -> TrainReply:
        """Answer one train order: the stored bytes for a repeat, else one new, charged update.

        Raises: FedError of any step; after the ledger was written the order stays charged.
        """
        return self._answer(request)

    def evaluate(self, request: EvaluateRequest) -> EvaluateReply:
        """Answer one order to evaluate: as `train`, with noised tables in the update's place.

        Raises: FedError of any step; after the ledger was written the order stays charged.
        """
        answer = self._answer(request)
        return EvaluateReply(receipt=answer.receipt, tables=answer.update)

    def _answer(self, request: TrainRequest | EvaluateRequest) -> TrainReply:
        admitted = admit_order(self, request)
        order = admitted.order
        stored = self.ledger.stored_reply(order)
        if stored is not None:
            policy.verify_not_revoked(self.witnessed_bulletin(), admitted.permit)
            self.ledger.verify_open(order.run_id)  # it may have been closed meanwhile
            return decode_reply(stored)
        self._require_checked(admitted)
        training = request.training if isinstance(request, EvaluateRequest) else ()
        keep_run(self.state.readings, request.permit, request.plan, training)
        now = self.runtime.clock.now()
        inputs = self._inputs(admitted, is_check=admitted.compared is not None)
        self.ledger.begin(order, self._reservation(admitted, inputs, now), now)
        bulletin = self.witnessed_bulletin()
        verify_vouched(self, admitted)
        policy.verify_not_revoked(bulletin, admitted.permit)
        policy.verify_epoch(bulletin, admitted.permit)
        verify_cosignatures(self, request.cosignatures, admitted.permit)
        examples = self._noted_examples(admitted, inputs)
        update = self._update(admitted, examples)
        snapshot, snapshot_key = examples.commitment()
        receipt = self._receipt(admitted, bulletin, snapshot, canonical.digest(update))
        self._verify_release(admitted)
        reply = TrainReply(
            receipt=sign_record(receipt, self.key, self.settings.realm), update=update
        )
        self.ledger.settle(order, encode_reply(reply), snapshot_key, self.runtime.clock.now())
        log.info("order.answered", unit=order.unit, run_id=order.run_id, round=order.round)
        return reply

    def _require_checked(self, admitted: Admitted) -> None:
        read = set(admitted.group_fields)
        for plan in admitted.training:
            fields = {feature.field for feature in plan.features}
            read |= fields - plan.absent_at(self.settings.unit)
        self.require_checked(admitted.plan.contract, read)

    def _cosigned(self, bulletin: AnyBulletin) -> RollCallReply:
        cosignature = Cosignature(
            unit=self.settings.unit, log=bulletin.log, seen_at=self.runtime.clock.now()
        )
        return RollCallReply(
            cosignature=sign_record(cosignature, self.key, self.settings.realm),
            epoch=bulletin.epoch,
        )

    def _reservation(self, admitted: AdmittedOrder, inputs: Inputs, now: datetime) -> Reservation:
        grant = admitted.permit.grant(self.settings.unit)
        use = use_of(admitted.plan, self.contract(admitted.plan.contract))
        return Reservation(
            run_id=admitted.permit.run_id,
            permit=admitted.permit.digest,
            event=admitted.charged.run_event(),
            exchanges=admitted.charged.exchanges,
            epsilon_granted=grant.epsilon if grant else 0.0,
            use=use,
            bounds=policy.bounds_of(self.settings, use, now, admitted.permit.ledger_caps),
            update_retention_days=admitted.permit.update_retention_days,
            split=inputs.extent.split.check if inputs.extent.split else None,
        )

    def examples(self, plan: TrainingPlan, evaluation: EvaluationPlan | None = None) -> Examples:
        """Return what the node trains on now, or what it counts in an evaluation of the plan's
        model; opt-outs, consents and retention are applied.

        Raises: DataError.
        """
        split = self.split(self.contract(plan.contract)) if plan.holdout else None
        extent = extent_of_training(plan, split)
        if evaluation is not None:
            extent = extent_of_evaluation(evaluation, plan, split)
        absent = plan.absent_at(self.settings.unit)
        inputs = Inputs(plan.features, absent, extent)
        return read_examples(self, plan, replace(inputs, groups=group_fields(plan.mitigation)))

    def _inputs(self, admitted: Admitted, *, is_check: bool = False) -> Inputs:
        """Return what is read for an order; what customers are set aside by is made, if need be."""
        plan, evaluation, unit = admitted.plan, admitted.evaluation, self.settings.unit
        is_split = plan.holdout and (evaluation is None or evaluation.rows == "holdout")
        split = self.split(self.contract(plan.contract)) if is_split else None
        first, *others = (Inputs(p.features, p.absent_at(unit)) for p in admitted.training)
        if evaluation is None:
            extent = extent_of_training(plan, split, is_check=is_check)
            return replace(first, extent=extent, groups=admitted.group_fields)
        return replace(
            first,
            extent=extent_of_evaluation(evaluation, plan, split),
            challenger=others[0] if others else None,
            groups=admitted.group_fields,
        )

    def _noted_examples(self, admitted: AdmittedOrder, inputs: Inputs) -> Examples:
        """Return the examples of an order, once it is on disk whose rows they are."""
        applied, now = self.opt_outs.next_sequence() - 1, self.runtime.clock.now()
        examples = read_examples(self, admitted.plan, inputs)
        customers = Customers(examples.identifiers, self.contract(admitted.plan.contract))
        note_reading(self.state.readings, admitted.order, customers, applied, now)
        return examples

    def _update(self, admitted: AdmittedOrder, examples: Examples) -> bytes:
        """Return what an order releases: an update of weights, a gain, or noised tables or sums."""
        order, plan, evaluation = admitted.order, admitted.plan, admitted.evaluation
        exchange = f"{order.run_id}/{order.round}/{order.attempt}"
        noise = self.runtime.noise.stream(order.unit, exchange, "noise")
        if evaluation is not None:
            tables = self._tables(evaluation, admitted, examples, noise)
            return NoisedTables(run_id=order.run_id, unit=order.unit, tables=tables).to_bytes()
        if plan.release_terms is not None:
            told = release_locally(
                plan.release_terms, admitted.weights[0], examples, noise, admitted.encoder
            )
            return encode_weights(told)
        streams = (noise, self.runtime.noise.stream(order.unit, exchange, "sampling"))
        task, weights = load_task(plan.task), admitted.weights[0]
        if admitted.compared is not None:
            models = (admitted.compared, weights)
            gain = check_locally(task, plan, models, examples, streams)
            return _record_of(order, gain)
        update = train_locally(task, plan, plan.public_n(order.unit), weights, examples, streams)
        return encode_weights(update)

    def _tables(
        self,
        plan: EvaluationPlan,
        admitted: AdmittedOrder,
        examples: Examples,
        noise: KeyStream,
    ) -> tuple[tuple[int, ...], ...]:
        """Return the noised tables of an evaluation: of scores, or of segments."""
        if plan.segments is not None and admitted.segments is not None:
            counted = count_locally(plan.segments, admitted.segments, examples, admitted.encoder)
            return noised(plan, [np.array(counted, dtype=np.int64)], noise)
        models = list(zip(admitted.training, admitted.weights, strict=True))
        return evaluate_locally(plan, models, examples, noise)

    def _receipt(
        self, admitted: AdmittedOrder, bulletin: AnyBulletin, snapshot: str, update: str
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
            event=admitted.charged.exchange_event(),
            noise_source=self.runtime.noise.kind,
            ledger_sequence=head.sequence,
            ledger_hash=head.hash,
            log=bulletin.log,
            model_in=order.model,
            compared=order.compared,
            update=update,
            software=VERSION,
            answered_at=self.runtime.clock.now(),
        )

    def _verify_release(self, admitted: AdmittedOrder) -> None:
        verify_permit_time(admitted.permit, self.runtime.clock.now(), admitted.renewals)
        policy.verify_not_revoked(self.bulletin_in_force(), admitted.permit)


def _record_of(order: Order, gain: int) -> bytes:
    """Return the record of a gain, which the receipt names."""
    found = NoisedGain(
        run_id=order.run_id,
        unit=order.unit,
        round=order.round,
        attempt=order.attempt,
        gain=gain,
    )
    return found.to_bytes()


def open_node(settings_path: Path) -> Node:
    """Return the node of a settings file. Raises: FedError."""
    try:
        return Node(NodeSettings.load(settings_path))
    except OSError as error:
        raise FedError("node.unavailable", "the node's files cannot be read", str(error)) from error
