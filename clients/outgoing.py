"""What an answer to the server is, for the journal of what left: read from the answer itself."""

from datetime import datetime
from pathlib import Path

from flwr.app import Context, Message

from clients import runtime
from clients.sent import Departure, journal_path, record_departure
from clients.settings import NodeSettings
from fedcore import canonical, wire
from fedcore.errors import FedError
from fedcore.permits import Permit
from fedcore.rounds import Order, Receipt
from fedcore.signing import Envelope

_ANSWERS = {wire.ROLL_CALL: "roll call answer", wire.WITNESS: "cosignature"}


def record_reply(request: Message, reply: Message, context: Context) -> None:
    """List an answer before it leaves.

    Raises: FedError when it cannot be listed; any error for an answer of no known kind. In both
        cases it must not leave.
    """
    settings = NodeSettings.load(Path(str(context.node_config["settings"])))
    now = runtime.SEAM.current(settings.realm).clock.now()
    record_departure(journal_path(settings.state_dir), _departure(request, reply, now))


def _departure(request: Message, reply: Message, now: datetime) -> Departure:
    if reply.has_error():
        code = wire.read_refusal(reply).code
        run_id, round_ = _asked_for(request)
        return Departure(now, "server", f"refusal {code}", len(code), run_id=run_id, round=round_)
    size = sum(record.count_bytes() for record in reply.content.values())
    kind = request.metadata.message_type
    if kind == wire.TRAIN:
        receipt = wire.read_train_reply(reply.content).receipt
        return _charged_answer("train answer", receipt, now, size)
    if kind == wire.EVALUATE:
        receipt = wire.read_evaluate_reply(reply.content).receipt
        return _charged_answer("evaluate answer", receipt, now, size)
    cosignature = wire.read_roll_call_reply(reply.content).cosignature
    run_id, _ = _asked_for(request)
    return Departure(now, "server", _ANSWERS[kind], size, cosignature.digest, run_id)


def _charged_answer(kind: str, envelope: Envelope, now: datetime, size: int) -> Departure:
    receipt = Receipt.from_bytes(envelope.payload_bytes)
    event = receipt.event.model_dump(mode="json", exclude_none=True)
    return Departure(
        now,
        "server",
        kind,
        size,
        envelope.digest,
        receipt.run_id,
        receipt.round,
        canonical.encode(event).decode(),
    )


def _asked_for(request: Message) -> tuple[str | None, int | None]:
    """Return run and round as the request names them, whoever signed it; None where it does not."""
    try:
        if request.metadata.message_type == wire.TRAIN:
            return _place_of(wire.read_train(request.content).order)
        if request.metadata.message_type == wire.EVALUATE:
            return _place_of(wire.read_evaluate(request.content).order)
        permit = wire.read_roll_call(request.content).permit
        return Permit.from_bytes(permit.payload_bytes).run_id, None
    except FedError:
        return None, None


def _place_of(envelope: Envelope) -> tuple[str, int]:
    order = Order.from_bytes(envelope.payload_bytes)
    return order.run_id, order.round
