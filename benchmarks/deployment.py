"""One train exchange over real processes: ours with all checks against a stock deployment's.

Both sides run a SuperLink with TLS and node authentication and two nodes on this machine, and train
`churn/logistic` on the same rows under the same plan. Stock is FedAvg, default isolation, and an
app that reads rows which were encoded beforehand; ours reads, checks and encodes the raw ones, and
does permit, policy, ledger, governance's witness, receipts and their verification. The sides take
turns, so that a busy machine is busy for both.

    make bench NAME=deployment
    .venv/bin/python benchmarks/deployment.py --json [--rounds 10] [--turns 2]
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
from deployment_stock import WARM_UP, Work, measure_stock

from fedcore.encodings import input_names
from fedcore.rounds import Order
from fedserver.checkpoints import load_checkpoint
from simulations.deployment import Deployment
from simulations.experiment import load_customers
from simulations.federation import Terms, UnitSetup
from simulations.paperwork import make_plan
from simulations.population import Population
from simulations.report import versions
from simulations.scenario import Scenario, load_scenario
from simulations.scoring import encoded

UNITS = ("fibre-monthly", "one-year")
TARGETS = {"ratio": 0.25}
_RUN_S = 600.0


def main() -> None:
    """Print one JSON object with figures, targets, missed and versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="kept for `make bench`; always JSON")
    parser.add_argument("--rounds", type=int, default=10, help="exchanges in one turn")
    parser.add_argument("--turns", type=int, default=2, help="turns of each side")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = compare(Path(scratch), arguments.rounds, arguments.turns)
    missed = [name for name, bound in TARGETS.items() if figures[name] > bound]
    result = {"figures": figures, "targets": TARGETS, "missed": missed, "versions": versions()}
    print(json.dumps(result, indent=2))  # noqa: T201


def compare(root: Path, rounds: int, turns: int) -> dict[str, float]:
    """Return the medians over the turns of both sides, and the ratio of the two exchanges."""
    population = load_customers(load_scenario("telco"), root / "population")
    scenario = two_units(load_scenario("telco"), rounds + WARM_UP)
    found: dict[str, list[float]] = {}
    work = Work(
        plan=make_plan(scenario),
        rows=encoded_rows(scenario, population, root),
        inputs=len(input_names(scenario.plan.features, scenario.contract)),
    )
    with opened(scenario, population, root / "ours") as deployment:
        for turn in range(turns):
            for figures in (
                measure_stock(root / f"stock-{turn}", work, rounds),
                measure_ours(deployment, scenario, turn),
            ):
                sys.stderr.write(f"turn {turn + 1}: {figures}\n")
                for name, value in figures.items():
                    found.setdefault(name, []).append(value)
    medians = {name: round(statistics.median(values), 3) for name, values in found.items()}
    ratio = medians["ours_exchange_s"] / medians["stock_exchange_s"]
    return {"exchanges": float(rounds * turns), **medians, "ratio": round(ratio, 3)}


def two_units(scenario: Scenario, rounds: int) -> Scenario:
    """Return the demo's scenario with two of its units and enough budget for all turns."""
    units = tuple(
        unit.model_copy(update={"epsilon_cap": 1000.0})
        for unit in scenario.units
        if unit.unit in UNITS
    )
    plan = scenario.plan.model_copy(update={"minimum_units": len(UNITS)})
    changes = {"rounds": rounds, "units": units, "opt_outs": (), "plan": plan}
    return scenario.model_copy(update=changes)


def encoded_rows(scenario: Scenario, population: Population, root: Path) -> dict[str, Path]:
    """Return a file of encoded rows for each unit, which the stock app starts from."""
    plan, files = make_plan(scenario), {}
    for unit in UNITS:
        examples = encoded(population.rows_of(unit), plan, scenario.contract, root / "raw.csv")
        files[unit] = root / f"{unit}.npz"
        np.savez(files[unit], features=examples.features, labels=examples.labels)
    return files


