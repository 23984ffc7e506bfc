import dataclasses

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.serde import (
    message_from_proto,
    message_to_proto,
    recorddict_from_proto,
    recorddict_to_proto,
)
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from fedcore import wire
from fedcore.errors import InvalidRecordError
from fedcore.record import Realm
from fedcore.signing import sign_record


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """Flower wants to know on whose behalf a message is made."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(scope="module")
def envelopes(documents):
    """Four envelopes; the wire does not care what is in them."""
    key = documents.key_of("server")
    contract = documents.contract_of()
    return [
        sign_record(contract.model_copy(update={"version": number}), key, Realm.PRODUCTION)
        for number in range(1, 5)
    ]


@pytest.fixture(scope="module")
def train_request(envelopes):
    order, permit, plan, other = envelopes
    return wire.TrainRequest(
        order=order,
        permit=permit,
        plan=plan,
        previous_report=other,
        cosignatures=(other, order),
        model=b"model bytes",
        renewal=plan,
        server_version="0.2.0",
    )


@pytest.fixture(scope="module")
def evaluate_request(envelopes):
    order, permit, plan, other = envelopes
    return wire.EvaluateRequest(
        order=order,
        permit=permit,
        plan=plan,
        training=(other, plan),
        previous_report=other,
        cosignatures=(other, order),
        models=(b"one model", b"another model"),
        renewal=plan,
        server_version="0.2.0",
    )


def sent(content):
    """Return the content after it went over Flower's wire as bytes."""
    return recorddict_from_proto(recorddict_to_proto(content))


def refusal(read, content):
    with pytest.raises(InvalidRecordError) as error:
        read(content)
    return error.value.code


# Round trips


@pytest.mark.parametrize("renewed", [False, True])
def test_a_roll_call_survives_the_wire(envelopes, renewed):
    renewal = envelopes[2] if renewed else None
    request = wire.RollCallRequest(envelopes[0], envelopes[1], renewal, "0.2.0")
    assert wire.read_roll_call(sent(wire.roll_call_content(request))) == request
    of_two = dataclasses.replace(request, training=tuple(envelopes[:2]))
    assert wire.read_roll_call(sent(wire.roll_call_content(of_two))) == of_two
    ended = dataclasses.replace(request, ended=envelopes[1])
    assert wire.read_roll_call(sent(wire.roll_call_content(ended))) == ended


@pytest.mark.parametrize("epoch", [0, 1, 2**53 - 1])
def test_an_answer_to_a_roll_call_survives_the_wire(envelopes, epoch):
    reply = wire.RollCallReply(cosignature=envelopes[0], epoch=epoch)
    assert wire.read_roll_call_reply(sent(wire.roll_call_reply_content(reply))) == reply


@given(st.binary(max_size=300), st.integers(0, 4), st.booleans())
def test_a_train_order_survives_the_wire(train_request, envelopes, model, cosigners, first):
    request = dataclasses.replace(
        train_request,
        model=model,
        cosignatures=tuple(envelopes[:cosigners]),
        previous_report=None if first else envelopes[3],
    )
    assert wire.read_train(sent(wire.train_content(request))) == request
    embedded = dataclasses.replace(request, embedding=model[::-1])
    assert wire.read_train(sent(wire.train_content(embedded))) == embedded


@given(st.binary(max_size=300))
def test_an_answer_to_a_train_order_survives_the_wire(envelopes, update):
    reply = wire.TrainReply(receipt=envelopes[0], update=update)
    assert wire.read_train_reply(sent(wire.train_reply_content(reply))) == reply


@given(st.lists(st.binary(max_size=99), min_size=1, max_size=2), st.booleans())
def test_an_order_to_evaluate_survives_the_wire(evaluate_request, models, first):
    request = dataclasses.replace(
        evaluate_request,
        models=tuple(models),
        training=evaluate_request.training[: len(models)],
        previous_report=None if first else evaluate_request.previous_report,
    )
    assert wire.read_evaluate(sent(wire.evaluate_content(request))) == request


@given(st.binary(max_size=300))
def test_an_answer_to_an_order_to_evaluate_survives_the_wire(envelopes, tables):
    reply = wire.EvaluateReply(receipt=envelopes[0], tables=tables)
    assert wire.read_evaluate_reply(sent(wire.evaluate_reply_content(reply))) == reply


def test_equal_requests_have_equal_bytes(train_request):
    first, second = (
        recorddict_to_proto(wire.train_content(train_request)).SerializeToString(deterministic=True)
        for _ in range(2)
    )
    assert first == second


# What a stranger may send


def documents_of(content):
    return content["documents"]


def drop(key):
    def change(content):
        del content[key]

    return change


def put(key, record):
    def change(content):
        content[key] = record

    return change


def set_document(key, value):
    def change(content):
        documents_of(content)[key] = value

    return change


def array(stype="safetensors", data=b"x"):
    return Array(dtype="uint8", shape=(len(data),), stype=stype, data=data)


