"""The three kinds of machines of a deployment: governance's, the federation operator's, a unit's.

Each has a folder of its own, does what its operator does by the `fedpact` command, and has one
program that runs.
"""

import json
import re
import ssl
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from clients.budget import Cap
from clients.ledger import Ledger
from clients.ledger_entries import Entry
from clients.settings import NodeSettings
from clients.state import StateDir
from fedcore.errors import FedError
from fedcore.record import Realm
from fedserver.engine.outcome import Outcome, load_outcome, run_folder
from fedserver.settings import ServerSettings
from simulations.deployment_commands import Done, Shell
from simulations.deployment_processes import Process, free_port, is_listening, wait_until
from simulations.federation import MODEL_NAME, UnitSetup, write_toml

HOSTS = ("localhost", "127.0.0.1")
START_S = 180.0
Setting = str | float | list[str]


class GovernanceSite:
    """Governance's machine: set up by `init`, started and stopped like any service."""

    def __init__(self, shell: Shell, realm: Realm) -> None:
        self.shell, self.realm = shell, realm
        self.home = shell.folder / "governance"
        self.settings = self.home / "governance.toml"
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.ca = self.home / "tls-ca.pem"
        self.service = shell.process("governance", "governance", "serve", "-s", self.settings)

    def init(self) -> tuple[str, str]:
        """Set the machine up. Returns: public key and one-time code of the first administrator."""
        hosts = [argument for host in HOSTS for argument in ("--host", host)]
        done = self.shell.must(
            "governance", "init", "-d", self.home, *hosts, "--port", str(self.port),
            "--realm", self.realm.value,
        )  # fmt: skip
        return done.found(r"\b([0-9a-f]{64})\b"), done.found(r"code[^\n]*?:\s+(\S+)\s*$")

    def set(self, **values: Setting) -> None:
        """Change settings; they act from the next start."""
        set_toml(self.settings, **values)

    def start(self) -> None:
        """Start the service, and return when it answers. Raises: FedError."""
        self.service.start()
        await_service(self.service, lambda: is_listening(self.port))

    def remote(self, *arguments: str | Path, api_key: Path | None = None, typed: str = "") -> Done:
        """Run a remote command of governance's people. Raises: FedError when it fails."""
        line: list[str | Path] = ["--url", self.url, "--ca", self.ca]
        if api_key is not None:
            line += ["--api-key-file", api_key]
        return self.shell.must("governance", *arguments, *line, typed=typed)


class ServerSite:
    """The federation operator's machine: the SuperLink, and runs."""

    def __init__(self, shell: Shell, governance: GovernanceSite) -> None:
        self.shell, self._governance = shell, governance
        self.home = shell.folder / "server"
        self.settings = self.home / "server.toml"
        self.port, self.control_port, self.health_port = (free_port() for _ in range(3))
        self.address = f"localhost:{self.port}"
        self.ca = self.home / "ca.pem"
        self.superlink = shell.process("superlink", "server", "start", "-s", self.settings)

    def init(self, governance_key: str, model_name: str = MODEL_NAME) -> str:
        """Set the machine up. Returns: the public key for the operator's account."""
        hosts = [argument for host in HOSTS for argument in ("--host", host)]
        done = self.shell.must(
            "server", "init", "-d", self.home, *hosts, "--port", str(self.port),
            "--governance-url", self._governance.url, "--governance-key", governance_key,
            "--governance-ca", self._governance.ca, "--realm", self._governance.realm.value,
            "--model-name", model_name, "--control-port", str(self.control_port),
            "--health-port", str(self.health_port),
        )  # fmt: skip
        return done.found(r"\b([0-9a-f]{64})\b")

    def start(self) -> None:
        """Start the SuperLink, and return when it answers. Raises: FedError."""
        self.superlink.start()
        await_service(self.superlink, lambda: self.health() == 200)

    def health(self) -> int:
        """Return the status of the server's health endpoint, 0 when nobody answers."""
        return http_status(f"http://127.0.0.1:{self.health_port}/healthz")

    def admit(self) -> Done:
        """Let the certified units' nodes in. Raises: FedError."""
        return self.shell.must("server", "admit", "-s", self.settings)

    def run(self, plan: str | Path, run_id: str, *options: str) -> Process:
        """Start `server run` of a plan and return the running command."""
        command = ("server", "run", plan, "-s", self.settings, "--run-id", run_id, *options)
        return self.shell.process(f"run-{run_id}", *command).start()

    def resume(self, run_id: str) -> Process:
        """Start `server resume` and return the running command."""
        arguments = ("server", "resume", run_id, "-s", self.settings)
        return self.shell.process(f"resume-{run_id}", *arguments).start()

    def outcome(self, run_id: str) -> Outcome | None:
        """Return where a run stands; None before its first process has begun it."""
        work_dir = ServerSettings.load(self.settings).work_dir
        return load_outcome(run_folder(work_dir, run_id))

    def wait_round(self, run_id: str, round_: int, timeout_s: float = 90.0) -> None:
        """Wait until a round of a run was accepted. Raises: FedError `deployment.timeout`."""

        def done() -> bool:
            outcome = self.outcome(run_id)
            return outcome is not None and outcome.rounds_done >= round_

        wait_until(done, f"round {round_} of {run_id}", timeout_s, self.superlink.output)


