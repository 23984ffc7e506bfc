"""The units of one run: who is there, what they are ordered, and how long they are waited for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import structlog
from flwr.app import RecordDict
from flwr.serverapp import Grid

from fedcore import wire
from fedcore.errors import ExpiredError, FedError, RefusedError
from fedcore.gateway import ServerGateway
from fedcore.rounds import Order
from fedcore.signing import Envelope
from fedcore.version import VERSION
from fedserver.checkpoints import Checkpoint
from fedserver.exchanges import UNAVAILABLE, exchange
from fedserver.orders import Answered, open_orders
from fedserver.patience import patiently, pauses
from fedserver.rollcall import Roll, call_roll
from fedserver.runtime import Runtime
from fedserver.session import Mandate
from fedserver.settings import ServerSettings
from fedserver.window import Window

# To answer a roll call no rows are read: whoever takes longer is not there.
ROLL_CALL_DEADLINE_S = 30.0
# Of a unit that refuses so, the next call may find another answer.
_PASSING = frozenset({UNAVAILABLE, "bulletin.stale", "policy.maintenance", "permit.other_node"})

T = TypeVar("T")
A = TypeVar("A", bound=Answered)
log = structlog.get_logger("fedpact.server")


@dataclass(frozen=True)
class Surroundings:
    """What a run is done with: the nodes' grid, the server's settings and its runtime."""

    grid: Grid
    settings: ServerSettings
    runtime: Runtime
    gateway: ServerGateway


class Cohort:
    """The units of a run's permit.

    Attributes:
        window: the time that the permit gives.
    """

    def __init__(self, session: Mandate, around: Surroundings) -> None:
        self._session = session
        self._around = around
        self.window = Window(session, around.gateway, around.runtime.now)

    def gather(self, round_: int) -> Roll:
        """Return a roll with enough units, waiting for them a while; no attempt is spent on those
        that do not come.

        Raises: RefusedError with the nodes' reason codes and `run.too_few_units`; as
            `Window.keep`.
        """
        runtime = self._around.runtime
        for pause in chain(pauses(self._around.settings.patience_s), [None]):
            roll = self._call_roll()
            if self.window.heed(roll.refusals):
                roll = self._call_roll()
            if len(roll.nodes) >= self._session.permit.minimum_cohort:
                return roll
            if pause is None or self._is_hopeless(roll):
                break
            log.info("waiting", code="run.too_few_units", units=sorted(roll.nodes), seconds=pause)
            runtime.pause(pause)
            self.window.keep()
        raise _not_begun(round_, roll.refusals)

    def ask(
        self,
        kind: str,
        place: Checkpoint,
        roll: Roll,
        content: Callable[[Envelope], RecordDict],
        accept: Callable[[RecordDict, Order], A],
    ) -> tuple[Mapping[str, A], tuple[str, ...]]:
        """Send the orders of a place, and return the verified answers by unit and the codes of all
        others.

        Args: `content` makes the message of an order; `accept` holds an answer against its order,
        or raises.
        """
        orders = open_orders(self._session, place)
        by_node = {roll.nodes[order.unit]: order for order in orders if order.unit in roll.nodes}
        contents = {
            roll.nodes[order.unit]: content(envelope)
            for order, envelope in zip(orders, place.orders, strict=True)
            if order.unit in roll.nodes
        }
        group = f"{place.round}.{place.attempt}"
        answers = exchange(self._around.grid, kind, contents, group, self._limits(orders))
        accepted: dict[str, A] = {}
        refusals = list(answers.refusals.values())
        for node, answer in sorted(answers.contents.items()):
            order = by_node[node]
            try:
                accepted[order.unit] = accept(answer, order)
            except FedError as error:
                log.warning("answer.refused", unit=order.unit, code=error.code)
                refusals.append(error.code)
        return accepted, tuple(refusals)

    def submit(self, report: Envelope, receipts: tuple[Envelope, ...]) -> None:
        """Hand a report to governance, when it is there again; the checkpoint holds it as well."""

        def submit() -> None:
            try:
                self._around.gateway.submit_round(report, receipts)
            except ExpiredError:  # governance was away for longer than the permit had left
                self.window.keep()
                self._around.gateway.submit_round(report, receipts)

        self.patiently(submit)

    def patiently(self, act: Callable[[], T]) -> T:
        """Return what `act` returns, tried again while another party does not answer."""
        return patiently(act, self._around.runtime, self._around.settings.patience_s)

    def collect_cosignatures(self, ended: Envelope) -> None:
        """Ask the nodes once more, so that they cosign a log that holds the run's outcome, and
        close the run, whose last report this is: what it reserved and did not begin is free again.
        """
        roll = self._call_roll(wire.WITNESS, ended)
        views = tuple(roll.cosignatures.values())
        self.patiently(lambda: self._around.gateway.submit_cosignatures(views))

    def _call_roll(self, kind: str = wire.ROLL_CALL, ended: Envelope | None = None) -> Roll:
        session, around = self._session, self._around
        request = wire.RollCallRequest(
            permit=session.permit_envelope,
            plan=session.plan_envelope,
            renewal=self.window.renewal,
            server_version=VERSION,
            training=session.training_envelopes,
            ended=ended,
        )
        deadline_s = min(ROLL_CALL_DEADLINE_S, float(session.deadline_s))
        limits = (deadline_s, around.settings.poll_interval_s)
        return call_roll(around.grid, request, session.permit, limits, kind, around.runtime.now())

    def _is_hopeless(self, roll: Roll) -> bool:
        permit = self._session.permit
        settled = sum(code not in _PASSING for code in roll.refusals)
        return len(permit.cohort) - settled < permit.minimum_cohort

    def _limits(self, orders: Sequence[Order]) -> tuple[float, float]:
        """Return how long to wait for answers: until the orders expire, so that a slow node does
        not hold up the others, and what is left of it when they are sent again.
        """
        left = min(order.deadline_at for order in orders) - self._around.runtime.now()
        return max(left.total_seconds(), 1.0), self._around.settings.poll_interval_s


def present(envelope: Envelope | None) -> Envelope:
    """Return the report of a round that has ended. Raises: FedError `run.no_report`."""
    if envelope is None:
        raise FedError("run.no_report", "a round ended without a report")
    return envelope


def void(round_: int, refusals: tuple[str, ...]) -> RefusedError:
    """Return the refusal of a round that got too few answers in all its attempts."""
    distinct = sorted(set(refusals)) or ["run.too_few_units"]
    return RefusedError(
        [(code, f"Round {round_} stayed void after all attempts: {code}.") for code in distinct]
    )


def _not_begun(round_: int, refusals: tuple[str, ...]) -> RefusedError:
    codes = [*sorted(set(refusals)), "run.too_few_units"]
    text = f"Round {round_} has not begun, for too few units are there"
    return RefusedError([(code, f"{text}: {code}.") for code in codes])