MALFORMED = {
    "no documents": drop("documents"),
    "no model": drop("model"),
    "metrics for documents": put("documents", MetricRecord({"documents": 1.0})),
    "config for model": put("model", ConfigRecord({"model": b"x"})),
    "another name": put("model", ArrayRecord({"weights": array()})),
    "two models": put("model", ArrayRecord({"model": array(), "more": array()})),
    "empty model": put("model", ArrayRecord({})),
    "numpy model": put("model", ArrayRecord({"model": array("numpy.ndarray")})),
    "pickled model": put("model", ArrayRecord({"model": array("pickle")})),
    "text for order": set_document("order", "text"),
    "number for order": set_document("order", 7),
    "texts for order": set_document("order", ["text"]),
    "no order": set_document("order", []),
    "two orders": lambda content: set_document("order", documents_of(content)["order"] * 2)(
        content
    ),
    "two reports": lambda content: set_document(
        "previous_report", documents_of(content)["order"] * 2
    )(content),
    "two renewals": lambda content: set_document("renewal", documents_of(content)["order"] * 2)(
        content
    ),
    "text for renewal": set_document("renewal", "text"),
    "metrics for the server": put("server", MetricRecord({"version": 1.0})),
    "number for the version": put("server", ConfigRecord({"version": 2})),
    "no version": put("server", ConfigRecord({})),
    "endless version": put("server", ConfigRecord({"version": "x" * 81})),
    "too many": lambda content: set_document("cosignatures", documents_of(content)["order"] * 1001)(
        content
    ),
    "too large": set_document("order", [b"x" * (16 * 1024 * 1024 + 1)]),
    "number": set_document("cosignatures", [1]),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_order_is_refused_as_such(train_request, case):
    content = wire.train_content(train_request)
    wire.read_train(content)
    MALFORMED[case](content)
    assert refusal(wire.read_train, content) == "wire.malformed"


@pytest.mark.parametrize(
    "case",
    {
        "no training plan": set_document("training", []),
        "three training plans": lambda content: set_document(
            "training", documents_of(content)["order"] * 3
        )(content),
        "one model for two plans": drop("model-2"),
        "another name for a model": put("model-2", ArrayRecord({"model": array()})),
        "pickled model": put("model-2", ArrayRecord({"model-2": array("pickle")})),
        "two orders": MALFORMED["two orders"],
    }.values(),
)
def test_a_malformed_order_to_evaluate_is_refused_as_such(evaluate_request, case):
    content = wire.evaluate_content(evaluate_request)
    wire.read_evaluate(content)
    case(content)
    assert refusal(wire.read_evaluate, content) == "wire.malformed"


@pytest.mark.parametrize("tables", [None, "text", [b"x"], b"x" * 1_000_001])
def test_tables_are_bytes_of_a_bounded_length(envelopes, tables):
    content = wire.evaluate_reply_content(wire.EvaluateReply(envelopes[0], b"x" * 1_000_000))
    wire.read_evaluate_reply(content)
    content["tables"] = ConfigRecord({} if tables is None else {"tables": tables})
    assert refusal(wire.read_evaluate_reply, content) == "wire.malformed"


@pytest.mark.parametrize("data", [b"", b"{}", b"\x80\x04K\x01.", b'{"payload":1}', b"\xff"])
def test_bytes_that_are_no_envelope_are_refused(train_request, data):
    content = wire.train_content(train_request)
    set_document("order", [data])(content)
    assert refusal(wire.read_train, content) in {
        "envelope.invalid",
        "record.not_json",
        "record.not_canonical",
    }


@pytest.mark.parametrize("epoch", [True, 1.0, "1", [1], None])
def test_an_epoch_is_a_whole_number(envelopes, epoch):
    reply = wire.RollCallReply(cosignature=envelopes[0], epoch=1)
    content = wire.roll_call_reply_content(reply)
    wire.read_roll_call_reply(content)
    content["epoch"] = ConfigRecord({} if epoch is None else {"epoch": epoch})
    assert refusal(wire.read_roll_call_reply, content) == "wire.malformed"


READERS = (
    wire.read_roll_call,
    wire.read_roll_call_reply,
    wire.read_train,
    wire.read_train_reply,
    wire.read_evaluate,
    wire.read_evaluate_reply,
)


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_an_empty_message_is_refused_by_every_reader(read):
    assert refusal(read, RecordDict()) == "wire.malformed"


def test_one_kind_of_message_is_not_taken_for_another(train_request, evaluate_request, envelopes):
    contents = {
        "read_roll_call_reply": wire.roll_call_reply_content(wire.RollCallReply(envelopes[0], 1)),
        "read_train": wire.train_content(train_request),
        "read_train_reply": wire.train_reply_content(wire.TrainReply(envelopes[0], b"x")),
        "read_evaluate": wire.evaluate_content(evaluate_request),
        "read_evaluate_reply": wire.evaluate_reply_content(wire.EvaluateReply(envelopes[0], b"x")),
    }
    accepted = {
        (name, read.__name__)
        for name, content in contents.items()
        for read in READERS
        if reads(read, content)
    }
    # An order holds permit and plan as well, and one to evaluate all that one to train has: what
    # they are taken for is decided by the permit's kind. All else is told apart.
    assert accepted == {(name, name) for name in contents} | {
        ("read_train", "read_roll_call"),
        ("read_evaluate", "read_roll_call"),
        ("read_evaluate", "read_train"),
    }


def reads(read, content):
    try:
        read(content)
    except InvalidRecordError:
        return False
    return True


# Refusals


def answered(error):
    message = Message(RecordDict(), 2, wire.TRAIN, ttl=60.0)
    message.metadata.__dict__["_message_id"] = "1"
    return message, Message(error, reply_to=message)


def test_a_refusal_carries_a_bare_code():
    message, _ = answered(Error(code=0))
    reply = wire.refusal_message(wire.Refusal("budget.exceeded"), message)
    reply.metadata.__dict__["_message_id"] = "2"
    received = message_from_proto(message_to_proto(reply))
    assert not received.has_content()
    assert (received.error.code, received.error.reason) == (1, "budget.exceeded")
    assert wire.read_refusal(received) == wire.Refusal("budget.exceeded")


@pytest.mark.parametrize(
    "error",
    [Error(code=5), Error(code=2, reason="a traceback"), Error(code=1), Error(code=1, reason="")],
)
def test_a_fault_of_the_engine_is_node_unavailable_and_nothing_of_its_text_is_taken(error):
    assert wire.read_refusal(answered(error)[1]) == wire.Refusal("node.unavailable")
