"""The only file that knows Flower's record keys: exchanges as values, to and from its messages."""

from dataclasses import dataclass

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MessageType, RecordDict

from fedcore.canonical import MAX_DOCUMENT_BYTES
from fedcore.errors import InvalidRecordError
from fedcore.signing import Envelope

ROLL_CALL = "query.roll_call"
WITNESS = "query.witness"
TRAIN = str(MessageType.TRAIN)
EVALUATE = str(MessageType.EVALUATE)
RUN_ID = "run-id"
PLAN_DIGEST = "plan-digest"
_DOCUMENTS = "documents"
_MODEL = "model"
# At most two models are evaluated at once.
_MODELS = (_MODEL, "model-2")
_EMBEDDING = "embedding"
_COMPARED = "compared"
_TABLES = "tables"
_MAX_TABLES_BYTES = 1_000_000
_EPOCH = "epoch"
_SERVER = "server"
_VERSION = "version"
_MAX_VERSION = 80
# Version 0.1.0 did not say which one it was.
_UNTOLD = "0.1.0"
_REFUSED = 1


@dataclass(frozen=True)
class RollCallRequest:
    """Are you there, under this permit for this plan?

    `renewal` is the newest one of the permit; `server_version` is the server's own, unsigned word.
    For an evaluation, `training` are the plans that its models were trained by, in their order.
    `ended` is the last report of a run that goes on no more, in the exchange after it.
    """

    permit: Envelope
    plan: Envelope
    renewal: Envelope | None = None
    server_version: str = _UNTOLD
    training: tuple[Envelope, ...] = ()
    ended: Envelope | None = None


@dataclass(frozen=True)
class RollCallReply:
    """I am this unit (signed), have seen this log, and hold opt-outs up to this hourly epoch."""

    cosignature: Envelope
    epoch: int


@dataclass(frozen=True)
class TrainRequest:
    """Do this order. `cosignatures` are the other units' views of the log; `renewal` and
    `server_version` are as in a roll call. `embedding` is the autoencoder that a plan of centres
    names; `compared` the model that a check compares with.
    """

    order: Envelope
    permit: Envelope
    plan: Envelope
    previous_report: Envelope | None
    cosignatures: tuple[Envelope, ...]
    model: bytes
    renewal: Envelope | None = None
    server_version: str = _UNTOLD
    embedding: bytes | None = None
    compared: bytes | None = None


@dataclass(frozen=True)
class TrainReply:
    """The signed receipt and what it names: the noised update (safetensors), or in a check the
    bytes of a `NoisedGain`.
    """

    receipt: Envelope
    update: bytes


@dataclass(frozen=True)
class EvaluateRequest:
    """Count these models' scores, in the order of the evaluation plan, or the one model's segments;
    the rest is as in `TrainRequest` and `RollCallRequest`.
    """

    order: Envelope
    permit: Envelope
    plan: Envelope
    training: tuple[Envelope, ...]
    previous_report: Envelope | None
    cosignatures: tuple[Envelope, ...]
    models: tuple[bytes, ...]
    renewal: Envelope | None = None
    server_version: str = _UNTOLD
    embedding: bytes | None = None


@dataclass(frozen=True)
class EvaluateReply:
    """The signed receipt and the noised tables that it names (bytes of a `NoisedTables`)."""

    receipt: Envelope
    tables: bytes


@dataclass(frozen=True)
class Refusal:
    """The node says no, with a reason code from a closed list."""

    code: str


def roll_call_content(request: RollCallRequest) -> RecordDict:
    """Return the Flower content of a roll call."""
    documents: dict[str, tuple[Envelope, ...]] = {
        "permit": (request.permit,),
        "plan": (request.plan,),
    }
    documents |= _renewal_of(request.renewal)
    documents |= {"training": request.training} if request.training else {}
    documents |= {"ended": (request.ended,)} if request.ended else {}
    return _told(_content(documents), request.server_version)


