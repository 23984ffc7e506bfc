"""A running node: SuperNode and executor, watched, and started again until the operator ends it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import structlog

from clients import http
from clients.crm import load_token, taker
from clients.durable import unwritable
from clients.engine import exits
from clients.engine.files import EngineFiles
from clients.engine.processes import claim, command, verify_port_free
from clients.engine.supernode import QUIET, supernode_command
from clients.settings import NodeSettings
from fedcore.version import VERSION

TICK_S = 0.1
STOP_S = 12.0
STEADY_S = 60.0
LONGEST_DELAY_S = 30.0
# After `kill -9` the server takes the old process for alive for two missed heartbeats of 30 s.
ADMISSION_PATIENCE_S = 75.0
PULSE_PATIENCE_S = 15.0
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Check = Callable[[NodeSettings], None]

log = structlog.get_logger("fedpact.node")


def decide_delay(failures: int) -> float:
    """Return how long to wait before a program that failed so many times in a row is started."""
    return min(float(2 ** min(failures - 1, 10)), LONGEST_DELAY_S) if failures else 0.0


def child_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the node's programs.

    Guarantees: one thread for each numerical library; what goes over loopback goes to no proxy.
    """
    direct = [own[name] for name in ("no_proxy", "NO_PROXY") if own.get(name)]
    exempt = ",".join([*direct, "127.0.0.1"])
    return {**own, **QUIET, **_ONE_THREAD, "no_proxy": exempt, "NO_PROXY": exempt}


