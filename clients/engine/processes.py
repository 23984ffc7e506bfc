"""The node's own processes: how they find their settings, and that none outlives its parent."""

import argparse
import ctypes
import fcntl
import os
import signal
import socket
import sys
import time
from pathlib import Path

from fedcore.errors import ConflictError

_PR_SET_PDEATHSIG = 1
_ORPHANS_S = 15.0


def arguments(description: str) -> tuple[Path, int]:
    """Return settings file and parent process id from the command line; the parent's by default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--parent", type=int, default=os.getppid())
    found = parser.parse_args()
    return found.settings.absolute(), found.parent


def command(module: str, settings_path: Path) -> list[str]:
    """Return the command that starts a module of ours as a child of this process.

    Guarantees: the interpreter does not add the working directory to the import path.
    """
    own = ["--settings", str(settings_path), "--parent", str(os.getpid())]
    return [sys.executable, "-P", "-m", module, *own]


def die_with(parent: int, how: signal.Signals = signal.SIGTERM) -> None:
    """Have the operating system signal this process when its parent has ended, also by `kill -9`.

    Ends the process at once when the parent is gone already.
    Reference: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(how), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def claim(path: Path) -> int:
    """Return the lock of the one running node, as an open file that children inherit.

    Guarantees: it is held until the last process that holds it has ended, whichever way; a node
        that was killed a moment ago is waited for.
    Raises: ConflictError `node.running`.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + _ORPHANS_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 20, 0).decode()
            if time.monotonic() > end or _is_running(holder):
                os.close(lock)
                raise ConflictError(
                    "node.running",
                    f"this node is running already (process {holder}); stop that one first",
                ) from error
            time.sleep(0.1)
            continue
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock


def verify_port_free(port: int, setting: str) -> None:
    """Verify that a loopback port can be listened on. Raises: ConflictError `port.in_use`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConflictError(
                "port.in_use",
                f"{setting} {port} is in use by another program: stop it or choose another port",
                str(error),
            ) from error


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
