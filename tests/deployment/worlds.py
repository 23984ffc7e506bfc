"""Deployments for tests: the demo's contract, made-up rows, short deadlines, everything production.

Setting one up takes a while on two cores, so that the tests of a module share one.
"""

import socket
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clients.reservations import Reservations
from fedcore.plans import TrainingPlan
from fedcore.privacy.events import PrivacyEvent
from fedcore.rounds import Receipt, RoundReport
from fedcore.signing import Envelope
from simulations.deployment import Deployment
from simulations.deployment_sites import NodeSite
from simulations.federation import Terms, UnitSetup
from simulations.generated_rows import generate_rows
from simulations.paperwork import make_plan
from simulations.scenario import Scenario, ScenarioUnit, load_scenario

UNITS = ("alpha", "beta", "gamma")
PAIR = ("alpha", "beta")
BAND = 128
EPSILON = 3.0
# What the DPIA lets a run charge: spare rounds and second attempts included.
DPIA_EPSILON = 50.0
CAP = 400.0
LISTEN = "0A"


def scenario(units: tuple[str, ...], rounds: int, local_steps: int = 1) -> Scenario:
    """Return the demo's scenario for these units; more steps are slower rounds."""
    given = load_scenario("telco")
    return given.model_copy(
        update={
            "rounds": rounds,
            "epsilon": EPSILON,
            "units": tuple(
                ScenarioUnit(unit=unit, label=unit, size_band=BAND, epsilon_cap=CAP)
                for unit in units
            ),
            "plan": given.plan.model_copy(update={"minimum_units": 2, "local_steps": local_steps}),
        }
    )


def plan_for(
    units: tuple[str, ...], rounds: int, local_steps: int = 1, **changes: Any
) -> TrainingPlan:
    """Return a plan of the demo's features over these units; `changes` replace its fields."""
    plan = make_plan(scenario(units, rounds, local_steps))
    return plan.model_copy(update={"round_deadline_s": 30, **changes})


def setup_of(unit: str, rows: int = 150) -> UnitSetup:
    """Return a unit with made-up rows."""
    contract = scenario((unit,), 1).contract
    return UnitSetup(
        unit=unit,
        rows=generate_rows(contract, unit, rows, seed=7),
        size_band=BAND,
        epsilon_cap=CAP,
    )


@contextmanager
def prepared(root: Path, units: tuple[str, ...], **terms: Any) -> Iterator[Deployment]:
    """Yield a deployment whose units are enrolled and checked; SuperLink and nodes do not run."""
    with Deployment(root, scenario(units, 1).contract, terms=Terms(**terms)) as deployment:
        deployment.open_governance()
        deployment.open_server()
        deployment.join_all(setup_of(unit) for unit in units)
        deployment.put_in_force(plan_for(units, 1), DPIA_EPSILON)
        yield deployment


def mend(deployment: Deployment) -> None:
    """Start whatever of a deployment does not run, and return when everything is well."""
    if not deployment.governance.service.is_running():
        deployment.governance.start()
    if not deployment.server.superlink.is_running():
        deployment.server.start()
        deployment.server.admit()
    deployment.start_nodes()


@contextmanager
def governed(deployment: Deployment, **settings: Any) -> Iterator[None]:
    """Give governance other settings for a while."""
    governance = deployment.governance
    before = governance.settings.read_text()
    try:
        governance.service.kill()
        governance.set(**settings)
        governance.start()
        yield
    finally:
        governance.service.kill()
        governance.settings.write_text(before)
        governance.start()


def listening(pids: list[int]) -> Iterator[tuple[str, int]]:
    """Yield the address and port of every socket that these processes listen on."""
    inodes = {inode for pid in pids for inode in _sockets_of(pid)}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in inodes:
                address, port = fields[1].split(":")
                yield _address(address), int(port, 16)


def _sockets_of(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


def _address(text: str) -> str:
    words = [struct.pack("<I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8)]
    packed = struct.pack(f"{len(words) * 4}s", b"".join(words)) if words else b""
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed)


def receipts(bundle: Path) -> list[Receipt]:
    """Return the receipts of an evidence bundle."""
    return [Receipt.from_bytes(data) for data in _payloads(bundle, "receipts/")]


def reports(bundle: Path) -> list[RoundReport]:
    """Return the round reports of an evidence bundle, in the order of their chain."""
    return [RoundReport.from_bytes(data) for data in _payloads(bundle, "reports/")]


def _payloads(bundle: Path, folder: str) -> Iterator[bytes]:
    with zipfile.ZipFile(bundle) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith(folder):
                yield Envelope.from_bytes(archive.read(name)).payload_bytes


def orders(node: NodeSite, run_id: str) -> list[tuple[int, int, bool]]:
    """Return round, attempt and whether it was answered, of each order that a ledger charges."""
    entries = node.ledger()
    answered = {entry.body["order"] for entry in entries if entry.kind == "reply"}
    return [
        (entry.body["round"], entry.body["attempt"], entry.body["order"] in answered)
        for entry in entries
        if entry.kind == "order" and entry.body["run_id"] == run_id
    ]


def reservations(node: NodeSite, run_id: str | None = None) -> list[PrivacyEvent]:
    """Return what a ledger counts, for one run or for all."""
    noted = Reservations()
    for entry in node.ledger():
        noted.note(entry)
    return [one.event for one in noted.listed() if run_id in (None, one.run_id)]