@contextmanager
def opened(scenario: Scenario, population: Population, root: Path) -> Iterator[Deployment]:
    """Yield a production deployment of the scenario's units, started."""
    with Deployment(root, scenario.contract, terms=Terms(delta=scenario.delta)) as deployment:
        deployment.open_governance()
        deployment.open_server()
        for unit in scenario.units:
            rows = population.rows_of(unit.unit)
            deployment.join(UnitSetup(unit.unit, rows, unit.size_band, unit.epsilon_cap))
        deployment.put_in_force(make_plan(scenario), scenario.epsilon)
        deployment.server.start()
        deployment.server.admit()
        deployment.start_nodes()
        yield deployment


def measure_ours(deployment: Deployment, scenario: Scenario, turn: int) -> dict[str, float]:
    """Return the median seconds of our train exchange and of its parts."""
    plan = make_plan(scenario).model_copy(update={"title": f"Turn {turn}"})
    deployment.register(plan)
    run_id = f"turn-{turn}"
    watch = Watch(deployment.server.home, run_id)
    command = deployment.run(plan, run_id)
    try:
        code = command.wait(_RUN_S)
    finally:
        laps = watch.end()
    if code:
        sys.exit(command.output())
    return figures_of(deployment, run_id, laps)


class Watch:
    """Notes when a run's checkpoint says that orders go out, and that a round has ended."""

    def __init__(self, home: Path, run_id: str) -> None:
        self._home, self._run_id = home, run_id
        self._sent: dict[int, float] = {}
        self._ended: dict[int, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> dict[int, tuple[float, float]]:
        """Return when each round's orders went out, and when its replies were verified."""
        self._done.set()
        self._thread.join()
        return {n: (self._sent[n], self._ended[n]) for n in self._ended if n in self._sent}

    def _look(self) -> None:
        last = 0.0
        while not self._done.is_set():
            for path in self._home.rglob(f"{self._run_id}.json"):
                written_at = path.stat().st_mtime
                if written_at != last:
                    last = written_at
                    self._note(path, written_at)
            time.sleep(0.01)

    def _note(self, path: Path, written_at: float) -> None:
        place = load_checkpoint(path)
        if place is None:
            return
        if place.orders:
            order = Order.from_bytes(place.orders[0].payload_bytes)
            self._sent.setdefault(order.round, written_at)
        else:
            self._ended.setdefault(place.round - 1, written_at)


def figures_of(
    deployment: Deployment, run_id: str, laps: dict[int, tuple[float, float]]
) -> dict[str, float]:
    """Return medians over exchanges; a part is that of the exchange's slowest node."""
    parts: dict[str, list[float]] = {}
    begun, replied = ledger_times(deployment, run_id)
    rounds = sorted(laps)[WARM_UP:]
    for number in rounds:
        sent, ended = laps[number]
        last = max(replied, key=lambda unit: replied[unit][number])
        found = {
            "exchange_s": ended - sent,
            "until_ledger_is_written_s": begun[last][number] - sent,
            "node_works_s": replied[last][number] - begun[last][number],
            "until_server_has_verified_s": ended - replied[last][number],
        }
        if number + 1 in laps:
            found["round_s"] = laps[number + 1][0] - sent
        for name, seconds in found.items():
            parts.setdefault(name, []).append(seconds)
    return {f"ours_{name}": round(statistics.median(s), 3) for name, s in parts.items()}


def ledger_times(
    deployment: Deployment, run_id: str
) -> tuple[dict[str, dict[int, float]], dict[str, dict[int, float]]]:
    """Return when each unit's ledger charged the order of a round, and when it kept the reply."""
    begun: dict[str, dict[int, float]] = {}
    replied: dict[str, dict[int, float]] = {}
    for unit, node in deployment.nodes.items():
        rounds: dict[str, int] = {}
        for entry in node.ledger():
            at = datetime.fromisoformat(entry.body["at"]).timestamp()
            if entry.kind == "order" and entry.body["run_id"] == run_id:
                rounds[entry.body["order"]] = entry.body["round"]
                begun.setdefault(unit, {})[entry.body["round"]] = at
            elif entry.kind == "reply" and entry.body["order"] in rounds:
                replied.setdefault(unit, {})[rounds[entry.body["order"]]] = at
    return begun, replied


if __name__ == "__main__":
    main()
