"""Where a run stands, on disk, so that it goes on at the next round after a crash.

Written whole and atomically: before a round's orders are sent (so that the very same orders can be
sent again) and after each report. When its retention is over it is written once more, without what
was made of updates (`strip_checkpoint`): permit, orders, receipts and report stay.
"""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load

from fedcore import canonical
from fedcore.atomic import write_atomically
from fedcore.errors import ConflictError, FedError, InvalidRecordError
from fedcore.signing import Envelope
from fedcore.weights import Weights, encode_weights
from fedserver.strategy import Aggregate

_WEIGHTS = ("model", "momentum", "late_sum", "root", "best")
_TABLES = "tables"
# What was made of the units' answers.
_UPDATES = {*_WEIGHTS, _TABLES}


@dataclass(frozen=True)
class Checkpoint:
    """A run's place: the round and attempt to do next, and what it needs.

    `orders` are the signed orders of that attempt when they may have been sent already. `report`
    is the last one, with its `receipts`; governance may not have it yet, and takes it twice
    without harm. `permit` is the run's; a checkpoint of before version 0.3 has none. `tables` are
    what the units of an accepted evaluation have answered, by unit.
    """

    round: int
    attempt: int
    state: Aggregate
    report: Envelope | None = None
    receipts: tuple[Envelope, ...] = field(default=())
    orders: tuple[Envelope, ...] = field(default=())
    permit: Envelope | None = None
    tables: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Papers:
    """What a checkpoint says besides its weights.

    `digest` is that of the whole place; `swept` is the hash of the entry in the record of sweeps
    that says why the weights are gone, None while they are there.
    """

    digest: str
    swept: str | None
    permit: Envelope | None
    report: Envelope | None
    orders: tuple[Envelope, ...]


def checkpoint_path(work_dir: Path, run_id: str) -> Path:
    """Return where the checkpoint of a run is kept."""
    return work_dir / f"{run_id}.json"


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint: after a crash the file is the old one or the new one."""
    state = checkpoint.state
    value = {
        "round": checkpoint.round,
        "attempt": checkpoint.attempt,
        **{name: _packed(getattr(state, name)) for name in _WEIGHTS},
        "missed": state.missed,
        "permit": _plain(checkpoint.permit) if checkpoint.permit else None,
        "report": _plain(checkpoint.report) if checkpoint.report else None,
        "receipts": [_plain(receipt) for receipt in checkpoint.receipts],
        "orders": [_plain(order) for order in checkpoint.orders],
    }
    if checkpoint.tables:
        tables = sorted(checkpoint.tables.items())
        value[_TABLES] = {unit: base64.b64encode(data).decode() for unit, data in tables}
    _write(path, value)


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint of a file, or None when there is none.

    Raises: InvalidRecordError `checkpoint.corrupt`: delete the file to start the run's server side
        anew; nodes will refuse what they answered before. ConflictError `checkpoint.swept`.
    """
    if not path.exists():
        return None
    with _naming(path):
        value = _undamaged(path.read_bytes())
        papers = _papers(value)
    if papers.swept is not None:
        raise ConflictError(
            "checkpoint.swept",
            f"the weights of {path.name} were deleted when their retention was over, and the run "
            "cannot go on: start one with another run id",
        )
    with _naming(path):
        return Checkpoint(
            round=value["round"],
            attempt=value["attempt"],
            # Checkpoints of before version 0.3 have no `root`, and none of before early stopping
            # has `best`; without one of the others there is no aggregate.
            state=Aggregate(
                **{name: _unpacked(value[name]) for name in _WEIGHTS if name in value},
                missed=value.get("missed", 0),
            ),
            report=papers.report,
            receipts=tuple(Envelope.from_json(receipt) for receipt in value["receipts"]),
            orders=papers.orders,
            permit=papers.permit,
            tables={u: base64.b64decode(text) for u, text in value.get(_TABLES, {}).items()},
        )


def load_papers(path: Path) -> Papers:
    """Return what a file says besides its weights. Raises: InvalidRecordError
    `checkpoint.corrupt`.
    """
    with _naming(path):
        return _papers(_undamaged(path.read_bytes()))


def strip_checkpoint(path: Path, entry: str) -> None:
    """Delete a checkpoint's weights and tables; after a crash all of them are there or none.

    Args: `entry` is the hash of the entry in the record of sweeps that says why.
    """
    with _naming(path):
        value = _undamaged(path.read_bytes())
        kept = {name: part for name, part in value.items() if name not in _UPDATES}
    _write(path, {**kept, "swept": entry})


def _write(path: Path, value: dict[str, Any]) -> None:
    stored = {"digest": canonical.digest_of(value), "place": value}
    write_atomically(path, canonical.encode(stored))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever shows that a file is no checkpoint into `checkpoint.corrupt`."""
    try:
        yield
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


def _papers(value: dict[str, Any]) -> Papers:
    permit = value.get("permit")
    return Papers(
        digest=canonical.digest_of(value),
        swept=value.get("swept"),
        permit=Envelope.from_json(permit) if permit else None,
        report=Envelope.from_json(value["report"]) if value["report"] else None,
        orders=tuple(Envelope.from_json(order) for order in value["orders"]),
    )


def _packed(weights: Weights) -> str:
    return base64.b64encode(encode_weights(weights)).decode()


def _unpacked(text: str) -> Weights:
    return load(base64.b64decode(text))


def _plain(envelope: Envelope) -> object:
    return envelope.model_dump(mode="json", by_alias=True)
