"""One scenario from start to verified model: world, paperwork, run, what was measured."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from clients.state import StateDir
from fedcore.bundle import Evidence, read_bundle
from fedcore.contracts import purpose_line
from fedcore.errors import FedError, InvalidRecordError
from fedcore.keyfiles import write_secret
from fedcore.optouts import OptOutEvent
from fedcore.plans import TrainingPlan
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.events import PrivacyEvent
from fedcore.rounds import RoundReport
from simulations.clock import ManualClock
from simulations.evaluating import Evaluated, charge_of, evaluate
from simulations.federation import Federation, Terms, Unit, UnitSetup
from simulations.noise import SeededNoise, split_key
from simulations.paperwork import make_dpia, make_plan
from simulations.population import Population, customers_of, export_telco, load_population
from simulations.scenario import Scenario
from simulations.scoring import Baselines, HeldOut, baselines

Progress = Callable[[str], None]


@dataclass(frozen=True)
class OptOut:
    """An opt-out of the scenario and since when it acted."""

    unit: str
    sequence: int
    purpose: str
    received_at: datetime
    excluded_since_round: int | None
    minutes: float | None


@dataclass
class Outcome:
    """Everything that a report is made from."""

    scenario: Scenario
    population: Population
    plan: TrainingPlan
    run_id: str
    evidence: Evidence
    bundle: bytes
    governance_key: str
    auc_by_round: dict[int, float]
    auc: float
    baselines: Baselines
    evaluated: Evaluated | None
    test_figures: dict[str, float]
    ledger_events: dict[str, list[PrivacyEvent]]
    opt_outs: list[OptOut]
    phases: list[tuple[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Watch:
    """What is needed to look at a run from outside, as only a simulator can."""

    federation: Federation
    plan: TrainingPlan
    test: HeldOut


class Experiment:
    """A scenario on its way; `carry_out` does it once."""

    def __init__(self, scenario: Scenario, root: Path, progress: Progress) -> None:
        self._scenario = scenario
        self._root = root
        self._tell = progress
        self._phases: list[tuple[str, float]] = []
        self._aucs: dict[int, float] = {}
        self._reported_at: dict[int, datetime] = {}
        # For each unit and round: how many customers the unit's own reader left out.
        self._left_out: dict[str, dict[int, int]] = {unit.unit: {} for unit in scenario.units}

    def carry_out(self) -> Outcome:
        """Do everything and return what came of it. Raises: FedError."""
        scenario = self._scenario
        start = time.perf_counter()
        population = load_customers(scenario, self._root)
        self._lap("load and split the customers", start)
        start = time.perf_counter()
        with ExitStack() as stack:
            federation = open_world(scenario, population, self._root / "world")
            stack.callback(federation.close)
            self._lap("start governance, enrol and check the units", start)
            return self._in_world(federation, population)

    def _in_world(self, federation: Federation, population: Population) -> Outcome:
        scenario, start = self._scenario, time.perf_counter()
        plan = make_plan(scenario)
        cap = _epsilon_cap(scenario, plan)
        federation.put_in_force(make_dpia(plan, scenario.contract, cap, federation.clock.now()))
        digest = federation.register(plan)
        self._take_opt_outs(federation, after_round=0)
        scratch = self._root / "scratch.csv"
        test = HeldOut(population, plan, scenario.contract, scratch)
        self._lap("sign plan and DPIA, take in opt-outs", start)
        start = time.perf_counter()
        run_id = f"run-{scenario.seed}"
        self._connect(federation, 1)
        watching = _Watch(federation, plan, test)
        federation.run(digest, run_id, lambda r, model: self._watch(watching, r, model))
        self._lap("train under the permit", start)
        start = time.perf_counter()
        bundle = federation.offices["compliance"].fetch_evidence(scenario.plan.task, 1)
        evidence = read_bundle(bundle)
        reference = baselines(population, plan, scenario.contract, scratch, test)
        scratch.unlink()
        self._lap("baselines without federation", start)
        evaluated = self._evaluated(federation, plan, evidence.artifact)
        return Outcome(
            scenario=scenario,
            population=population,
            plan=plan,
            run_id=run_id,
            evidence=evidence,
            bundle=bundle,
            governance_key=federation.governance_key.public,
            auc_by_round=self._aucs,
            auc=test.auc(evidence.artifact),
            baselines=reference,
            evaluated=evaluated,
            test_figures=test.figures(evidence.artifact),
            ledger_events=ledger_events(federation),
            opt_outs=self._opt_outs(federation, plan),
            phases=self._phases,
        )

    def _evaluated(
        self, federation: Federation, plan: TrainingPlan, artifact: bytes
    ) -> Evaluated | None:
        terms, start = self._scenario.evaluation, time.perf_counter()
        if terms is None:
            return None
        found = evaluate(federation, plan, terms, artifact)
        self._lap("evaluate on the customers set aside", start)
        return found

    def _watch(self, world: _Watch, report: RoundReport, model: bytes) -> None:
        federation = world.federation
        if report.status == "accepted":
            self._aucs[report.round] = world.test.auc(model)
            self._reported_at[report.round] = report.ended_at
            self._measure_left_out(world, report.round)
            self._take_opt_outs(federation, after_round=report.round)
            self._connect(federation, report.round + 1)
        federation.tick(minutes=self._scenario.round_minutes)
        self._tell(
            f"round {report.round:>3}/{world.plan.rounds}  {report.status}  "
            f"{len(report.answered)} of {len(self._scenario.units)} units  "
            f"test AUC {world.test.auc(model):.4f} (simulator's own)"
        )

    def _measure_left_out(self, world: _Watch, round_: int) -> None:
        """Count the customers whom each unit's own reader leaves out, where there are opt-outs."""
        for unit in world.federation.units.values():
            if unit_opt_outs(unit):
                with unit.node() as node:
                    kept = node.examples(world.plan).customers
                self._left_out[unit.name][round_] = len(self._customers_of(unit)) - kept

    def _take_opt_outs(self, federation: Federation, after_round: int) -> None:
        take_opt_outs(self._scenario, federation, after_round)

    def _customers_of(self, unit: Unit) -> list[str]:
        column = self._scenario.contract.subject.column
        return customers_of(unit.setup.rows, column)

    def _connect(self, federation: Federation, next_round: int) -> None:
        connect(self._scenario, federation, next_round)

    def _opt_outs(self, federation: Federation, plan: TrainingPlan) -> list[OptOut]:
        """Return each opt-out with the first round whose reader left one customer more out."""
        covering = purpose_line(self._scenario.contract.purposes, plan.purpose)
        found: list[OptOut] = []
        for unit in federation.units.values():
            acting = 0
            for event in unit_opt_outs(unit):
                acting += event.purpose in covering
                left_out = self._left_out[unit.name] if event.purpose in covering else {}
                round_ = next((r for r, count in left_out.items() if count >= acting), None)
                found.append(
                    OptOut(
                        unit=unit.name,
                        sequence=event.sequence,
                        purpose=event.purpose,
                        received_at=event.received_at,
                        excluded_since_round=round_,
                        minutes=self._minutes(event.received_at, round_),
                    )
                )
        return found

    def _minutes(self, received: datetime, round_: int | None) -> float | None:
        if round_ is None:
            return None
        return max(0.0, (self._reported_at[round_] - received).total_seconds() / 60)

    def _lap(self, name: str, start: float) -> None:
        seconds = time.perf_counter() - start
        self._phases.append((name, seconds))
        self._tell(f"{name}: {seconds:.1f} s")


