"""The version before and this one understand each other: what it sent is read, and it reads what
is sent now."""

import dataclasses
import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto

from fedcore import wire
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.rounds import Cosignature, Order, Receipt, RoundReport
from fedcore.signing import open_envelope
from fedcore.trust import verify_order_model, verify_permit, verify_receipt

GOLDEN = Path(__file__).parents[1] / "golden" / "wire" / "0.1.0"
KEYS = json.loads((GOLDEN / "keys.json").read_text())
# What each message of version 0.1.0 is, and how it is read and written.
KINDS = {
    "roll-call": ("read_roll_call", "roll_call_content"),
    "roll-call-reply": ("read_roll_call_reply", "roll_call_reply_content"),
    "first-train": ("read_train", "train_content"),
    "first-train-reply": ("read_train_reply", "train_reply_content"),
    "train": ("read_train", "train_content"),
    "train-reply": ("read_train_reply", "train_reply_content"),
}


def load_old():
    """The wire of version 0.1.0, as it was."""
    path = str(GOLDEN / "wire.py.txt")
    loader = importlib.machinery.SourceFileLoader("wire_0_1_0", path)
    spec: Any = importlib.util.spec_from_loader("wire_0_1_0", loader)
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["wire_0_1_0"] = module
    loader.exec_module(module)
    return module


OLD = load_old()


def content(name):
    return recorddict_from_proto(RecordDictProto.FromString((GOLDEN / f"{name}.bin").read_bytes()))


def to_bytes(made):
    return recorddict_to_proto(made).SerializeToString(deterministic=True)


def read(name, module=wire):
    return getattr(module, KINDS[name][0])(content(name))


def opened(envelope, kind, signer):
    return open_envelope(envelope, kind, KEYS[signer], Realm.SIMULATION)


def test_the_reader_of_0_1_0_is_the_one_that_wrote_these_bytes():
    for name, (reader, writer) in KINDS.items():
        then = getattr(OLD, reader)(content(name))
        assert to_bytes(getattr(OLD, writer)(then)) == (GOLDEN / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", KINDS)
def test_what_0_1_0_sent_is_read_as_it_was_meant(name):
    then, now = read(name, OLD), read(name)
    for field in dataclasses.fields(then):
        assert getattr(now, field.name) == getattr(then, field.name)


def test_what_0_1_0_signed_is_believed():
    first, request, reply = read("first-train"), read("train"), read("train-reply")
    permit = opened(request.permit, Permit, "governance")
    plan = opened(request.plan, TrainingPlan, "author")
    order = opened(request.order, Order, "server")
    report = opened(request.previous_report, RoundReport, "server")
    verify_permit(permit, plan, permit.run_id, Realm.SIMULATION)
    verify_order_model(order, report, plan.initial_model)
    verify_receipt(opened(reply.receipt, Receipt, "north"), order, permit, plan)
    assert first.previous_report is None
    assert opened(read("roll-call-reply").cosignature, Cosignature, "north").unit == "north"
    assert read("roll-call").permit == request.permit


@pytest.mark.parametrize("name", KINDS)
def test_what_is_sent_now_0_1_0_reads_as_the_same(name):
    _, writer = KINDS[name]
    message = everything_set(read(name))
    made = recorddict_from_proto(recorddict_to_proto(getattr(wire, writer)(message)))
    assert getattr(OLD, KINDS[name][0])(made) == read(name, OLD)


def everything_set(message):
    """The message with every field that came after 0.1.0 set."""
    fields = {field.name for field in dataclasses.fields(message)}
    new = {"renewal": read("roll-call").plan, "server_version": "0.2.0"}
    assert not fields & new.keys() or new.keys() <= fields
    return dataclasses.replace(message, **{name: new[name] for name in fields & new.keys()})


def test_a_server_that_does_not_say_its_version_is_0_1_0():
    assert {read(name).server_version for name in ("roll-call", "train")} == {"0.1.0"}
    assert {read(name).renewal for name in ("roll-call", "train")} == {None}
