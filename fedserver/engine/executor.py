"""Takes the SuperLink's tasks and gives each to a process that stands by for it."""

import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

import httpx
import structlog
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient

from fedserver.engine.secret import executor_secret

_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_END_S = 8.0
_PAUSE_S = 5.0

log = structlog.get_logger("fedpact.server")


class Executor:
    """Does runs: ServerApps and no other kind of task, each in a process of its own.

    Guarantees: one process more than there are runs has everything imported and waits, so that a
        run begins at once; a process does one run; none outlives this one.

    Args:
        address: of the Runtime interface, on loopback.
        secret: the server's secret, from which the right to take tasks is derived.
        environment: of the processes.
    """

    def __init__(self, address: str, secret: str, environment: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-P", "-m", "fedserver.engine.serverapp", address]
        self._environment = dict(environment)
        self._client = RuntimeHttpClient.from_server_address(
            server_address=address,
            insecure=True,
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperExec"),
                SuperExecAuthHttpInterceptor(
                    master_secret=executor_secret(secret), protected_methods={_ACQUIRE}
                ),
            ],
        )
        self._waiting = self._start()
        self._running: list[subprocess.Popen[bytes]] = []
        self._next_start = 0.0

    @property
    def running(self) -> tuple[int, ...]:
        """The ids of the processes that do runs now."""
        return tuple(process.pid for process in self._running)

    def step(self) -> bool:
        """Take a task if there is one; return whether the SuperLink answered."""
        self._running = [process for process in self._running if process.poll() is None]
        self._replace_dead()
        # Without a process to give it to, no task is taken, and the answer is a sign of life only.
        types = {TaskType.SERVER_APP} if self._waiting.poll() is None else set()
        request = AcquireTaskRequest(supported_task_types=types)
        try:
            response = self._client.AcquireTask(request)
        except (httpx.HTTPError, ValueError):
            return False
        if response.HasField("task") and response.token:
            self._give(response.token)
        return True

    def close(self) -> None:
        """End all processes; their runs stay resumable."""
        self._client.close()
        processes = [self._waiting, *self._running]
        for process in processes:
            process.terminate()
            _close_pipe(process)
        for process in processes:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _replace_dead(self) -> None:
        """Start another process in place of a waiting one that died, now and then."""
        now = time.monotonic()
        if self._waiting.poll() is not None and now >= self._next_start:
            log.error("serverapp.died", exit_code=self._waiting.returncode)
            _close_pipe(self._waiting)
            self._waiting = self._start()
            self._next_start = now + _PAUSE_S

    def _give(self, token: str) -> None:
        process, self._waiting = self._waiting, self._start()
        self._running.append(process)
        if process.stdin is not None:
            # A process that died meanwhile leaves the task to Flower, which ends it in time.
            with suppress(OSError), process.stdin as pipe:
                pipe.write(token.encode() + b"\n")

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, env=self._environment)


def _close_pipe(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
