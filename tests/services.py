"""Governance as a process of its own, over TLS, as its operator makes it by commands."""

import os
import socket
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

from click.testing import CliRunner

from fedcore import cli
from simulations.deployment_processes import free_port

GROUPS = {
    name: EntryPoint(name, f"{package}.cli:app [{name}]", cli.COMMANDS_GROUP)
    for name, package in (("governance", "governance"), ("node", "clients"))
}


def fedpact(*arguments: object, typed: str | None = None) -> tuple[int, str]:
    """Return exit code and output of a command, run in this process."""
    line = [str(argument) for argument in arguments]
    result = CliRunner().invoke(cli.RootCommand(GROUPS), line, input=typed)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def must(*arguments: object, typed: str | None = None) -> str:
    """Return the output of a command that must succeed."""
    exit_code, output = fedpact(*arguments, typed=typed)
    assert exit_code == 0, output
    return output


class Service:
    """Governance in a directory, served by a process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.line = ("--url", self.url, "--ca", home / "tls-ca.pem")
        self.settings = home / "governance.toml"
        self.code = ""

    def open(self) -> subprocess.Popen[bytes]:
        """Make it, start it, and make `admin.key` and the compliance officer's `carla.key`."""
        made = must("governance", "init", "-d", self.home, "--port", self.port)
        self.code = found(made, "one-time code:")
        process = self.serve()
        admin = self.home / "admin.key"
        claim = ("claim", "--code", self.code, "--name", "ada", "--out", admin)
        must("governance", *claim, *self.line)
        self.account("carla", "compliance")
        return process

    def account(self, name: str, role: str, *more: object) -> Path:
        """Make an account and return its API key's file."""
        out = self.home / f"{name}.key"
        key = ("--api-key-file", self.home / "admin.key")
        must("governance", "account", name, role, "--out", out, *more, *key, *self.line)
        return out

    def serve(self) -> subprocess.Popen[bytes]:
        """Start it and return its process once it answers."""
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


def found(output: str, name: str) -> str:
    """Return what the line of an output says that begins with `name`."""
    [line] = [line for line in output.splitlines() if line.startswith(name)]
    return line.removeprefix(name).strip()
