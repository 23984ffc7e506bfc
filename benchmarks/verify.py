"""Checking a large evidence bundle: 20 units, 100 rounds, 2,000 receipts.

The bundle is that of a whole simulated federation: governance with its database and log, every
node with its keys and ledger; customers are invented. Timed are `fedpact verify` as a user calls
it, a fresh process with all its imports, and its processor time; what of it is the check itself,
in this process; and the second verifier of the reference, likewise. Medians of several turns.

    make bench NAME=verify ARGS=--json
    .venv/bin/python benchmarks/verify.py --json [--units 20] [--rounds 100] [--turns 5]
        [--keep FOLDER]
"""

import argparse
import importlib.util
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

# Python looks here first, where `governance.py` would pass for the package of that name.
HERE = Path(__file__).parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE.resolve()]

from fedcore.bundle import read_bundle  # noqa: E402
from fedcore.verify import verify_bundle  # noqa: E402
from simulations.experiment import Experiment  # noqa: E402
from simulations.report import versions  # noqa: E402
from simulations.scenario import load_scenario  # noqa: E402

TARGETS = {"verify_command_s": 5.0}
BUNDLE, KEY = "model.fedpact", "governance.pub"
CUSTOMERS = 40
SCENARIO = """
title = "Many units, many rounds"
data = "customers.csv"
unit_column = "branch"
seed = 1
epsilon = 2.0
delta = 1e-5
rounds = {rounds}
units = [
{units}
]

[plan]
purpose = "churn"
minimum_units = 2
l2_clip_norm = 1.0
model = {{ kind = "logistic" }}
algorithm = {{ local_learning_rate = 1.0 }}
features = [{{ field = "age", encoding = "scale" }}]

[contract]
schema = "contract/1"
contract_id = "made-up"
version = 1
title = "Made-up customers"
source = "invented"
retention_days = 365
subject = {{ column = "id", namespace = "made-up-number", normaliser = "trim-upper/1" }}
label = {{ name = "left", positive = "yes", negative = "no", horizon_days = 30 }}
purposes = [{{ id = "churn", text = "Churn", basis = "legitimate_interests" }}]
fields = [{{ name = "age", kind = "numeric", unit = "years", lower = 18, upper = 100 }}]
"""


def main() -> None:
    """Print one JSON object with figures, targets, missed and versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="kept for `make bench`; always JSON")
    parser.add_argument("--units", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--turns", type=int, default=5, help="how often each check is timed")
    parser.add_argument(
        "--keep", type=Path, help="a folder to keep the bundle in; one that is there is timed again"
    )
    arguments = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        if not (folder / BUNDLE).exists():
            run(folder, arguments.units, arguments.rounds)
        figures = measure(folder, arguments.turns)
    missed = [name for name, bound in TARGETS.items() if figures[name] > bound]
    result = {"figures": figures, "targets": TARGETS, "missed": missed, "versions": versions()}
    print(json.dumps(result, indent=2))  # noqa: T201


def run(folder: Path, units: int, rounds: int) -> None:
    """Write the bundle of a run of so many units and rounds, each unit with a few customers."""
    names = [f"unit-{number:02}" for number in range(units)]
    draw = random.Random(1)  # noqa: S311 - invented customers, always the same
    rows = [
        f"K{number},{draw.randint(18, 100)},{draw.choice(['yes', 'no'])},{names[number % units]}"
        for number in range(CUSTOMERS * units)
    ]
    table = "\n".join(["id,age,left,branch", *rows])
    (folder / "customers.csv").write_text(table + "\n", encoding="utf-8")
    listed = ",\n".join(
        f'{{ unit = "{name}", label = "{name}", size_band = 32, epsilon_cap = 4.0 }}'
        for name in names
    )
    path = folder / "scenario.toml"
    path.write_text(SCENARIO.format(rounds=rounds, units=listed), encoding="utf-8")

    def tell(phase: str) -> None:
        sys.stderr.write(f"{phase}\n")

    outcome = Experiment(load_scenario(str(path)), folder / "run", tell).carry_out()
    (folder / KEY).write_text(outcome.governance_key, encoding="ascii")
    (folder / BUNDLE).write_bytes(outcome.bundle)


def measure(folder: Path, turns: int) -> dict[str, float]:
    """Return how long the checks of a run's bundle take, and how large it is."""
    bundle, key = folder / BUNDLE, folder / KEY
    data, pinned = bundle.read_bytes(), key.read_text(encoding="ascii")
    program = "from fedcore.cli import main; main()"
    command = [sys.executable, "-c", program, "verify", str(bundle), "--key", str(key)]
    reference = HERE.parent / "docs" / "reference" / "verify_bundle.py"
    alone = [sys.executable, "-I", str(reference), str(bundle), pinned]
    evidence = read_bundle(data)
    second = load(reference)

    def both_agree() -> None:
        if not all(ok for _, ok, _ in second.check_bundle(data, pinned)):
            raise SystemExit("the second verifier does not agree")

    def holds() -> None:
        if not verify_bundle(data, pinned).ok:
            raise SystemExit("the bundle does not verify")

    return {
        "verify_command_s": median(lambda: call(command), turns),
        "verify_command_cpu_s": statistics.median(cpu_s(command) for _ in range(turns)),
        "verify_check_s": median(holds, turns),
        "second_verifier_command_s": median(lambda: call(alone), turns),
        "second_verifier_check_s": median(both_agree, turns),
        "load": round(os.getloadavg()[0], 1),
        "bundle_mib": round(len(data) / 2**20, 2),
        "receipts": len(evidence.receipts),
        "reports": len(evidence.reports),
        "log_entries": len(evidence.log),
    }


def median(act: Callable[[], None], turns: int) -> float:
    """Return the median of several turns, in seconds."""
    taken = []
    for _ in range(turns):
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return round(statistics.median(taken), 3)


def call(command: list[str]) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def cpu_s(command: list[str]) -> float:
    """Return how long processors work on a command, whatever else they do meanwhile."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return round(spent, 3)


def load(path: Path) -> Any:
    """Return a file as a module."""
    spec: Any = importlib.util.spec_from_file_location("second_verifier", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["second_verifier"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
