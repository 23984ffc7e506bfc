"""Attempts that must fail, for real, each beside its repaired twin that must succeed.

A world of its own, with the same rows and rules, so that the main run's ledgers stay as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from flwr.proto.message_pb2 import Message as MessageProto

from fedcore import canonical, wire
from fedcore.encodings import input_names
from fedcore.errors import FedError
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.privacy.calibration import noise_multiplier_for
from fedcore.record import Realm
from fedcore.rounds import Order, RoundReport
from fedcore.signing import Envelope, sign_record
from fedcore.tasks.task import initial_weights, load_task
from fedcore.weights import encode_weights
from fedserver.exchanges import exchange
from fedserver.rollcall import call_roll
from fedserver.runtime import Watcher
from simulations.federation import Federation
from simulations.paperwork import make_dpia

REALM = Realm.SIMULATION
EPSILON_CAP = 8.0
ACCEPTED = "accepted"


@dataclass(frozen=True)
class Pair:
    """An attempt that must meet the `expected` code, and its twin after one fact was repaired.

    `results` are what attempt and twin came to: `accepted`, or a reason code. `promise` says what
    the twin does when it is accepted.
    """

    title: str
    attempt: str
    expected: str
    results: tuple[str, str]
    repair: str
    promise: str

    @property
    def ok(self) -> bool:
        """Whether the attempt met just the expected code, and the twin succeeded."""
        return self.results == (self.expected, ACCEPTED)

    @property
    def code(self) -> str:
        """The reason code that the attempt met, or `accepted`."""
        return self.results[0]

    @property
    def sentence(self) -> str:
        """What became of the attempt."""
        if self.code == self.expected:
            return f"Refused: {self.code}."
        met = "It was not refused" if self.code == ACCEPTED else f"Refused: {self.code}"
        return f"{met}; expected was {self.expected}."

    @property
    def outcome(self) -> str:
        """What became of the twin."""
        twin = self.results[1]
        return self.promise if twin == ACCEPTED else f"It was refused as well: {twin}."


def _nobody(report: RoundReport, model: bytes) -> None:
    del report, model


class Theatre:
    """A small world in which to attempt things; `plan` is a plan of two rounds that it allows."""

    def __init__(self, federation: Federation, plan: TrainingPlan) -> None:
        self.federation = federation
        self.plan = plan
        self.unit = next(iter(federation.units))
        self._runs = 0
        names = len(input_names(plan.features, federation.contract))
        task = load_task(plan.task)
        self.model = encode_weights(initial_weights(task, plan.model, names))

    def new_run(self) -> str:
        """Return a run id that was not used yet."""
        self._runs += 1
        return f"attempt-{self._runs}"

    def permit(self, run_id: str, plan: TrainingPlan | None = None) -> Envelope:
        """Return governance's permit for a run of the plan."""
        digest = self.federation.register(plan or self.plan)
        return self.federation.offices["operator"].request_permit(digest, run_id)

    def order(self, permit: Envelope, **changes: object) -> Order:
        """Return the order of round one to the unit, with these fields changed."""
        granted = Permit.from_bytes(permit.payload_bytes)
        now = self.federation.clock.now()
        values: dict[str, object] = {
            "run_id": granted.run_id,
            "realm": REALM,
            "unit": self.unit,
            "round": 1,
            "attempt": 1,
            "permit": granted.digest,
            "plan": granted.plan,
            "model": canonical.digest(self.model),
            "issued_at": now,
            "deadline_at": now + timedelta(minutes=10),
        }
        return Order.model_validate({**values, **changes})

    def send(self, order: Order, permit: Envelope, plan: TrainingPlan | None = None) -> str:
        """Send a signed order over the grid. Returns: `accepted`, or the node's reason code."""
        signed_plan = self.federation.sign_plan(plan or self.plan)
        request = wire.TrainRequest(
            order=sign_record(order, self.federation.server_key, REALM),
            permit=permit,
            plan=signed_plan,
            previous_report=None,
            cosignatures=self._cosignatures(permit, signed_plan),
            model=self.model,
        )
        node = self.federation.node_id(self.unit)
        content = {node: wire.train_content(request)}
        answers = exchange(self.federation.grid, wire.TRAIN, content, "attempt", (5.0, 0.01))
        return ACCEPTED if node in answers.contents else answers.refusals[node]

    def _cosignatures(self, permit: Envelope, plan: Envelope) -> tuple[Envelope, ...]:
        """Return the units' views of the log, as an honest server sends them on."""
        request = wire.RollCallRequest(permit=permit, plan=plan)
        granted = Permit.from_bytes(permit.payload_bytes)
        roll = call_roll(self.federation.grid, request, granted, (5.0, 0.01))
        return tuple(roll.cosignatures.values())

    def roll_call(self, permit: Envelope) -> str:
        """Call the unit's roll. Returns: `accepted`, or the node's reason code."""
        request = wire.RollCallRequest(permit=permit, plan=self.federation.sign_plan(self.plan))
        node = self.federation.node_id(self.unit)
        content = {node: wire.roll_call_content(request)}
        answers = exchange(self.federation.grid, wire.ROLL_CALL, content, "attempt", (5.0, 0.01))
        return ACCEPTED if node in answers.contents else answers.refusals[node]

    def run(self, run_id: str, plan: TrainingPlan | None = None, watch: Watcher = _nobody) -> str:
        """Do a whole run. Returns: `accepted`, or the reason code that ended it."""
        digest = self.federation.register(plan or self.plan)
        try:
            self.federation.run(digest, run_id, watch)
        except FedError as error:
            return error.code
        return ACCEPTED


