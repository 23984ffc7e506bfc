"""A task's process reads, trains and answers in a copy of an executor that has torch imported."""

import subprocess
import sys

import pytest

from clients.engine.child import read_reply, write_reply
from clients.engine.tasks import PackedReply
from fedcore.errors import InvalidRecordError

TRAIN = """
import io, json, os, select, sys, time
from datetime import date
from pathlib import Path
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import context_to_proto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.task_identity import TaskIdentity
from clients.engine.executor import warm_app
from clients.engine.child import fork_task, read_reply
from clients.engine.tasks import Work

warm_app()
from clients.data import Inputs, load_examples
from clients.pseudonyms import Pseudonymiser
from clients.sources import Source
from clients.training import train_locally
from fedcore.contracts import Contract
from fedcore.plans import TrainingPlan
from fedcore.privacy.noise import KeyStream
from fedcore.tasks.task import initial_weights, load_task

contract = Contract.model_validate_json(Path(sys.argv[1]).read_bytes())
plan = TrainingPlan.model_validate_json(Path(sys.argv[2]).read_bytes())
source = Source(Path(sys.argv[3]))

def app(message, context):
    pseudonyms = Pseudonymiser(bytes(32), contract.subject)
    today = date(2026, 3, 2)
    nobody = lambda subject: False
    examples = load_examples(source, contract, Inputs(plan.features), pseudonyms, nobody, today)
    task = load_task(plan.task)
    weights = initial_weights(task, plan.model, examples.features.shape[1])
    streams = (KeyStream(b"n" * 32), KeyStream(b"s" * 32))
    update = train_locally(task, plan, 48, weights, examples, streams)
    norm = sum(float((value ** 2).sum()) for value in update.values())
    return Message(RecordDict({"norm": ConfigRecord({"norm": norm})}), reply_to=message)

TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 11, 1
context = Context(run_id=7, node_id=11, node_config={}, state=RecordDict(), run_config={})
message = Message(RecordDict({"a": ConfigRecord({"b": 1})}), 11, "train")
message.metadata.__dict__["_run_id"] = 7
contents = {digest: part.deflate() for digest, part in get_all_nested_objects(message).items()}
work = Work(context_to_proto(context), message, message.object_id, contents)
for _ in range(int(sys.argv[4])):
    process, reading = fork_task(app, Work(work.context, message, work.message_id, dict(contents)))
    with os.fdopen(reading, "rb") as file:
        assert select.select([reading], [], [], 60)[0], "the copy hangs"
        reply = read_reply(file.read())
    assert os.waitpid(process, 0)[1] == 0
print(len(reply.contents))
"""


@pytest.mark.slow
def test_twenty_copies_read_rows_and_train_with_torch(tmp_path, contract, plan, rows, written):
    (tmp_path / "contract.json").write_text(contract.model_dump_json())
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    arguments = [tmp_path / "contract.json", tmp_path / "plan.json", written(rows), "20"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", TRAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) >= 2


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_packed_reply_comes_out_as_it_went_in(tmp_path, size):
    reply = PackedReply(b"announcement", {"ab" * 32: b"x" * size, "cd" * 32: b""})
    with (tmp_path / "reply").open("wb") as out:
        write_reply(out, reply)
    whole = (tmp_path / "reply").read_bytes()
    assert read_reply(whole) == reply
    for cut in {len(whole) - 1, len(whole) // 2, 8, 0}:
        with pytest.raises(InvalidRecordError):
            read_reply(whole[:cut])