@dataclass
class Program:
    """One of the node's own processes.

    Attributes:
        name: in the log.
        command: what starts it.
        inherited: open files that it holds, too.
    """

    name: str
    command: list[str]
    inherited: tuple[int, ...]
    failures: int = 0
    started_at: float = 0.0
    due_at: float = 0.0
    asked_to_end: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def is_running(self) -> bool:
        """Return whether it runs now."""
        return self.process is not None and self.process.poll() is None

    def start_when_due(self) -> None:
        """Start it unless it waits after a failure."""
        if time.monotonic() < self.due_at:
            return
        self.started_at = time.monotonic()
        self.asked_to_end = False
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the supervisor, which ends its children in turn
            pass_fds=self.inherited,
            env=child_environment(os.environ),
        )
        log.info("program.started", program=self.name, process=self.process.pid)

    def ended(self) -> int | None:
        """Return the exit code if it has ended since the last look, and plan its next start."""
        if self.process is None or self.process.poll() is None:
            return None
        code, self.process = self.process.returncode, None
        steady = time.monotonic() - self.started_at > STEADY_S
        self.failures = 1 if steady else self.failures + 1
        self.due_at = time.monotonic() + decide_delay(self.failures)
        return int(code)

    def ask_to_end(self) -> None:
        """Ask it to end."""
        self.asked_to_end = True
        if self.process is not None:
            self.process.terminate()

    def make_end(self, until: float) -> None:
        """Wait for its end, and kill it when it takes longer than that."""
        if self.process is None:
            return
        try:
            self.process.wait(max(until - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Supervisor:
    """Keeps a node's two programs running.

    Args:
        settings: the node's.
        settings_path: where they are, for the children.
        lock: the lock of the running node, held by the children, too.
    """

    def __init__(self, settings: NodeSettings, settings_path: Path, lock: int) -> None:
        self._unit = settings.unit
        self._files = EngineFiles(settings.state_dir / "engine")
        self._supernode = Program(
            "supernode", command("clients.engine.supernode", settings_path), (lock,)
        )
        self._executor = Program(
            "executor", command("clients.engine.executor", settings_path), (lock,)
        )
        self._programs = (self._supernode, self._executor)
        self._refused_at: float | None = None
        self._told_to_stop = False

    def run(self) -> None:
        """Work until told to stop. Raises: FedError when only the operator can help."""
        try:
            while not self._told_to_stop:
                self._look()
                time.sleep(TICK_S)
        finally:
            self._stop_all()

    def stop(self, signal_number: int, frame: FrameType | None) -> None:
        """Have `run` end soon; a signal handler."""
        del signal_number, frame
        self._told_to_stop = True

    def health(self) -> http.Health:
        """Return how the node is now."""
        supernode, executor = "down", "down"
        if self._supernode.is_running():
            supernode = "connected" if _is_fresh(self._files.pulse) else "connecting"
        if self._executor.is_running():
            executor = "ready" if self._files.ready.exists() else "starting"
        well = (supernode, executor) == ("connected", "ready")
        return http.Health("ok" if well else "unwell", self._unit, supernode, executor, VERSION)

    def _look(self) -> None:
        code = self._supernode.ended()
        if code is not None:
            # Flower's own way to end when the server knows the node no more.
            turned_away = code == 0 and not self._supernode.asked_to_end
            self._supernode_ended(exits.REFUSED if turned_away else exits.ending_of_exit(code))
        code = self._executor.ended()
        if code is not None:
            self._executor_ended(code)
        for program in self._programs:
            if program.process is None:
                program.start_when_due()

    def _supernode_ended(self, ending: exits.Ending) -> None:
        self._files.pulse.unlink(missing_ok=True)
        log.error("program.ended", program="supernode", code=ending.code, public=ending.public)
        if ending is not exits.REFUSED or self._supernode.failures == 1:
            self._refused_at = None
        if ending is exits.REFUSED and self._refused_at is None:
            self._refused_at = time.monotonic()
        if ending.lasting and not self._may_be_the_last_process():
            raise ending.error()

    def _executor_ended(self, code: int) -> None:
        log.error("program.ended", program="executor", exit_code=code)
        if self._files.ready.exists():
            # The SuperNode may wait for a reply, or for the rest of one, that will never come.
            self._supernode.ask_to_end()
        self._files.ready.unlink(missing_ok=True)

    def _may_be_the_last_process(self) -> bool:
        refused_at = self._refused_at
        return refused_at is not None and time.monotonic() - refused_at < ADMISSION_PATIENCE_S

    def _stop_all(self) -> None:
        for program in self._programs:
            program.ask_to_end()
        until = time.monotonic() + STOP_S
        for program in self._programs:
            program.make_end(until)


def start_node(settings_path: Path, checks: Sequence[Check] = ()) -> None:
    """Run a node until it is told to end (SIGTERM, SIGINT).

    Guarantees: one node per state directory; outgoing connections only, its own ports listen on
        loopback; a program that dies is started again; no process stays when this one ends,
        however it ends.
    Args: each of `checks` raises FedError where the node should not be started at all.
    Raises: ConflictError `node.running`, `port.in_use`, `state.unwritable`; FedError of a check,
        and of a SuperNode that needs its operator; InvalidRecordError of the intake's token.
    """
    path = settings_path.absolute()
    settings = NodeSettings.load(path)
    supernode_command(settings, path)
    files = EngineFiles(settings.state_dir / "engine")
    with _claimed(files) as lock:
        for check in checks:
            check(settings)
        token = load_token(settings.state_dir)
        intake = http.Intake(token, taker(path)) if token else None
        verify_port_free(settings.runtime_port, "runtime_port")
        verify_port_free(settings.health_port, "health_port")
        _prepare(files)
        supervisor = Supervisor(settings, path, lock)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, supervisor.stop)
        with http.served(http.node_app(supervisor.health, intake), settings.health_port):
            supervisor.run()


@contextmanager
def _claimed(files: EngineFiles) -> Iterator[int]:
    try:
        files.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = claim(files.lock)
    except OSError as error:
        raise unwritable(files.lock.name, str(error)) from error
    try:
        yield lock
    finally:
        os.close(lock)


def _prepare(files: EngineFiles) -> None:
    try:
        files.prepare()
        files.renew_secret()
    except OSError as error:
        raise unwritable(files.root.name, str(error)) from error


def _is_fresh(pulse: Path) -> bool:
    try:
        return time.time() - pulse.stat().st_mtime < PULSE_PATIENCE_S
    except FileNotFoundError:
        return False
