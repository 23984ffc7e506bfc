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
from fedserver.orders import Accepted, Checked, open_answer, open_gain, train_request
from fedserver.rollcall import Roll
from fedserver.session import Session
from fedserver.steps import after_round, released
from fedserver.strategy import apply_check


class TrainingRun(Run[Session, Accepted | Checked]):
    """A run that ends with a registered, signed ModelVersion."""

    kind = wire.TRAIN

    def _start(self) -> strategy.Aggregate:
        return strategy.start(self._session.initial)

    def _content(self, place: Checkpoint, roll: Roll, order: Envelope) -> RecordDict:
        renewal = self._cohort.window.renewal
        return wire.train_content(train_request(self._session, place, roll, order, renewal))

    def _opened(
        self, place: Checkpoint, content: RecordDict, order: Order, /
    ) -> Accepted | Checked:
        session, now = self._session, self._around.runtime.now()
        if session.plan.is_check(place.round):
            return open_gain(session, wire.read_train_reply(content), order, now)
        return open_answer(session, place, wire.read_train_reply(content), order, now)

    def _advanced(
        self, place: Checkpoint, accepted: Mapping[str, Accepted | Checked]
    ) -> Checkpoint:
        if self._session.plan.is_check(place.round):
            gains = [found.gain for found in accepted.values() if isinstance(found, Checked)]
            return replace(place, state=apply_check(place.state, self._session.plan, gains))
        updates = {u: found.update for u, found in accepted.items() if isinstance(found, Accepted)}
        state = after_round(self._session, place.state, place.round, updates)
        return replace(place, state=state)

    def _conclude(self, place: Checkpoint) -> Envelope:
        model = released(self._session, place.state, place.round - 1)
        name = self._around.settings.model_name
        return self._cohort.patiently(
            lambda: self._around.gateway.register_model(self._session.permit.run_id, name, model)
        )
