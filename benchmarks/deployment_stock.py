"""One exchange in a stock Flower deployment: SuperLink with TLS and node authentication, SuperNodes
with default isolation, FedAvg; the twin that `deployment.py` compares with.
"""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fedcore.plans import TrainingPlan
from fedcore.tls import create_authority, issue_certificate
from simulations.deployment_processes import Process, free_port, is_listening, wait_until

APP = Path(__file__).parent / "stock_app"
BIN = Path(sys.executable).parent
# The first exchange also pays for reading programs from disk for the first time.
WARM_UP = 1


@dataclass(frozen=True)
class Work:
    """What both sides do: the plan, and each unit's encoded rows (features, labels) in a file."""

    plan: TrainingPlan
    rows: Mapping[str, Path]
    inputs: int


def measure_stock(root: Path, work: Work, rounds: int) -> dict[str, float]:
    """Return the median seconds of a train exchange and of its parts."""
    federation = _Stock(root, work)
    try:
        federation.start()
        laps = federation.run(rounds + WARM_UP)
    finally:
        federation.stop()
    return _figures(laps[WARM_UP:])


class _Stock:
    def __init__(self, root: Path, work: Work) -> None:
        self._root, self._work, self._port = root, work, free_port()
        self._laps = root / "laps.jsonl"
        self._home = {"FLWR_HOME": str(root / "home"), "PATH": f"{BIN}:/usr/bin:/bin"}
        root.mkdir(parents=True)
        self._processes = [self._superlink(), *self._supernodes()]

    def start(self) -> None:
        self._processes[0].start()
        wait_until(lambda: is_listening(self._port), "SuperLink to listen", 60)
        for unit in self._work.rows:
            self._flwr("supernode", "register", str(self._root / f"{unit}.pub"), "bench")
        for node in self._processes[1:]:
            node.start()

    def run(self, rounds: int) -> list[dict[str, Any]]:
        app = self._root / "app"
        shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"))
        plan = self._work.plan
        config = (
            f'laps="{self._laps}" rounds={rounds} inputs={self._work.inputs} '
            f"learning_rate={plan.averaging.local_learning_rate} "
            f"noise_multiplier={plan.privacy.noise_multiplier} "
            f"l2_clip_norm={plan.privacy.l2_clip_norm} local_steps={plan.privacy.local_steps}"
        )
        self._flwr("run", str(app), "bench", "--run-config", config)
        wait_until(lambda: len(self._read()) >= rounds, "the rounds", 120 + 30 * rounds, self._tail)
        return self._read()

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()

    def _read(self) -> list[dict[str, Any]]:
        if not self._laps.exists():
            return []
        return [json.loads(line) for line in self._laps.read_text().splitlines()]

    def _tail(self) -> str:
        return "\n".join(process.output()[-2000:] for process in self._processes)

    def _superlink(self) -> Process:
        authority = create_authority("stock", datetime.now(UTC))
        issued = issue_certificate(authority, ["localhost", "127.0.0.1"], datetime.now(UTC))
        issued.save(self._root / "tls.crt", self._root / "tls.key")
        (self._root / "ca.pem").write_bytes(authority.certificate)
        home = self._root / "home"
        home.mkdir()
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "bench"\n[superlink.bench]\n'
            f'address = "127.0.0.1:{self._port}"\n'
            f'root-certificates = "{self._root / "ca.pem"}"\n'
        )
        options = ["--ssl-ca-certfile", str(self._root / "ca.pem")]
        options += ["--ssl-certfile", str(self._root / "tls.crt")]
        options += ["--ssl-keyfile", str(self._root / "tls.key")]
        options += ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
        options += ["--database", str(self._root / "state.db"), "--port", str(self._port)]
        return self._process("superlink", ["flower-superlink", *options])

    def _supernodes(self) -> list[Process]:
        processes = []
        for unit, rows in self._work.rows.items():
            _write_node_key(self._root / unit)
            config = f'rows="{rows}" public-n={self._work.plan.public_n(unit)}'
            options = ["--superlink", f"127.0.0.1:{self._port}"]
            options += ["--root-certificates", str(self._root / "ca.pem")]
            options += ["--auth-supernode-private-key", str(self._root / unit)]
            options += ["--node-config", config, "--port", str(free_port())]
            processes.append(self._process(unit, ["flower-supernode", *options]))
        return processes

    def _process(self, name: str, command: list[str]) -> Process:
        program = [str(BIN / command[0]), *command[1:]]
        return Process(name, program, self._root / f"{name}.log", self._home)

    def _flwr(self, *arguments: str) -> None:
        command = Process(
            "flwr", [str(BIN / "flwr"), *arguments], self._root / "flwr.log", self._home
        )
        if command.start().wait(60):
            raise subprocess.SubprocessError(command.output())


def _write_node_key(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public)


def _figures(laps: list[dict[str, Any]]) -> dict[str, float]:
    """Return medians over exchanges; a part is that of the exchange's slowest node."""
    parts: dict[str, list[float]] = {}
    for lap in laps:
        last = max(lap["nodes"], key=lambda node: float(node["ended_at"]))
        found = {
            "exchange_s": lap["received_at"] - lap["sent_at"],
            "until_client_starts_s": last["importing_at"] - lap["sent_at"],
            "client_imports_s": last["imported_at"] - last["importing_at"],
            "until_app_is_called_s": last["began_at"] - last["imported_at"],
            "training_s": last["ended_at"] - last["began_at"],
            "until_server_has_it_s": lap["received_at"] - last["ended_at"],
        }
        for name, seconds in found.items():
            parts.setdefault(name, []).append(seconds)
    return {f"stock_{name}": round(statistics.median(s), 3) for name, s in parts.items()}
