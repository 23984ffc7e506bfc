"""The node's executor: everything imported once, one process per task.
`python -m clients.engine.executor`

It asks the SuperNode for tasks over loopback and answers each with the fedpact that the unit has
installed. The server's bundle is never unpacked here.
"""

import gc
import os
import select
import signal
import sys
import time
from contextlib import closing, suppress
from importlib import import_module
from importlib.metadata import entry_points
from types import FrameType

import httpx
import structlog
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectPushError
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient

from clients.engine.child import App, fork_task, pack_reply, read_reply
from clients.engine.files import EngineFiles
from clients.engine.processes import arguments, die_with
from clients.engine.tasks import PackedReply, TaskConnection, Work
from clients.guard import UNAVAILABLE
from clients.settings import NodeSettings
from fedcore.atomic import write_atomically
from fedcore.errors import FedError, InvalidRecordError
from fedcore.wire import Refusal, refusal_message

POLL_S = 1.0
HEARTBEAT_S = 10.0
SHORTEST_TASK_S = 60.0
LONGEST_TASK_S = 24 * 3600.0
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_CHUNK = 1 << 20
_LOST = (httpx.HTTPError, ObjectPullError, ObjectPushError, FedError, ValueError)

log = structlog.get_logger("fedpact.node")


class Executor:
    """Takes the SuperNode's tasks, one at a time.

    Guarantees: each task is answered, by the app or, when its process fails, by a bare
        `node.unavailable` at once; no error's text leaves, neither as reply nor as task status.

    Args:
        app: what answers a message.
        address: the SuperNode's loopback interface.
        files: where secret and bell are.
    """

    def __init__(self, app: App, address: str, files: EngineFiles) -> None:
        self._app = app
        self._address = address
        self._files = files
        self._bell = os.open(files.bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Work until the process is told to end."""
        while True:
            with suppress(httpx.HTTPError), closing(self._acquirer()) as client:
                self._serve(client)
            time.sleep(POLL_S / 4)  # the SuperNode is starting, or starting again

    def _serve(self, client: RuntimeHttpClient) -> None:
        request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        while True:
            answer = client.AcquireTask(request)
            if answer.HasField("task") and answer.token:
                self._work(answer.token)
            else:
                self._wait()

    def _wait(self) -> None:
        if select.select([self._bell], [], [], POLL_S)[0]:
            with suppress(BlockingIOError):
                os.read(self._bell, _CHUNK)

    def _work(self, token: str) -> None:
        with closing(TaskConnection(self._client(RuntimeTokenHttpInterceptor(token)))) as line:
            try:
                work = line.fetch()
                reply = _answer(self._app, work, line)
                line.deliver(
                    reply or pack_reply(refusal_message(Refusal(UNAVAILABLE), work.header))
                )
                line.finish(answered=reply is not None)
            except _LOST as error:
                log.warning("task.lost", kind=type(error).__name__)

    def _acquirer(self) -> RuntimeHttpClient:
        secret = self._files.secret.read_bytes()
        return self._client(
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={_ACQUIRE})
        )

    def _client(
        self, credential: RuntimeTokenHttpInterceptor | SuperExecAuthHttpInterceptor
    ) -> RuntimeHttpClient:
        return RuntimeHttpClient.from_server_address(
            self._address,
            insecure=True,  # loopback only
            root_certificates=None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), credential],
        )


def _answer(app: App, work: Work, line: TaskConnection) -> PackedReply | None:
    process, reading = fork_task(app, work)
    whole = None
    try:
        whole = _read_until_end(reading, line, _longest(work))
    finally:
        os.close(reading)
        if whole is None:
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    if whole is None or status:
        log.error("task.died", status=os.waitstatus_to_exitcode(status), timeout=whole is None)
        return None
    try:
        return read_reply(whole)
    except InvalidRecordError:
        return None


def _read_until_end(reading: int, line: TaskConnection, longest_s: float) -> bytes | None:
    end, received = time.monotonic() + longest_s, bytearray()
    beat_at = time.monotonic() + HEARTBEAT_S
    while time.monotonic() < end:
        patience = max(min(beat_at, end) - time.monotonic(), 0.0)
        if select.select([reading], [], [], patience)[0]:
            chunk = os.read(reading, _CHUNK)
            if not chunk:
                return bytes(received)
            received += chunk
        if time.monotonic() >= beat_at:
            beat_at = time.monotonic() + HEARTBEAT_S
            # Work whose taker is gone is finished all the same: the ledger keeps its reply.
            with suppress(httpx.HTTPError):
                line.beat()
    return None


def _longest(work: Work) -> float:
    # After its time to live nobody takes the reply any more.
    return min(max(work.header.metadata.ttl, SHORTEST_TASK_S), LONGEST_TASK_S)


def warm_app() -> App:
    """Return the node's ClientApp with all that its tasks need imported, and nothing started."""
    for module in ("clients.node", "fedcore.privacy.composing", "fedcore.privacy.divergences"):
        import_module(module)  # the last two are imported late elsewhere
    for task in entry_points(group="fedpact.tasks"):
        task.load()
    app: App = import_module("clients.app").app
    gc.collect()
    gc.freeze()  # what is imported is shared by all copies of this process
    return app


def main() -> None:
    """Work until the process is told to end, or its parent ends."""
    path, parent = arguments("executor of a fedpact node")
    die_with(parent)
    signal.signal(signal.SIGTERM, _stop)
    settings = NodeSettings.load(path)
    files = EngineFiles(settings.state_dir / "engine")
    executor = Executor(warm_app(), f"127.0.0.1:{settings.runtime_port}", files)
    write_atomically(files.ready, str(os.getpid()).encode())
    executor.run()


def _stop(signal_number: int, frame: FrameType | None) -> None:
    del signal_number, frame
    sys.exit(0)


if __name__ == "__main__":
    main()
