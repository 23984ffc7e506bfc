"""A federated evaluation: roll call, orders, verified tables, report; resumable at any point.

The tables go to governance as they came, each signed by this server; what they say of the models is
derived there, so that anyone can derive it again.
"""

from dataclasses import replace

import structlog
from flwr.app import RecordDict
from safetensors.numpy import load

from fedcore import wire
from fedcore.evaluations import NoisedTables
from fedcore.rounds import Order
from fedcore.signing import Envelope, sign_record
from fedserver.checkpoints import (
    Checkpoint,
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)
from fedserver.cohort import Cohort, Surroundings, present, void
from fedserver.orders import Counted, evaluate_request, make_report, open_tables, sign_orders
from fedserver.rollcall import Roll
from fedserver.session import EvaluationSession
from fedserver.strategy import Aggregate

log = structlog.get_logger("fedpact.server")


class EvaluationRun:
    """One evaluation under one permit, from its checkpoint or from the start."""

    def __init__(self, session: EvaluationSession, around: Surroundings) -> None:
        self._session = session
        self._around = around
        self._cohort = Cohort(session, around)
        self._path = checkpoint_path(around.settings.work_dir, session.permit.run_id)

    def finish(self) -> Envelope:
        """Do what is left of the exchange and return governance's signed Evaluation.

        Guarantees: whatever ends it, the next `finish` goes on where it ended, with the same
            orders, which nodes answer with the same bytes.
        Raises: as `Run.finish`.
        """
        first = Aggregate(model=load(self._session.models[0]), momentum={}, late_sum={})
        place = load_checkpoint(self._path) or Checkpoint(round=1, attempt=1, state=first)
        if place.report is not None:
            self._cohort.submit(place.report, place.receipts)
        while not place.tables:
            place = self._attempt(place)
        tables = [self._signed(data) for _, data in sorted(place.tables.items())]
        evaluation = self._cohort.patiently(
            lambda: self._around.gateway.submit_tables(self._session.permit.run_id, tables)
        )
        self._cohort.collect_cosignatures()
        return evaluation

    def _attempt(self, place: Checkpoint) -> Checkpoint:
        """Do one attempt of the exchange, and return the place after it."""
        permit, runtime, window = self._session.permit, self._around.runtime, self._cohort.window
        if place.attempt > permit.attempts:
            raise void(place.round, ())
        window.keep()
        roll = self._cohort.gather(place.round)
        if not place.orders:
            orders = sign_orders(self._session, place, roll, runtime.now(), window.ends_at)
            place = replace(place, orders=orders, permit=self._session.permit_envelope)
            save_checkpoint(self._path, place)
        counted, refusals = self._cohort.ask(
            wire.EVALUATE,
            place,
            roll,
            lambda order: self._content(place, roll, order),
            self._opened,
        )
        window.heed(refusals)
        enough = len(counted) >= permit.minimum_cohort
        report = make_report(self._session, place, place.state, counted, runtime.now())
        after = Checkpoint(
            round=place.round,
            attempt=place.attempt + 1,
            state=place.state,
            report=sign_record(report, self._session.key, permit.realm),
            receipts=tuple(found.receipt for found in counted.values()),
            permit=self._session.permit_envelope,
            tables={unit: found.tables for unit, found in counted.items()} if enough else {},
        )
        save_checkpoint(self._path, after)
        self._cohort.submit(present(after.report), after.receipts)
        runtime.watch(report, self._session.models[0])
        log.info("evaluation.ended", run_id=report.run_id, status=report.status)
        if not enough and place.attempt >= permit.attempts:
            raise void(place.round, (*roll.refusals, *refusals))
        return after

    def _content(self, place: Checkpoint, roll: Roll, order: Envelope) -> RecordDict:
        renewal = self._cohort.window.renewal
        return wire.evaluate_content(evaluate_request(self._session, place, roll, order, renewal))

    def _opened(self, content: RecordDict, order: Order) -> Counted:
        return open_tables(self._session, wire.read_evaluate_reply(content), order)

    def _signed(self, data: bytes) -> Envelope:
        tables = NoisedTables.from_bytes(data)
        return sign_record(tables, self._session.key, self._session.permit.realm)
