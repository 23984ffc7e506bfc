"""The loop of a run: roll call, orders, verified receipts, aggregate, report; resumable at any
point.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import TypeVar

import structlog
from flwr.serverapp import Grid

from fedcore import wire
from fedcore.errors import ExpiredError, FedError, RefusedError
from fedcore.gateway import ServerGateway
from fedcore.rounds import Order
from fedcore.signing import Envelope, sign_record
from fedcore.version import VERSION
from fedcore.weights import encode_weights
from fedserver import strategy
from fedserver.checkpoints import (
    Checkpoint,
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)
from fedserver.exchanges import UNAVAILABLE, exchange
from fedserver.orders import (
    Accepted,
    make_report,
    open_answer,
    open_orders,
    sign_orders,
    train_request,
)
from fedserver.patience import patiently, pauses
from fedserver.rollcall import Roll, call_roll
from fedserver.runtime import Runtime
from fedserver.session import Session
from fedserver.settings import ServerSettings
from fedserver.window import Window

# To answer a roll call no rows are read: whoever takes longer is not there.
ROLL_CALL_DEADLINE_S = 30.0
# Of a unit that refuses so, the next call may find another answer.
_PASSING = frozenset({UNAVAILABLE, "bulletin.stale", "policy.maintenance", "permit.other_node"})

T = TypeVar("T")
log = structlog.get_logger("fedpact.server")


class Run:
    """One run under one permit, from its checkpoint or from the start."""

    def __init__(
        self,
        grid: Grid,
        session: Session,
        settings: ServerSettings,
        runtime: Runtime,
        gateway: ServerGateway,
    ) -> None:
        self._grid = grid
        self._session = session
        self._settings = settings
        self._runtime = runtime
        self._gateway = gateway
        self._window = Window(session, gateway, runtime.now)
        self._path = checkpoint_path(settings.work_dir, session.permit.run_id)

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
            self._submit(place.report, place.receipts)
        while place.round <= self._session.plan.rounds:
            place = self._round(place)
        released = encode_weights(strategy.release(place.state, self._session.plan))
        version = self._patiently(
            lambda: self._gateway.register_model(
                self._session.permit.run_id, self._settings.model_name, released
            )
        )
        self._collect_cosignatures()
        return version

    def _round(self, place: Checkpoint) -> Checkpoint:
        """Do one attempt of one round, and return the place after it."""
        if place.attempt > self._session.permit.attempts:
            raise _void(place.round, ())
        self._window.keep()
        roll = self._gather(place)
        if not place.orders:
            now, ends_at = self._runtime.now(), self._window.ends_at
            orders = sign_orders(self._session, place, roll, now, ends_at)
            permit = self._session.permit_envelope
            place = replace(place, orders=orders, permit=permit)
            save_checkpoint(self._path, place)
        accepted, refusals = self._answers(place, roll)
        self._window.heed(refusals)
        enough = len(accepted) >= self._session.permit.minimum_cohort
        state = place.state
        if enough:
            updates = {unit: found.update for unit, found in accepted.items()}
            state = strategy.apply_round(state, self._session.plan, place.round, updates)
        report = make_report(self._session, place, state, accepted, self._runtime.now())
        after = Checkpoint(
            round=place.round + 1 if enough else place.round,
            attempt=1 if enough else place.attempt + 1,
            state=state,
            report=sign_record(report, self._session.key, self._session.permit.realm),
            receipts=tuple(found.receipt for found in accepted.values()),
            permit=self._session.permit_envelope,
        )
        save_checkpoint(self._path, after)
        self._submit(_present(after.report), after.receipts)
        self._runtime.watch(report, encode_weights(state.model))
        log.info("round.ended", run_id=report.run_id, round=report.round, status=report.status)
        if not enough and place.attempt >= self._session.permit.attempts:
            raise _void(place.round, (*roll.refusals, *refusals))
        return after

    def _submit(self, report: Envelope, receipts: tuple[Envelope, ...]) -> None:
        """Hand a report to governance, when it is there again; the checkpoint holds it as well."""

        def submit() -> None:
            try:
                self._gateway.submit_round(report, receipts)
            except ExpiredError:  # governance was away for longer than the permit had left
                self._window.keep()
                self._gateway.submit_round(report, receipts)

        self._patiently(submit)

    def _patiently(self, act: Callable[[], T]) -> T:
        return patiently(act, self._runtime, self._settings.patience_s)

    def _gather(self, place: Checkpoint) -> Roll:
        """Return a roll with enough units, waiting for them a while; no attempt is spent on those
        that do not come.
        """
        for pause in chain(pauses(self._settings.patience_s), [None]):
            roll = self._call_roll()
            if self._window.heed(roll.refusals):
                roll = self._call_roll()
            if len(roll.nodes) >= self._session.permit.minimum_cohort:
                return roll
            if pause is None or self._is_hopeless(roll):
                break
            log.info("waiting", code="run.too_few_units", units=sorted(roll.nodes), seconds=pause)
            self._runtime.pause(pause)
            self._window.keep()
        raise _not_begun(place.round, roll.refusals)

    def _is_hopeless(self, roll: Roll) -> bool:
        permit = self._session.permit
        settled = sum(code not in _PASSING for code in roll.refusals)
        return len(permit.cohort) - settled < permit.minimum_cohort

    def _call_roll(self, kind: str = wire.ROLL_CALL) -> Roll:
        session = self._session
        request = wire.RollCallRequest(
            permit=session.permit_envelope,
            plan=session.plan_envelope,
            renewal=self._window.renewal,
            server_version=VERSION,
        )
        deadline_s = min(ROLL_CALL_DEADLINE_S, float(session.plan.round_deadline_s))
        limits = (deadline_s, self._settings.poll_interval_s)
        return call_roll(self._grid, request, session.permit, limits, kind, self._runtime.now())

    def _answers(
        self, place: Checkpoint, roll: Roll
    ) -> tuple[dict[str, Accepted], tuple[str, ...]]:
        """Send the orders, and return the verified answers by unit and the codes of all others."""
        session, renewal = self._session, self._window.renewal
        orders = open_orders(session, place)
        by_node = {roll.nodes[order.unit]: order for order in orders if order.unit in roll.nodes}
        contents = {
            roll.nodes[order.unit]: wire.train_content(
                train_request(session, place, roll, envelope, renewal)
            )
            for order, envelope in zip(orders, place.orders, strict=True)
            if order.unit in roll.nodes
        }
        group = f"{place.round}.{place.attempt}"
        answers = exchange(self._grid, wire.TRAIN, contents, group, self._limits(orders))
        accepted: dict[str, Accepted] = {}
        refusals = list(answers.refusals.values())
        for node, content in sorted(answers.contents.items()):
            order = by_node[node]
            try:
                reply = wire.read_train_reply(content)
                accepted[order.unit] = open_answer(session, reply, order, self._runtime.now())
            except FedError as error:
                log.warning("answer.refused", unit=order.unit, code=error.code)
                refusals.append(error.code)
        return accepted, tuple(refusals)

    def _limits(self, orders: Sequence[Order]) -> tuple[float, float]:
        """Return how long to wait for answers: until the orders expire, so that a slow node does
        not hold up the others, and what is left of it when they are sent again.
        """
        left = min(order.deadline_at for order in orders) - self._runtime.now()
        return max(left.total_seconds(), 1.0), self._settings.poll_interval_s

    def _collect_cosignatures(self) -> None:
        """Ask the nodes once more, so that they cosign a log that holds the model version."""
        roll = self._call_roll(wire.WITNESS)
        views = tuple(roll.cosignatures.values())
        self._patiently(lambda: self._gateway.submit_cosignatures(views))


def _present(envelope: Envelope | None) -> Envelope:
    if envelope is None:
        raise FedError("run.no_report", "a round ended without a report")
    return envelope


def _not_begun(round_: int, refusals: tuple[str, ...]) -> RefusedError:
    codes = [*sorted(set(refusals)), "run.too_few_units"]
    text = f"Round {round_} has not begun, for too few units are there"
    return RefusedError([(code, f"{text}: {code}.") for code in codes])


def _void(round_: int, refusals: tuple[str, ...]) -> RefusedError:
    distinct = sorted(set(refusals)) or ["run.too_few_units"]
    return RefusedError(
        [(code, f"Round {round_} stayed void after all attempts: {code}.") for code in distinct]
    )