def read_roll_call(content: RecordDict) -> RollCallRequest:
    """Return the roll call of a Flower content. Raises: InvalidRecordError."""
    return RollCallRequest(
        permit=_one(content, "permit"),
        plan=_one(content, "plan"),
        renewal=_at_most_one(content, "renewal"),
        server_version=_server_version(content),
        training=_many(content, "training", len(_MODELS)),
        ended=_at_most_one(content, "ended"),
    )


def roll_call_reply_content(reply: RollCallReply) -> RecordDict:
    """Return the Flower content of an answer to a roll call."""
    content = _content({"cosignature": (reply.cosignature,)})
    content[_EPOCH] = ConfigRecord({_EPOCH: reply.epoch})
    return content


def read_roll_call_reply(content: RecordDict) -> RollCallReply:
    """Return the answer of a Flower content. Raises: InvalidRecordError."""
    epoch = _config(content, _EPOCH).get(_EPOCH)
    if not isinstance(epoch, int) or isinstance(epoch, bool):
        raise InvalidRecordError("wire.malformed", "the roll call reply names no epoch")
    return RollCallReply(cosignature=_one(content, "cosignature"), epoch=epoch)


def train_content(request: TrainRequest) -> RecordDict:
    """Return the Flower content of a train order."""
    content = _content(_documents_of(request), request.model)
    content = _beside(content, _EMBEDDING, request.embedding)
    content = _beside(content, _COMPARED, request.compared)
    return _told(content, request.server_version)


def read_train(content: RecordDict) -> TrainRequest:
    """Return the train order of a Flower content. Raises: InvalidRecordError."""
    return TrainRequest(
        order=_one(content, "order"),
        permit=_one(content, "permit"),
        plan=_one(content, "plan"),
        previous_report=_at_most_one(content, "previous_report"),
        cosignatures=_many(content, "cosignatures"),
        model=_model(content),
        renewal=_at_most_one(content, "renewal"),
        server_version=_server_version(content),
        embedding=_found_beside(content, _EMBEDDING),
        compared=_found_beside(content, _COMPARED),
    )


def train_reply_content(reply: TrainReply) -> RecordDict:
    """Return the Flower content of an answer to a train order."""
    return _content({"receipt": (reply.receipt,)}, reply.update)


def read_train_reply(content: RecordDict) -> TrainReply:
    """Return the answer of a Flower content. Raises: InvalidRecordError."""
    return TrainReply(receipt=_one(content, "receipt"), update=_model(content))


def evaluate_content(request: EvaluateRequest) -> RecordDict:
    """Return the Flower content of an order to evaluate."""
    documents = _documents_of(request) | {"training": request.training}
    content = _beside(_content(documents, *request.models), _EMBEDDING, request.embedding)
    return _told(content, request.server_version)


def read_evaluate(content: RecordDict) -> EvaluateRequest:
    """Return the order to evaluate of a Flower content. Raises: InvalidRecordError."""
    training = _many(content, "training", len(_MODELS))
    if not training:
        raise InvalidRecordError("wire.malformed", "the message has no plan of training")
    return EvaluateRequest(
        order=_one(content, "order"),
        permit=_one(content, "permit"),
        plan=_one(content, "plan"),
        training=training,
        previous_report=_at_most_one(content, "previous_report"),
        cosignatures=_many(content, "cosignatures"),
        models=tuple(_model(content, key) for key in _MODELS[: len(training)]),
        renewal=_at_most_one(content, "renewal"),
        server_version=_server_version(content),
        embedding=_found_beside(content, _EMBEDDING),
    )


def evaluate_reply_content(reply: EvaluateReply) -> RecordDict:
    """Return the Flower content of an answer to an order to evaluate."""
    content = _content({"receipt": (reply.receipt,)})
    content[_TABLES] = ConfigRecord({_TABLES: reply.tables})
    return content


def read_evaluate_reply(content: RecordDict) -> EvaluateReply:
    """Return the answer of a Flower content. Raises: InvalidRecordError."""
    tables = _config(content, _TABLES).get(_TABLES)
    if not isinstance(tables, bytes) or len(tables) > _MAX_TABLES_BYTES:
        raise InvalidRecordError("wire.malformed", "the answer has no tables")
    return EvaluateReply(receipt=_one(content, "receipt"), tables=tables)


