"""Real processes of a deployment on one machine: started in the open, ended without trace.

Every process of a world carries a mark in its environment. Programs such as Flower's start helpers
of their own, some in new sessions: by the mark they are found and ended all the same.
"""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fedcore.errors import FedError

MARK = "FEDPACT_DEPLOYMENT"
POLL_S = 0.05
_PORTS = range(10_000, 32_768)
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "NO_COLOR": "1",
    "COLUMNS": "400",
}


class Process:
    """One program of a world: its command, its log, and the process while it runs.

    Guarantees: whatever it started is ended with it by `kill`; the log keeps what all its
        processes wrote, one start after the other.

    Args:
        name: how it is called in messages.
        command: program and arguments.
        log: where standard output and error go.
        environment: what is added to this process's environment.
        folder: its working directory; None for this process's.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.environment = dict(environment)
        self.folder = folder
        self._mark = ""
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the last start. Raises: FedError before the first start."""
        if self._running is None:
            raise FedError("deployment.not_started", f"{self.name} was not started")
        return self._running.pid

    def start(self) -> "Process":
        """Start the program and return at once."""
        self._mark = f"{self.environment.get(MARK, 'one')}/{secrets.token_hex(8)}"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
                env={**os.environ, **QUIET, **self.environment, MARK: self._mark},
            )
        return self

    def is_running(self) -> bool:
        """Return whether the started process has not ended yet."""
        return self._running is not None and self._running.poll() is None

    def wait(self, timeout_s: float) -> int:
        """Return the exit code once the process has ended.

        Raises: FedError `deployment.timeout` with the end of its log.
        """
        running = self._running
        wait_until(
            lambda: running is not None and running.poll() is not None,
            f"{self.name} to end",
            timeout_s,
            self.output,
        )
        return 0 if running is None else int(running.returncode)

    def kill(self) -> None:
        """End the process and everything that it started, at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self, timeout_s: float = 60.0) -> int:
        """Ask the process to end and return its exit code.

        Raises: FedError `deployment.timeout`.
        """
        if self._running is None:
            return 0
        with suppress(ProcessLookupError):
            os.kill(self._running.pid, signal.SIGTERM)
        code = self.wait(timeout_s)
        end_marked(self._mark)
        return code

    def output(self) -> str:
        """Return what the program has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def descendants(self) -> list[int]:
        """Return the ids of the processes of this program that are alive, itself included."""
        return list(marked(self._mark)) if self._mark else []

    def parts(self, text: str) -> list[int]:
        """Return the ids of the living processes of this program whose command has a text."""
        return [pid for pid in self.descendants() if text in command_of(pid)]

    def wait_for(self, text: str, timeout_s: float = 30.0, times: int = 1) -> None:
        """Wait until the log has a text so many times.

        Raises: FedError `deployment.timeout`, or `deployment.ended` when the program ended before.
        """

        def found() -> bool:
            if self.output().count(text) >= times:
                return True
            if not self.is_running():
                raise FedError(
                    "deployment.ended",
                    f"{self.name} ended before {text!r}:\n{self.output()[-4000:]}",
                )
            return False

        wait_until(found, f"{self.name} to write {text!r}", timeout_s, self.output)

    def _end(self, how: signal.Signals) -> None:
        if self._running is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._running.pid, how)
        end_marked(self._mark)
        self._running.wait()


def marked(mark: str) -> Iterator[int]:
    """Yield the ids of living processes whose environment carries a mark, or one that begins so."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                entries = (folder / "environ").read_bytes().split(b"\0")
                if any(entry.startswith(wanted) for entry in entries):
                    yield int(folder.name)


def command_of(pid: int) -> str:
    """Return a process's command line, empty when it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def end_marked(mark: str) -> None:
    """End every process that carries a mark, until none is left."""
    for _ in range(50):
        found = list(marked(mark))
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on now.

    Guarantees: it is below those that systems give to outgoing connections, any of which could
        take it before its server does; and drawn, so that two processes rarely find the same.
    Raises: FedError `deployment.timeout`.
    """
    for _ in range(100):
        port = secrets.choice(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise FedError("deployment.timeout", f"no free port from {_PORTS[0]} to {_PORTS[-1]} was found")


def is_listening(port: int) -> bool:
    """Return whether somebody accepts connections on a loopback port."""
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_until(
    condition: Callable[[], bool],
    what: str,
    timeout_s: float,
    evidence: Callable[[], str] = lambda: "",
) -> None:
    """Return as soon as a condition holds.

    Raises: FedError `deployment.timeout` that names what was waited for, with the evidence's end.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise FedError(
                "deployment.timeout",
                f"waited {timeout_s:g} s for {what}\n{evidence()[-4000:]}",
            )
        time.sleep(POLL_S)
