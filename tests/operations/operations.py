"""The pages of docs/operations as a program: every command, in the order of its steps.

A page marks a block of commands with `<!-- step 320 in governance, words -->`: when it is run, on
whose machine, and what else happens. Hosts and ports are those of this machine.
"""

import re
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from simulations.deployment_processes import Process, free_port, is_listening, wait_until
from simulations.deployment_sites import http_status

BLOCK = re.compile(r"(?:<!-- (step|elsewhere)([^>]*) -->\n)?```console\n(.*?)```", re.DOTALL)
FILE = re.compile(r"<!-- file (\S+) in ([^>]*) -->\n```toml\n(.*?)```", re.DOTALL)
STEP = re.compile(r" (\d+) in (.*)")
HOSTS = ("governance.example", "federation.example")
BACKGROUND = "in the background"


@dataclass(frozen=True)
class Step:
    """One block of commands: when, on which machines, with what beside it."""

    number: int
    machines: tuple[str, ...]
    remarks: tuple[str, ...]
    script: str


def pages(root: Path) -> str:
    return "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((root / "docs/operations").glob("*.md"))
    )


def unmarked_blocks(text: str) -> list[str]:
    """Return the blocks that no step runs and no other test is named for."""
    return [script for kind, _, script in BLOCK.findall(text) if not kind]


def steps(text: str) -> list[Step]:
    found = []
    for kind, head, script in BLOCK.findall(text):
        if kind == "step":
            match = STEP.fullmatch(head)
            assert match, head
            number, rest = match.groups()
            parts = tuple(part.strip() for part in rest.split(","))
            machines = tuple(p for p in parts if re.fullmatch(r"governance|server|unit-\w", p))
            remarks = tuple(p for p in parts if p not in machines)
            found.append(Step(int(number), machines, remarks, _commands(script)))
    assert len({step.number for step in found}) == len(found)
    return sorted(found, key=lambda step: step.number)


def _commands(script: str) -> str:
    return "\n".join(line.removeprefix("$ ") for line in script.splitlines())


class Machines:
    """The folders of all machines, what runs on them, and what their commands have shown."""

    def __init__(self, root: Path, mark: str) -> None:
        self.root, self._mark = root, mark
        self.running: dict[str, Process] = {}
        self.shown: dict[int, str] = {}
        self.variables: dict[str, str] = {}
        self.words: dict[str, str] = {}
        ports = ("8330", "9092", "9093", "9094")
        self._ports = {port: str(free_port()) for port in ports}
        self._unit_ports = {
            unit: {"8340": str(free_port()), "8341": str(free_port())}
            for unit in ("unit-a", "unit-b")
        }
        self._bin = root / "bin"
        self._write_command()

    def folder(self, machine: str) -> Path:
        folder = self.root / machine
        folder.mkdir(exist_ok=True)
        return folder

    def local(self, text: str, machine: str) -> str:
        """Return commands as they are typed here: other hosts and ports, nothing else."""
        for host in HOSTS:
            text = text.replace(host, "localhost")
        ports = {**self._ports, **self._unit_ports.get(machine, {})}
        for port, here in ports.items():
            text = text.replace(f":{port}", f":{here}")
        text = text.replace("governance init", f"governance init --port {self._ports['8330']}")
        server = " ".join(
            f"--{name}port {self._ports[port]}"
            for name, port in (("", "9092"), ("control-", "9093"), ("health-", "9094"))
        )
        return text.replace("server init", f"server init {server}")

    def write(self, name: str, machine: str, text: str, key: str) -> None:
        """Write a settings file that a page shows."""
        ports = self._unit_ports[machine]
        text = self.local(text, machine).replace("…64 hex digits…", key)
        text = text.replace('unit = "unit-a"', f'unit = "{machine}"')
        own = f"health_port = {ports['8340']}\nruntime_port = {ports['8341']}\n"
        (self.folder(machine) / name).write_text(text + own, encoding="utf-8")

    def fetch(self, remark: str, machine: str) -> None:
        """Copy files from other machines: `gets server/ca.pem as federation-ca.pem ...`."""
        names = remark.split()[1:]
        while names:
            source = self.root / names.pop(0)
            target = source.name
            if names[:1] == ["as"]:
                target = names[1]
                del names[:2]
            shutil.copy(source, self.folder(machine) / target)

    def run(self, step: Step, machine: str, typed: str = "") -> str:
        """Run a step's commands in one shell. Returns: what they have shown."""
        process = self._process(f"step-{step.number}", step, machine, typed)
        code = process.start().wait(240)
        assert code == 0, f"step {step.number} on {machine}:\n{process.output()}"
        self.shown[step.number] = process.output()
        return process.output()

    def start(self, step: Step, machine: str) -> None:
        """Start a step's program and return when it answers."""
        self.running[machine] = self._process(machine, step, machine, "").start()
        self.await_up(machine)

    def await_up(self, machine: str) -> None:
        def is_up() -> bool:
            if machine in self._unit_ports:
                port = self._unit_ports[machine]["8340"]
                return http_status(f"http://127.0.0.1:{port}/healthz") == 200
            if machine == "server":
                return http_status(f"http://127.0.0.1:{self._ports['9094']}/healthz") == 200
            return is_listening(int(self._ports["8330"]))

        program = self.running[machine]
        wait_until(is_up, machine, 90, program.output)

    def _process(self, name: str, step: Step, machine: str, typed: str) -> Process:
        script = f"set -eo pipefail\n{self.local(step.script, machine)}\n"
        file = self.folder(machine) / f"step-{step.number}.sh"
        file.write_text(script, encoding="utf-8")
        (file.with_suffix(".in")).write_text(typed, encoding="utf-8")
        # The shell becomes the program, so that a signal for the one reaches the other.
        line = f"exec bash {file} < {file.with_suffix('.in')}"
        environment = {
            "FEDPACT_DEPLOYMENT": self._mark,
            "PATH": f"{self._bin}:/usr/local/bin:/usr/bin:/bin",
            **self.variables,
        }
        log = self.folder(machine) / f"{name}.log"
        return Process(name, ["bash", "-c", line], log, environment, self.folder(machine))

    def _write_command(self) -> None:
        self._bin.mkdir()
        command = self._bin / "fedpact"
        program = "from fedcore.cli import main; main()"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}" "$@"\n')
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
