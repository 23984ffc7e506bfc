"""Where a run stands, on disk, so that it goes on at the next round after a crash.

Written whole and atomically: before a round's orders are sent (so that the very same orders can be
sent again) and after each report.
"""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load

from fedcore import canonical
from fedcore.atomic import write_atomically
from fedcore.errors import FedError, InvalidRecordError
from fedcore.signing import Envelope
from fedcore.weights import Weights, encode_weights
from fedserver.strategy import Aggregate


@dataclass(frozen=True)
class Checkpoint:
    """A run's place: the round and attempt to do next, and what it needs.

    `orders` are the signed orders of that attempt when they may have been sent already. `report`
    is the last one, with its `receipts`; governance may not have it yet, and takes it twice
    without harm.
    """

    round: int
    attempt: int
    state: Aggregate
    report: Envelope | None = None
    receipts: tuple[Envelope, ...] = field(default=())
    orders: tuple[Envelope, ...] = field(default=())


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint: after a crash the file is the old one or the new one."""
    state = checkpoint.state
    value = {
        "round": checkpoint.round,
        "attempt": checkpoint.attempt,
        "model": _packed(state.model),
        "momentum": _packed(state.momentum),
        "late_sum": _packed(state.late_sum),
        **({"root": _packed(state.root)} if state.root else {}),
        "report": _plain(checkpoint.report) if checkpoint.report else None,
        "receipts": [_plain(receipt) for receipt in checkpoint.receipts],
        "orders": [_plain(order) for order in checkpoint.orders],
    }
    stored = {"digest": canonical.digest_of(value), "place": value}
    write_atomically(path, canonical.encode(stored))


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint of a file, or None when there is none.

    Raises: InvalidRecordError `checkpoint.corrupt`: delete the file to start the run's server side
        anew; nodes will refuse what they answered before.
    """
    if not path.exists():
        return None
    try:
        value = _undamaged(path.read_bytes())
        return Checkpoint(
            round=value["round"],
            attempt=value["attempt"],
            state=Aggregate(
                model=_unpacked(value["model"]),
                momentum=_unpacked(value["momentum"]),
                late_sum=_unpacked(value["late_sum"]),
                root=_unpacked(value["root"]) if "root" in value else {},
            ),
            report=Envelope.from_json(value["report"]) if value["report"] else None,
            receipts=tuple(Envelope.from_json(receipt) for receipt in value["receipts"]),
            orders=tuple(Envelope.from_json(order) for order in value["orders"]),
        )
    except (FedError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise InvalidRecordError(
            "checkpoint.corrupt", f"the checkpoint {path.name} is damaged", str(error)
        ) from error


def _undamaged(data: bytes) -> dict[str, Any]:
    """Return what was saved. A changed bit in sums that no document names would be released."""
    stored = canonical.decode(data, canonical.MAX_LOCAL_BYTES)
    value: dict[str, Any] = stored["place"]
    if canonical.digest_of(value) != stored["digest"]:
        raise InvalidRecordError("checkpoint.corrupt", "the checkpoint's digest differs")
    return value


def _packed(weights: Weights) -> str:
    return base64.b64encode(encode_weights(weights)).decode()


def _unpacked(text: str) -> Weights:
    return load(base64.b64decode(text))


def _plain(envelope: Envelope) -> object:
    return envelope.model_dump(mode="json", by_alias=True)