class NodeSite:
    """A unit's machine: its rows, its settings and policy, its node."""

    def __init__(
        self, shell: Shell, setup: UnitSetup, governance: GovernanceSite, server: ServerSite
    ) -> None:
        self.shell, self.setup, self.name = shell, setup, setup.unit
        self._governance, self._server = governance, server
        self.settings = shell.folder / "node.toml"
        self.source = shell.folder / "customers.csv"
        self.state_dir = shell.folder / "state"
        self.health_port, self.runtime_port = free_port(), free_port()
        self.process = shell.process(self.name, "node", "start", "-s", self.settings)

    def init(self, governance_key: str, delta: float, **policy: Any) -> None:
        """Write rows and settings, and make the state directory. Raises: FedError."""
        self.setup.rows.write_csv(self.source)
        write_toml(
            self.settings,
            {
                "unit": self.name,
                "realm": self._governance.realm.value,
                "state_dir": str(self.state_dir),
                "source": str(self.source),
                "governance_url": self._governance.url,
                "governance_key": governance_key,
                "governance_ca": str(self._governance.ca),
                "superlink": self._server.address,
                "superlink_ca": str(self._server.ca),
                "health_port": self.health_port,
                "runtime_port": self.runtime_port,
                "epsilon_cap": self.setup.epsilon_cap,
                "delta": delta,
                "size_band": self.setup.size_band,
                "faulty_rows": self.setup.faulty_rows,
                **policy,
            },
        )
        self.must("init")

    def enrol(self, api_key: Path) -> None:
        """Have the node enrolled: request, eight words by telephone, answer. Raises: FedError."""
        request, answer = self.shell.folder / "request.json", self.shell.folder / "answer.json"
        entity = ("--legal-entity", f"{self.name} Ltd")
        words = self.must("enrol", *entity, "--out", request).eight_words()
        self._governance.remote(
            "enrol", request, "--out", answer, "--words", words, api_key=api_key
        )
        self.must("accept", answer)

    def run(self, command: str, *arguments: str | Path) -> Done:
        """Run `fedpact node COMMAND` with this unit's settings."""
        return self.shell.run("node", command, *arguments, "-s", self.settings)

    def must(self, command: str, *arguments: str | Path) -> Done:
        """Run `fedpact node COMMAND`. Raises: FedError when it does not end well."""
        return self.shell.must("node", command, *arguments, "-s", self.settings)

    def start(self) -> None:
        """Start the node, and return when it is well. Raises: FedError."""
        self.process.start()
        self.await_well()

    def await_well(self) -> None:
        """Return when the started node is well. Raises: FedError with its log."""
        await_service(self.process, lambda: self.health() == 200)

    def health(self) -> int:
        """Return the status of the node's health endpoint, 0 when nobody answers."""
        return http_status(f"http://127.0.0.1:{self.health_port}/healthz")

    def ledger(self) -> list[Entry]:
        """Return the entries of the unit's ledger as they are on disk now. Raises: TrustError."""
        loaded = NodeSettings.load(self.settings)
        cap = Cap(epsilon=loaded.epsilon_cap, delta=loaded.delta)
        path = StateDir(loaded.state_dir).ledger
        with closing(Ledger(path, loaded.unit, loaded.subject_namespace, cap)) as ledger:
            return ledger.entries()

    def kill(self) -> None:
        """End node and executor at once, as a power cut would."""
        self.process.kill()

    def set(self, **values: Setting) -> None:
        """Change settings; they act from the next start."""
        set_toml(self.settings, **values)


def await_service(process: Process, answers: Any) -> None:
    """Return when a started service answers. Raises: FedError with its log."""

    def ready() -> bool:
        if not process.is_running():
            raise FedError(
                "deployment.ended", f"{process.name} ended at once:\n{process.output()[-4000:]}"
            )
        return bool(answers())

    wait_until(ready, f"{process.name} to answer", START_S, process.output)


def http_status(url: str, ca: Path | None = None) -> int:
    """Return the status of a GET, 0 when nobody answers."""
    context = None if ca is None else ssl.create_default_context(cafile=str(ca))
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def set_toml(path: Path, **values: Setting) -> None:
    """Change or add top-level values of a TOML file; JSON values are TOML."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for name, value in values.items():
        kept = [line for line in lines if not re.match(rf"{re.escape(name)}\s*=", line)]
        lines = [f"{name} = {json.dumps(value)}", *kept]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