def refusal_message(refusal: Refusal, to: Message) -> Message:
    """Return the Flower error message that carries a bare reason code and nothing else."""
    return Message(Error(code=_REFUSED, reason=refusal.code), reply_to=to)


def read_refusal(message: Message) -> Refusal:
    """Return why a node's message has no content; a fault of the engine's own is
    `node.unavailable`.
    """
    error = message.error
    known = error.code == _REFUSED and error.reason
    return Refusal(error.reason if known and error.reason else "node.unavailable")


def _documents_of(request: TrainRequest | EvaluateRequest) -> dict[str, tuple[Envelope, ...]]:
    """Return what any order is sent with."""
    return {
        "order": (request.order,),
        "permit": (request.permit,),
        "plan": (request.plan,),
        "previous_report": (request.previous_report,) if request.previous_report else (),
        "cosignatures": request.cosignatures,
        **_renewal_of(request.renewal),
    }


def _content(documents: dict[str, tuple[Envelope, ...]], *models: bytes) -> RecordDict:
    record = ConfigRecord({k: [e.to_bytes() for e in found] for k, found in documents.items()})
    content = RecordDict({_DOCUMENTS: record})
    for key, model in zip(_MODELS, models, strict=False):
        content[key] = _arrays(key, model)
    return content


def _arrays(key: str, model: bytes) -> ArrayRecord:
    array = Array(dtype="uint8", shape=(len(model),), stype="safetensors", data=model)
    return ArrayRecord({key: array})


def _beside(content: RecordDict, key: str, model: bytes | None) -> RecordDict:
    if model is not None:
        content[key] = _arrays(key, model)
    return content


def _found_beside(content: RecordDict, key: str) -> bytes | None:
    return _model(content, key) if key in content else None


def _renewal_of(renewal: Envelope | None) -> dict[str, tuple[Envelope, ...]]:
    """Return the renewal as a document of its own; version 0.1.0 leaves it unread."""
    return {} if renewal is None else {"renewal": (renewal,)}


def _told(content: RecordDict, server_version: str) -> RecordDict:
    content[_SERVER] = ConfigRecord({_VERSION: server_version})
    return content


def _server_version(content: RecordDict) -> str:
    if _SERVER not in content:
        return _UNTOLD
    version = _config(content, _SERVER).get(_VERSION)
    if not isinstance(version, str) or not 0 < len(version) <= _MAX_VERSION:
        raise InvalidRecordError("wire.malformed", "the message names no version of the server")
    return version


def _config(content: RecordDict, key: str) -> ConfigRecord:
    record = content.get(key)
    if not isinstance(record, ConfigRecord):
        raise InvalidRecordError("wire.malformed", f"the message has no part {key}")
    return record


def _many(content: RecordDict, key: str, most: int = 1000) -> tuple[Envelope, ...]:
    found = _config(content, _DOCUMENTS).get(key, [])
    if not isinstance(found, list) or len(found) > most:
        raise InvalidRecordError("wire.malformed", f"the message has no list of documents {key}")
    envelopes = []
    for data in found:
        if not isinstance(data, bytes) or len(data) > MAX_DOCUMENT_BYTES:
            raise InvalidRecordError("wire.malformed", f"{key} is no document")
        envelopes.append(Envelope.from_bytes(data))
    return tuple(envelopes)


def _one(content: RecordDict, key: str) -> Envelope:
    found = _many(content, key)
    if len(found) != 1:
        raise InvalidRecordError("wire.malformed", f"the message must have exactly one {key}")
    return found[0]


def _at_most_one(content: RecordDict, key: str) -> Envelope | None:
    found = _many(content, key)
    if len(found) > 1:
        raise InvalidRecordError("wire.malformed", f"the message may have only one {key}")
    return found[0] if found else None


def _model(content: RecordDict, key: str = _MODEL) -> bytes:
    record = content.get(key)
    if not isinstance(record, ArrayRecord) or set(record) != {key}:
        raise InvalidRecordError("wire.malformed", "the message has no model")
    array = record[key]
    if array.stype != "safetensors":
        raise InvalidRecordError("wire.malformed", "the model is not in safetensors format")
    return bytes(array.data)
