"""`fedpact server start`: keeps SuperLink and executor running, and says whether they are well."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import structlog

from fedcore.errors import ConflictError, FedError, InvalidRecordError
from fedcore.version import VERSION
from fedserver.engine.control import LOOPBACK, Control
from fedserver.engine.executor import Executor
from fedserver.engine.health import answering
from fedserver.engine.secret import load_secret
from fedserver.settings import SETTINGS_VARIABLE, ServerSettings

log = structlog.get_logger("fedpact.server")
LOOK_S = 0.2
_LOCK = "server.lock"
_LONGEST_PAUSE_S = 30.0
_END_S = 10.0


class Supervisor:
    """The running server: a SuperLink that is started again when it dies, and its executor.

    Guarantees: the sockets are held here, so that nodes find the port open while the SuperLink
        comes back; nothing that was started outlives `run`.

    Args:
        settings: of the server.
        path: the file that they were read from; its processes read it again.
    """

    def __init__(self, settings: ServerSettings, path: Path) -> None:
        self._settings = settings
        self._path = path.resolve()
        self._environment = child_environment(settings, self._path)
        self._superlink: subprocess.Popen[bytes] | None = None
        self._executor: Executor | None = None
        self._answers = False
        self._failures = 0
        self._next_start = 0.0

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set; `ready` is called once, when the SuperLink answers.

        Raises: ConflictError `server.running`, `port.in_use`; InvalidRecordError `port.unusable`.
        """
        settings = self._settings
        with ExitStack() as stack:
            stack.enter_context(_held(settings.work_dir / _LOCK))
            fleet = stack.enter_context(listen(settings.host, settings.port, "port"))
            local = stack.enter_context(listen(LOOPBACK, settings.control_port, "control_port"))
            health = stack.enter_context(listen(LOOPBACK, settings.health_port, "health_port"))
            stack.enter_context(answering(health, self.state))
            stack.callback(self._end_superlink)
            address = f"{LOOPBACK}:{settings.control_port}"
            self._keep_superlink(fleet, local)
            self._executor = Executor(address, load_secret(settings.work_dir), self._environment)
            stack.callback(self._executor.close)
            self._attend(stop, ready, (fleet, local))

    def state(self) -> Mapping[str, object]:
        """Return what the health endpoint tells."""
        superlink, executor = self._superlink, self._executor
        return {
            "status": "ok" if self._answers else "starting" if not self._failures else "failing",
            "version": VERSION,
            "superlink": {"pid": superlink.pid if superlink else None, "answers": self._answers},
            "runs": list(executor.running) if executor else [],
        }

    def _attend(
        self,
        stop: threading.Event,
        ready: Callable[[], None],
        doors: tuple[socket.socket, socket.socket],
    ) -> None:
        is_ready = False
        while not stop.wait(LOOK_S):
            self._keep_superlink(*doors)
            self._answers = self._step()
            if self._answers:
                self._failures = 0
                if not is_ready:
                    is_ready = True
                    ready()

    def _step(self) -> bool:
        """Let the executor do its work; return whether the SuperLink answered."""
        if self._executor is None:
            return False
        before = self._executor.running
        answered = self._executor.step()
        if answered and set(before) - set(self._executor.running):
            with suppress(FedError), Control.connected(self._settings) as control:
                control.sweep()
        return answered

    def _keep_superlink(self, fleet: socket.socket, local: socket.socket) -> None:
        """Start the SuperLink, or start it again, later each time that it died young."""
        now = time.monotonic()
        if self._superlink is not None and self._superlink.poll() is not None:
            log.error("superlink.died", exit_code=self._superlink.returncode)
            self._superlink, self._answers = None, False
            pause = min(2.0**self._failures, _LONGEST_PAUSE_S) if self._failures else 0.0
            self._next_start = now + pause
            self._failures += 1
        if self._superlink is None and now >= self._next_start:
            numbers = (fleet.fileno(), local.fileno())
            module = "fedserver.engine.superlink"
            self._superlink = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(self._path), *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                env=self._environment,
                pass_fds=numbers,
            )
            log.info("superlink.started", pid=self._superlink.pid)

    def _end_superlink(self) -> None:
        if self._superlink is None:
            return
        self._superlink.terminate()
        try:
            self._superlink.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._superlink.kill()
            self._superlink.wait()


def child_environment(settings: ServerSettings, path: Path) -> dict[str, str]:
    """Return the environment of the server's processes: Flower's own settings are ours.

    Guarantees: no `FLWR_` variable of the caller counts; telemetry and update checks are off;
        Flower keeps its files in `work_dir`.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLWR_")}
    return {
        **kept,
        SETTINGS_VARIABLE: str(path),
        "FLWR_HOME": str(settings.work_dir / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }


@contextmanager
def listen(host: str, port: int, setting: str) -> Iterator[socket.socket]:
    """Yield a socket that listens there, and close it afterwards.

    Raises: ConflictError `port.in_use`; InvalidRecordError `port.unusable`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                "port.in_use",
                f"{setting}: another program listens on port {port}: end it, or set another port",
                str(error),
            ) from error
        raise InvalidRecordError(
            "port.unusable",
            f"{setting}: cannot listen on {host} port {port}: set an address of this machine and "
            "a port above 1023",
            str(error),
        ) from error
    with listener:
        yield listener


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                "server.running", f"a server runs already with the state in {path.parent}"
            ) from error
        yield
