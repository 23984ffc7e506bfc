"""The loop of a run: roll call, orders, verified answers, what is made of them, report; resumable
at any point.

What a run is for is said by its kinds: `fedserver.training` and `fedserver.evaluation`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Generic, TypeVar

import structlog
from flwr.app import RecordDict

from fedcore.rounds import Order, RoundReport
from fedcore.signing import Envelope, sign_record
from fedcore.trust_reports import ends_run
from fedcore.weights import encode_weights
from fedserver.checkpoints import (
    Checkpoint,
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)
from fedserver.cohort import Cohort, Surroundings, present, void
from fedserver.orders import Answered, make_report, sign_orders
from fedserver.rollcall import Roll
from fedserver.session import Mandate
from fedserver.strategy import Aggregate

S = TypeVar("S", bound=Mandate)
A = TypeVar("A", bound=Answered)
log = structlog.get_logger("fedpact.server")


class Run(ABC, Generic[S, A]):
    """One run under one permit, from its checkpoint or from the start.

    Attributes:
        kind: the message that carries an order to a node.
    """

    kind: ClassVar[str]

    def __init__(self, session: S, around: Surroundings) -> None:
        self._session = session
        self._around = around
        self._cohort = Cohort(session, around)
        self._path = checkpoint_path(around.settings.work_dir, session.permit.run_id)

    def finish(self) -> Envelope:
        """Do all that remains of the run and return what governance has signed of it: the
        registered ModelVersion, or the Evaluation.

        Guarantees: whatever ends it, the next `finish` goes on where it ended, with the same
            orders, which nodes answer with the same bytes; a unit that joins late takes part from
            the next round on.
        Raises: RefusedError `permit.revoked`, or with the nodes' reason codes and
            `run.too_few_units` when a round cannot begin, or stays void after all attempts;
            UnreachableError `governance.unreachable`; FedError of governance.
        """
        first = Checkpoint(round=1, attempt=1, state=self._start())
        place = load_checkpoint(self._path) or first
        if place.report is not None:
            self._told(place)
        while not self._is_over(place):
            place = self._attempt(place)
        outcome = self._conclude(place)
        self._cohort.collect_cosignatures(present(place.report))
        return outcome

    def _is_over(self, place: Checkpoint) -> bool:
        if place.report is None:
            return False
        report = RoundReport.from_bytes(place.report.payload_bytes)
        return ends_run(report, self._session.permit)

    def _attempt(self, place: Checkpoint) -> Checkpoint:
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
            self.kind,
            place,
            roll,
            lambda order: self._content(place, roll, order),
            lambda content, order: self._opened(place, content, order),
        )
        window.heed(refusals)
        enough = len(accepted) >= permit.minimum_cohort
        reached = self._advanced(place, accepted) if enough else place
        report = make_report(self._session, place, reached.state, accepted, runtime.now())
        after = replace(
            reached,
            round=place.round + 1 if enough else place.round,
            attempt=1 if enough else place.attempt + 1,
            report=sign_record(report, self._session.key, permit.realm),
            receipts=tuple(found.receipt for found in accepted.values()),
            orders=(),
            permit=self._session.permit_envelope,
        )
        save_checkpoint(self._path, after)
        self._told(after)
        log.info("round.ended", run_id=report.run_id, round=report.round, status=report.status)
        if not enough and place.attempt >= permit.attempts:
            raise void(place.round, (*roll.refusals, *refusals))
        return after

    def _told(self, place: Checkpoint) -> None:
        """Tell governance and who watches of a place's report: again, if a process ended before."""
        envelope = present(place.report)
        self._cohort.submit(envelope, place.receipts)
        report = RoundReport.from_bytes(envelope.payload_bytes)
        self._around.runtime.watch(report, encode_weights(place.state.model))

    @abstractmethod
    def _start(self) -> Aggregate:
        """Return the state before the first round."""

    @abstractmethod
    def _content(self, place: Checkpoint, roll: Roll, order: Envelope) -> RecordDict:
        """Return the message that carries an order to its node."""

    @abstractmethod
    def _opened(self, place: Checkpoint, content: RecordDict, order: Order, /) -> A:
        """Return a node's answer, held against its order. Raises: FedError."""

    @abstractmethod
    def _advanced(self, place: Checkpoint, accepted: Mapping[str, A]) -> Checkpoint:
        """Return a place with what was made of enough answers, by unit, in it."""

    @abstractmethod
    def _conclude(self, place: Checkpoint) -> Envelope:
        """Hand over what came of all rounds, and return what governance has signed of it."""
