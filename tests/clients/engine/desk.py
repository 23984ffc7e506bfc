"""The SuperNode's side of the executor: Flower's own state and loopback interface, without a
SuperLink, and messages put on it by hand.
"""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.task_pb2 import Task
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.start_client_internal import _insert_message

from clients.engine.files import EngineFiles
from clients.engine.pace import Pace
from simulations.deployment_processes import free_port, wait_until

RUN = 7
NODE = 11
BUNDLE = hashlib.sha256(b"never opened").hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What the SuperNode would send, and what it knows of the task."""

    reply: Message
    sub_status: str
    details: str


class Desk:
    """A SuperNode without a SuperLink."""

    def __init__(self, root: Path) -> None:
        self.files = EngineFiles(root / "engine")
        self.files.prepare()
        self.files.renew_secret()
        self.port = free_port()
        factory = NodeStateFactory(objectstore_factory=ObjectStoreFactory())
        self.state = factory.state()
        self.store: Any = factory.objectstore_factory.store()
        self.state.set_node_id(NODE)
        self._factory = factory
        run = Run.create_empty(RUN)
        run.fab_hash = BUNDLE
        self.state.store_run(run)
        self.state.store_fab(Fab(BUNDLE, b"never opened", {}))
        context = Context(
            run_id=RUN, node_id=NODE, node_config={}, state=RecordDict(), run_config={}
        )
        self.state.set_run_series_context(run.series_id, context)
        self._executors: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Desk":
        app = create_app(self._factory, self.files.secret.read_bytes())
        self._server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="warning", ws="none")
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started, "the desk", 20)
        return self

    def __exit__(self, *_: object) -> None:
        for executor in self._executors:
            executor.kill()
            executor.wait()
        self._server.should_exit = True
        self._thread.join(10)

    def executor(self, app: str, log: Path) -> subprocess.Popen[bytes]:
        """Start our executor with an app in place of the node's: the source of `def app(...)`."""
        script = (
            "import os, signal, sys, time\nfrom pathlib import Path\n"
            "from flwr.app import ConfigRecord, Message, RecordDict\n"
            "from clients.engine import executor\nfrom clients.engine.files import EngineFiles\n"
            f"{app}\n"
            "signal.signal(signal.SIGTERM, executor._stop)\n"
            f"executor.Executor(app, '127.0.0.1:{self.port}', "
            f"EngineFiles(Path({str(self.files.root)!r}))).run()\n"
        )
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", script],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            )
        self._executors.append(process)
        return process

    def put(self, text: str = "", ttl: float = 3600.0) -> str:
        """Put a message with a task on the desk, as the SuperNode does. Returns: its id."""
        message = self._message(text, ttl)
        self._make_task()
        _insert_message(message, self.state, self.store)
        Pace(self.files).ring()
        return str(message.metadata.message_id)

    def put_garbage(self, garbage: bytes) -> None:
        """Put a message on the desk that is none, under its right digest."""
        message, digest = self._message("", 3600.0), hashlib.sha256(garbage).hexdigest()
        message.metadata.__dict__["_message_id"] = digest
        self._make_task()
        self.store.preregister(RUN, ObjectTree(object_id=digest))
        self.store.store[digest].content = garbage
        self.store.store[digest].is_available = True
        self.state.store_message(message)
        Pace(self.files).ring()

    def _message(self, text: str, ttl: float) -> Message:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN, 1, 1
        content = RecordDict({"text": ConfigRecord({"text": text, "size": b"x" * 10_000})})
        message = Message(content, NODE, "query", ttl=ttl)
        message.metadata.__dict__["_run_id"] = RUN
        return message

    def _make_task(self) -> None:
        task = self.state.create_task(task_type=TaskType.CLIENT_APP, run_id=RUN, fab_hash=BUNDLE)
        assert task is not None
        self._task = task

    def outcome(self, timeout_s: float = 30.0) -> Outcome:
        """Wait for the reply, as the SuperNode does, and for the task's end."""
        started = time.monotonic()
        replies: Sequence[Message] = ()
        while not (replies := self.state.get_messages_legacy(is_reply=True)):
            assert time.monotonic() - started < timeout_s, "no reply"
            time.sleep(0.005)
        wait_until(lambda: self.task().finished_at != "", "the task's end", timeout_s)
        status = self.task().status
        return Outcome(replies[0], status.sub_status, status.details)

    def content(self, outcome: Outcome) -> RecordDict:
        """Take the reply's content apart, as the server would."""
        trees, contents = [self.store.get_object_tree(outcome.reply.metadata.message_id)], {}
        for tree in trees:
            contents[tree.object_id] = self.store.get(tree.object_id)
            trees.extend(tree.children)
        message: Any = inflate_object_from_contents(trees[0].object_id, contents)
        return RecordDict(message.content)

    def task(self) -> Task:
        """Return the task of the message that was put last."""
        return self.state.get_tasks(task_ids=[self._task])[0]
