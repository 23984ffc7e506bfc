"""A run whose rounds make a model: by training, or by finding segments; it is registered."""

from collections.abc import Mapping
from dataclasses import replace

from flwr.app import RecordDict

from fedcore import wire
from fedcore.rounds import Order
from fedcore.signing import Envelope
from fedserver import strategy
from fedserver.checkpoints import Checkpoint
from fedserver.loop import Run
from fedserver.orders import Accepted, open_answer, train_request
from fedserver.rollcall import Roll
from fedserver.session import Session
from fedserver.steps import after_round, released


class TrainingRun(Run[Session, Accepted]):
    """A run that ends with a registered, signed ModelVersion."""

    kind = wire.TRAIN

    def _start(self) -> strategy.Aggregate:
        return strategy.start(self._session.initial)

    def _content(self, place: Checkpoint, roll: Roll, order: Envelope) -> RecordDict:
        renewal = self._cohort.window.renewal
        return wire.train_content(train_request(self._session, place, roll, order, renewal))

    def _opened(self, place: Checkpoint, content: RecordDict, order: Order, /) -> Accepted:
        reply = wire.read_train_reply(content)
        return open_answer(self._session, place, reply, order, self._around.runtime.now())

    def _advanced(self, place: Checkpoint, accepted: Mapping[str, Accepted]) -> Checkpoint:
        updates = {unit: found.update for unit, found in accepted.items()}
        state = after_round(self._session, place.state, place.round, updates)
        return replace(place, state=state)

    def _conclude(self, place: Checkpoint) -> Envelope:
        model = released(self._session, place.state)
        name = self._around.settings.model_name
        return self._cohort.patiently(
            lambda: self._around.gateway.register_model(self._session.permit.run_id, name, model)
        )