def attempt_all(federation: Federation, plan: TrainingPlan) -> list[Pair]:
    """Do every attempt and its repaired twin, in a world whose DPIA is not in force yet."""
    theatre = Theatre(federation, plan)
    return [attempt(theatre) for attempt in _ATTEMPTS]


def small_plan(plan: TrainingPlan, units: set[str]) -> TrainingPlan:
    """Return the plan for these units, with two rounds and a spare one at epsilon 0.5."""
    noise = noise_multiplier_for(0.5, plan.privacy.delta, 3, plan.privacy.sampling_rate)
    privacy = plan.privacy.model_copy(update={"noise_multiplier": noise, "local_steps": 1})
    algorithm = plan.averaging.model_copy(update={"average_last": 1})
    changes = {"rounds": 2, "spare_rounds": 1, "attempts": 2}
    return plan.model_copy(
        update={
            **changes,
            "privacy": privacy,
            "algorithm": algorithm,
            "units": tuple(terms for terms in plan.units if terms.unit in units),
            "minimum_units": len(units),
        }
    )


def _without_dpia(theatre: Theatre) -> Pair:
    run_id = theatre.new_run()
    refused = theatre.run(run_id)
    federation = theatre.federation
    now = federation.clock.now()
    federation.put_in_force(make_dpia(theatre.plan, federation.contract, EPSILON_CAP, now))
    return Pair(
        "No DPIA in force",
        "The operator starts a run of a registered plan that no DPIA in force covers.",
        "dpia.missing",
        (refused, theatre.run(run_id)),
        "Evaluator, DPO and approver act on the DPIA; it comes in force.",
        "The same run is permitted, trains and ends with a registered model.",
    )


def _without_permit(theatre: Theatre) -> Pair:
    run_id = theatre.new_run()
    permit = theatre.permit(run_id)
    forged = sign_record(
        Permit.from_bytes(permit.payload_bytes), theatre.federation.server_key, REALM
    )
    order = theatre.order(permit)
    return Pair(
        "No permit of governance",
        "The server sends an order under a permit that it has signed itself.",
        "signature.wrong_key",
        (theatre.send(order, forged), theatre.send(order, permit)),
        "The same order travels with governance's own signature.",
        "The node answers with a charged update and a receipt.",
    )


def _expired(theatre: Theatre) -> Pair:
    old = theatre.permit(theatre.new_run())
    theatre.federation.tick(hours=25)
    refused = theatre.send(theatre.order(old), old)
    fresh = theatre.permit(theatre.new_run())
    return Pair(
        "Expired permit",
        "The order comes 25 hours after a permit that counts for 24.",
        "permit.expired",
        (refused, theatre.send(theatre.order(fresh), fresh)),
        "The server asks for a permit for a new run, and issues an order under it.",
        "The node answers the new order under the new permit.",
    )


def _changed_plan(theatre: Theatre) -> Pair:
    permit = theatre.permit(theatre.new_run())
    noise = theatre.plan.privacy.noise_multiplier / 2
    privacy = theatre.plan.privacy.model_copy(update={"noise_multiplier": noise})
    changed = theatre.plan.model_copy(update={"privacy": privacy})
    order = theatre.order(permit)
    return Pair(
        "Plan changed by one field",
        "The author signs the plan anew with half the noise; the permit is the old plan's.",
        "permit.other_plan",
        (theatre.send(order, permit, changed), theatre.send(order, permit)),
        "The same order travels with the plan that was permitted.",
        "The node answers.",
    )


