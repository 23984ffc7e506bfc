"""A service that runs as a process of its own, over TLS, as its operator has made it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

from fedcore import cli

Run = Callable[..., tuple[int, str]]


def fedpact(*arguments: object, typed: str | None = None) -> tuple[int, str]:
    """Return exit code and output of `fedpact governance` with these arguments."""
    entry = EntryPoint("governance", "governance.cli:app [governance]", cli.COMMANDS_GROUP)
    line = ["governance", *map(str, arguments)]
    result = CliRunner().invoke(cli.RootCommand({"governance": entry}), line, input=typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


class Service:
    """Governance in a directory, served by a process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.line = ("--url", self.url, "--ca", home / "tls-ca.pem")
        self.settings = home / "governance.toml"
        self.code = ""

    def init(self, *more: object) -> None:
        exit_code, output = fedpact("init", "-d", self.home, "--port", self.port, *more)
        assert exit_code == 0, output
        self.code = found_code(output)

    def serve(self) -> subprocess.Popen[bytes]:
        program = "from fedcore.cli import main; main()"
        command = [sys.executable, "-c", program, "governance", "serve", "-s", str(self.settings)]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
        )
        for _ in range(600):
            assert process.poll() is None, "the service has ended"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return process
            time.sleep(0.05)
        raise TimeoutError


def free_port() -> int:
    """Return a port that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def found_code(output: str) -> str:
    """Return the one-time code that a command has shown."""
    [line] = [line for line in output.splitlines() if line.startswith("one-time code:")]
    return line.split()[-1]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs `fedpact governance` in this process."""
    return fedpact


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with an administrator (`admin.key`) and a compliance officer (`carla.key`)."""
    made = Service(tmp_path_factory.mktemp("service") / "office")
    made.init()
    process = made.serve()
    admin, carla = made.home / "admin.key", made.home / "carla.key"
    assert (
        fedpact("claim", "--code", made.code, "--name", "ada", "--out", admin, *made.line)[0] == 0
    )
    account = ("account", "carla", "compliance", "--out", carla, "--api-key-file", admin)
    assert fedpact(*account, *made.line)[0] == 0
    yield made
    process.terminate()
    process.wait(30)
