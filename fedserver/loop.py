"""The loop of a run: roll call, orders, verified receipts, aggregate, report; resumable at any
point.
"""

from dataclasses import replace

import structlog
from flwr.app import RecordDict

from fedcore import wire
from fedcore.rounds import Order
from fedcore.signing import Envelope, sign_record
from fedcore.weights import encode_weights
from fedserver import strategy
from fedserver.checkpoints import (
    Checkpoint,
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)
from fedserver.cohort import Cohort, Surroundings, present, void
from fedserver.orders import Accepted, make_report, open_answer, sign_orders, train_request
from fedserver.rollcall import Roll
from fedserver.session import Session
from fedserver.steps import after_round, released

log = structlog.get_logger("fedpact.server")


class Run:
    """One run under one permit, from its checkpoint or from the start."""

    def __init__(self, session: Session, around: Surroundings) -> None:
        self._session = session
        self._around = around
        self._cohort = Cohort(session, around)
        self._path = checkpoint_path(around.settings.work_dir, session.permit.run_id)

    def finish(self) -> Envelope:
        """Do all remaining rounds and return the registered, signed ModelVersion.

        Guarantees: whatever ends it, the next `finish` goes on where it ended; a unit that joins
            late takes part from the next round on.
        Raises: RefusedError `permit.revoked`, or with the nodes' reason codes and
            `run.too_few_units` when a round cannot begin, or stays void after all attempts;
            UnreachableError `governance.unreachable`; FedError of governance.
        """
        place = load_checkpoint(self._path) or Checkpoint(
            round=1, attempt=1, state=strategy.start(self._session.initial)
        )
        if place.report is not None:
            self._cohort.submit(place.report, place.receipts)
        while place.round <= self._session.plan.rounds:
            place = self._round(place)
        model = released(self._session, place.state)
        name = self._around.settings.model_name
        version = self._cohort.patiently(
            lambda: self._around.gateway.register_model(self._session.permit.run_id, name, model)
        )
        self._cohort.collect_cosignatures()
        return version

    def _round(self, place: Checkpoint) -> Checkpoint:
        """Do one attempt of one round, and return the place after it."""
        permit, runtime, window = self._session.permit, self._around.runtime, self._cohort.window
        if place.attempt > permit.attempts:
            raise void(place.round, ())
        window.keep()
        roll = self._cohort.gather(place.round)
        if not place.orders:
            orders = sign_orders(self._session, place, roll, runtime.now(), window.ends_at)
            place = replace(place, orders=orders, permit=self._session.permit_envelope)
            save_checkpoint(self._path, place)
        accepted, refusals = self._cohort.ask(
            wire.TRAIN,
            place,
            roll,
            lambda order: self._content(place, roll, order),
            lambda content, order: self._opened(place, content, order),
        )
        window.heed(refusals)
        enough = len(accepted) >= permit.minimum_cohort
        state = place.state
        if enough:
            updates = {unit: found.update for unit, found in accepted.items()}
            state = after_round(self._session, state, place.round, updates)
        report = make_report(self._session, place, state, accepted, runtime.now())
        after = Checkpoint(
            round=place.round + 1 if enough else place.round,
            attempt=1 if enough else place.attempt + 1,
            state=state,
            report=sign_record(report, self._session.key, permit.realm),
            receipts=tuple(found.receipt for found in accepted.values()),
            permit=self._session.permit_envelope,
        )
        save_checkpoint(self._path, after)
        self._cohort.submit(present(after.report), after.receipts)
        runtime.watch(report, encode_weights(state.model))
        log.info("round.ended", run_id=report.run_id, round=report.round, status=report.status)
        if not enough and place.attempt >= permit.attempts:
            raise void(place.round, (*roll.refusals, *refusals))
        return after

    def _content(self, place: Checkpoint, roll: Roll, order: Envelope) -> RecordDict:
        renewal = self._cohort.window.renewal
        return wire.train_content(train_request(self._session, place, roll, order, renewal))

    def _opened(self, place: Checkpoint, content: RecordDict, order: Order) -> Accepted:
        reply = wire.read_train_reply(content)
        return open_answer(self._session, place, reply, order, self._around.runtime.now())