def _other_run(theatre: Theatre) -> Pair:
    run_id = theatre.new_run()
    permit = theatre.permit(run_id)
    other = theatre.order(permit, run_id="another-run")
    return Pair(
        "Permit of another run",
        "The order belongs to another run than its permit.",
        "permit.other_run",
        (theatre.send(other, permit), theatre.send(theatre.order(permit), permit)),
        "The server issues an order that names the permitted run.",
        "The node answers the new order.",
    )


def _revoked(theatre: Theatre) -> Pair:
    run_id = theatre.new_run()

    def stop(*_: object) -> None:
        theatre.federation.offices["dpo"].revoke_permit(run_id, "The DPO stops the run.")

    refused = theatre.run(run_id, watch=stop)
    return Pair(
        "Permit revoked in mid-run",
        "The DPO revokes the permit after round one; the run goes for round two.",
        "permit.revoked",
        (refused, theatre.run(theatre.new_run())),
        "A new run of the same plan gets a permit of its own, which nobody revokes.",
        "The new run finishes all its rounds.",
    )


def _stale(theatre: Theatre) -> Pair:
    permit = theatre.permit(theatre.new_run())
    order = theatre.order(permit, round=1)
    accepted = theatre.send(order, permit)
    theatre.federation.cut_off = True
    theatre.federation.tick(minutes=20)
    second = theatre.permit(theatre.new_run())
    refused = theatre.roll_call(second)
    theatre.federation.cut_off = False
    return Pair(
        "Stale opt-out bulletin",
        "The node cannot reach governance for 20 minutes; bulletins count for 15.",
        "bulletin.stale",
        (refused, theatre.roll_call(second) if accepted == ACCEPTED else accepted),
        "Governance is reachable again.",
        "The same roll call: the node pulls a fresh bulletin and is available.",
    )


def _overspent(theatre: Theatre) -> Pair:
    plan = theatre.plan
    noise = noise_multiplier_for(7.0, plan.privacy.delta, 3, plan.privacy.sampling_rate)
    dear = plan.model_copy(
        update={"privacy": plan.privacy.model_copy(update={"noise_multiplier": noise})}
    )
    permit = theatre.permit(theatre.new_run(), dear)
    refused = theatre.send(theatre.order(permit), permit, dear)
    frugal = theatre.permit(theatre.new_run())
    return Pair(
        "Privacy budget overspent",
        "A permitted run asks for epsilon 7; with what was spent before, the unit's cap is passed.",
        "budget.exceeded",
        (refused, theatre.send(theatre.order(frugal), frugal)),
        "Another plan adds more noise and asks for epsilon 0.5; a new run of it gets a permit.",
        "The unit's ledger reserves it and the node answers the new order.",
    )


def _tampered(theatre: Theatre) -> Pair:
    plan = theatre.plan.model_copy(update={"attempts": 1})
    theatre.federation.grid.tap = _tamper
    refused = theatre.run(theatre.new_run(), plan)
    theatre.federation.grid.tap = _deliver
    return Pair(
        "Tampered receipt",
        "Somebody on the way changes a byte of each receipt.",
        "signature.invalid",
        (refused, theatre.run(theatre.new_run(), plan)),
        "In a new run of the same plan the receipts arrive as they were signed.",
        "The server accepts them and the run finishes.",
    )


def _replayed(theatre: Theatre) -> Pair:
    permit = theatre.permit(theatre.new_run())
    theatre.send(theatre.order(permit), permit)
    theatre.federation.tick(minutes=1)
    again = theatre.order(permit)
    return Pair(
        "Replayed order",
        "The server issues an order anew that the node has answered: it would get a second draw.",
        "order.replayed",
        (theatre.send(again, permit), theatre.send(theatre.order(permit, attempt=2), permit)),
        "A new order says that it is a second attempt; the permit allows, the ledger charges it.",
        "The node answers the second attempt.",
    )


def _deliver(_node: int, _request: bytes, reply: bytes) -> bytes:
    return reply


def _tamper(_node: int, _request: bytes, reply: bytes) -> bytes:
    """Return the reply with one character of its receipt's payload changed."""
    message = MessageProto.FromString(reply)
    for item in message.content.items:
        if item.key == "documents":
            for entry in item.config_record.items:
                if entry.key == "receipt":
                    data = bytearray(entry.value.bytes_list.vals[0])
                    data[40] = ord("A") if data[40] != ord("A") else ord("B")
                    entry.value.bytes_list.vals[0] = bytes(data)
    return bytes(message.SerializeToString())


_ATTEMPTS: tuple[Callable[[Theatre], Pair], ...] = (
    _without_dpia,
    _without_permit,
    _expired,
    _changed_plan,
    _other_run,
    _revoked,
    _stale,
    _overspent,
    _tampered,
    _replayed,
)
