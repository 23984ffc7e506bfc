"""A real server on loopback: Flower's SuperLink and our executor as processes."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

import pytest

from fedcore.record import Realm
from fedserver.engine.provision import SETTINGS_FILE, Wishes, provision
from fedserver.settings import ServerSettings
from simulations.deployment_processes import free_port

FEDPACT = (sys.executable, "-P", "-c", "from fedcore.cli import main; main()")
PATIENCE_S = 60


def until(condition, what):
    """Return the first true value of a condition, or fail."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE_S} s for {what}")


class Server:
    """`fedpact server start` with files of its own; governance is nowhere to be found."""

    def __init__(self, directory):
        fleet, control, health = (free_port() for _ in range(3))
        self.directory = directory
        self.public_key = provision(
            directory,
            Wishes(
                hosts=("localhost",),
                governance_url="http://127.0.0.1:9",
                governance_key="0" * 64,
                governance_ca=None,
                realm=Realm.PRODUCTION,
                model_name="churn",
                ports={"port": fleet, "control_port": control, "health_port": health},
            ),
            datetime.now(UTC),
        )
        key = directory / "api.key"
        key.touch(mode=0o600)
        key.write_text("key")
        self.file = directory / SETTINGS_FILE
        self.process: Any = None

    @property
    def settings(self):
        return ServerSettings.load(self.file)

    @property
    def log(self):
        return (self.directory / "start.log").read_text()

    def start(self):
        with (self.directory / "start.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*FEDPACT, "server", "start", "-s", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
                cwd=self.directory,
            )
        return self

    def up(self):
        """Return when the server is well."""
        until(lambda: self.health().get("status") == "ok", f"the server: {self.log[-2000:]}")
        return self

    def health(self):
        url = f"http://127.0.0.1:{self.settings.health_port}/healthz"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)
        except OSError:
            return {}

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def fedpact(self, *arguments):
        """Return exit code and output of a `fedpact server` command."""
        done = subprocess.run(
            [*FEDPACT, "server", *map(str, arguments), "-s", str(self.file)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(name="until")
def until_fixture():
    return until


@pytest.fixture
def server(tmp_path):
    """A server that is not started yet; it is ended with the test."""
    made = Server(tmp_path / "server")
    yield made
    if made.process is not None:
        try:
            made.stop()
        except subprocess.TimeoutExpired:
            made.process.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One server that is up, for all tests of a module that leave it as it is."""
    made = Server(tmp_path_factory.mktemp("running") / "server").start().up()
    yield made
    made.stop()