def _epsilon_cap(scenario: Scenario, plan: TrainingPlan) -> float:
    """Return the most that a run may claim, in hundredths: the training or the evaluation."""
    if scenario.evaluation is None:
        return scenario.epsilon
    charge = charge_of(plan, scenario.evaluation)
    claim = renyi_epsilon([charge], plan.delta)
    return max(scenario.epsilon, math.ceil(100 * claim) / 100)


def load_customers(scenario: Scenario, root: Path) -> Population:
    """Return the scenario's customers, split by its seed; `root` is created.

    Raises: DataError; InvalidRecordError `scenario.units_differ` when table and scenario name
        different units.
    """
    root.mkdir(parents=True, exist_ok=True)
    source = Path(scenario.data)
    if scenario.data == "telco":
        source = root / "telco.csv"
        export_telco(source)
    contract = scenario.contract
    columns = (contract.label.name, scenario.unit_column)
    customer = contract.subject.column if contract.rows_per_customer else None
    population = load_population(source, columns, scenario.seed, scenario.test_share, customer)
    named, found = {unit.unit for unit in scenario.units}, set(population.units)
    if named != found:
        raise InvalidRecordError(
            "scenario.units_differ",
            f"only in the scenario or only in the table: {', '.join(sorted(named ^ found))}",
        )
    return population


def open_world(scenario: Scenario, population: Population, root: Path) -> Federation:
    """Return a federation with the scenario's units enrolled and checked.

    Raises: DataError when a unit's rows break the contract.
    """
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0))
    terms = Terms(delta=scenario.delta, model_name=scenario.plan.task)
    federation = Federation(root, scenario.contract, clock, SeededNoise(scenario.seed), terms)
    try:
        for unit in scenario.units:
            setup = UnitSetup(
                unit=unit.unit,
                rows=population.rows_of(unit.unit),
                size_band=unit.size_band,
                epsilon_cap=unit.epsilon_cap,
                faulty_rows=scenario.faulty_rows,
            )
            joined = federation.enrol(setup)
            key = split_key(federation.surroundings.noise, unit.unit)
            write_secret(StateDir(joined.state_dir).split_key, key.hex().encode())
            joined.check()
    except FedError:
        federation.close()
        raise
    return federation


def take_opt_outs(scenario: Scenario, federation: Federation, after_round: int) -> None:
    """Take in those of a scenario's opt-outs that come after a round."""
    column = scenario.contract.subject.column
    for wish in scenario.opt_outs:
        if wish.after_round == after_round:
            unit = federation.units[wish.unit]
            taken = len(unit_opt_outs(unit))
            customers = customers_of(unit.setup.rows, column)
            for customer in customers[taken : taken + wish.customers]:
                unit.opt_out(customer, wish.purpose)


def connect(scenario: Scenario, federation: Federation, next_round: int) -> None:
    """Let those units be away in a round that the scenario says."""
    federation.grid.down = {
        federation.node_id(gap.unit)
        for gap in scenario.dropouts
        if gap.first_round <= next_round <= gap.last_round
    }


def ledger_events(federation: Federation) -> dict[str, list[PrivacyEvent]]:
    """Return every unit's reserved events, from its ledger."""
    events = {}
    for unit in federation.units.values():
        with unit.node() as node:
            events[unit.name] = node.ledger.events()
    return events


def unit_opt_outs(unit: Unit) -> list[OptOutEvent]:
    """Return the opt-outs that a unit has taken in."""
    with unit.node() as node:
        return node.opt_outs.events()
