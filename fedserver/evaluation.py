"""A run of evaluation: one round, whose noised tables governance derives its numbers from.

The tables go to governance as they came, each signed by this server; what they say of the models is
derived there, so that anyone can derive it again.
"""

from collections.abc import Mapping
from dataclasses import replace

from flwr.app import RecordDict
from safetensors.numpy import load

from fedcore import wire
from fedcore.evaluations import NoisedTables
from fedcore.rounds import Order
from fedcore.signing import Envelope, sign_record
from fedserver.checkpoints import Checkpoint
from fedserver.loop import Run
from fedserver.orders import Counted, evaluate_request, open_tables
from fedserver.rollcall import Roll
from fedserver.session import EvaluationSession
from fedserver.strategy import Aggregate


class EvaluationRun(Run[EvaluationSession, Counted]):
    """A run that ends with a signed Evaluation, and changes no model."""

    kind = wire.EVALUATE

    def _start(self) -> Aggregate:
        return Aggregate(model=load(self._session.models[0]), momentum={}, late_sum={})

    def _content(self, place: Checkpoint, roll: Roll, order: Envelope) -> RecordDict:
        renewal = self._cohort.window.renewal
        return wire.evaluate_content(evaluate_request(self._session, place, roll, order, renewal))

    def _opened(self, _: Checkpoint, content: RecordDict, order: Order, /) -> Counted:
        reply = wire.read_evaluate_reply(content)
        return open_tables(self._session, reply, order, self._around.runtime.now())

    def _advanced(self, place: Checkpoint, accepted: Mapping[str, Counted]) -> Checkpoint:
        return replace(place, tables={unit: found.tables for unit, found in accepted.items()})

    def _conclude(self, place: Checkpoint) -> Envelope:
        tables = [self._signed(data) for _, data in sorted(place.tables.items())]
        return self._cohort.patiently(
            lambda: self._around.gateway.submit_tables(self._session.permit.run_id, tables)
        )

    def _signed(self, data: bytes) -> Envelope:
        tables = NoisedTables.from_bytes(data)
        return sign_record(tables, self._session.key, self._session.permit.realm)
