"""A scenario whose plan finds segments: the real run, and k-means on all rows beside it.

What the simulator alone can measure is the share of variance that segments explain on a test part
that no unit holds; nodes and server know noised sums only.
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from clients.clustering import customers_of
from fedcore.bundle import read_bundle
from fedcore.errors import InvalidRecordError, MismatchError
from fedcore.plans import TrainingPlan
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.clustering import nearest
from fedcore.rounds import RoundReport
from fedcore.segment_facts import SegmentFacts, read_segments, tell_segments
from simulations.experiment import (
    connect,
    ledger_events,
    load_customers,
    open_world,
    take_opt_outs,
)
from simulations.outputs import logs_to, require_own, write_evidence
from simulations.paperwork import make_dpia, make_plan
from simulations.population import Population
from simulations.scenario import Scenario
from simulations.scoring import encoded
from simulations.second_process import verify_offline

_FILES = ("segments.json", "plan.json", "model.fedpact", "governance.pub")
Matrix = NDArray[np.float64]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class SegmentOutcome:
    """What came of a scenario of segments.

    Attributes:
        explained: the share of the test part's variance that the run's segments explain.
        pooled: the same of as many centres of k-means on all units' rows, without privacy.
        epsilon: each unit's claim.
    """

    plan: TrainingPlan
    bundle: bytes
    governance_key: str
    facts: SegmentFacts
    explained: float
    pooled: float
    epsilon: dict[str, float]

    def to_json(self) -> dict[str, object]:
        """Return the figures as plain JSON."""
        return {
            "simulation": True,
            "segments": [
                {
                    "id": one.id,
                    "name": one.name,
                    "customers": one.size.value,
                    "from": one.size.interval().low,
                    "to": one.size.interval().high,
                }
                for one in self.facts.segments
            ],
            "explained_variance": self.explained,
            "explained_variance_pooled_nonprivate": self.pooled,
            "explained_variance_by_noised_sums": self.facts.explained.value,
            "epsilon": self.epsilon,
            "delta": self.plan.delta,
            "releases": self.plan.rounds,
        }


def produce_segments(scenario: Scenario, out: Path, tell: Progress) -> SegmentOutcome:
    """Run a scenario of segments and write figures, plan, evidence and public key to `out`.

    Raises: ConflictError `simulation.out_taken`; InvalidRecordError `scenario.invalid` for a plan
        whose model is trained; FedError of the run; MismatchError `simulation.not_verified`.
    """
    if scenario.plan.model.course is None:
        raise InvalidRecordError(
            "scenario.invalid", "plan.model: it is trained; use `fedpact simulate run`"
        )
    require_own(out, _FILES)
    with tempfile.TemporaryDirectory(prefix="fedpact-") as scratch, logs_to(Path(scratch)):
        outcome = find_segments(scenario, Path(scratch) / "run", tell)
    out.mkdir(parents=True, exist_ok=True)
    write_evidence((outcome.bundle, outcome.governance_key, outcome.plan), out)
    text = json.dumps(outcome.to_json(), indent=2) + "\n"
    (out / "segments.json").write_text(text, encoding="utf-8")
    verification = verify_offline(out / "model.fedpact", out / "governance.pub")
    if verification.exit_code:
        raise MismatchError(
            "simulation.not_verified", "the second process could not verify the evidence"
        )
    return outcome


def find_segments(scenario: Scenario, root: Path, tell: Progress) -> SegmentOutcome:
    """Return what a scenario of segments ends in. Raises: FedError."""
    population = load_customers(scenario, root)
    plan, contract = make_plan(scenario), scenario.contract
    with closing(open_world(scenario, population, root / "world")) as federation:
        dpia = make_dpia(plan, contract, scenario.epsilon, federation.clock.now())
        federation.put_in_force(dpia)
        take_opt_outs(scenario, federation, after_round=0)
        connect(scenario, federation, 1)

        def watch(report: RoundReport, _model: bytes) -> None:
            tell(f"release {report.round}/{plan.rounds}  {report.status}")
            if report.status == "accepted":
                take_opt_outs(scenario, federation, after_round=report.round)
                connect(scenario, federation, report.round + 1)
            federation.tick(minutes=scenario.round_minutes)

        federation.run(federation.register(plan), f"run-{scenario.seed}", watch)
        bundle = federation.offices["compliance"].fetch_evidence(scenario.plan.task, 1)
        events = ledger_events(federation)
    artifact = read_bundle(bundle).artifact
    found = read_segments(artifact, plan, contract).last.placement.centres
    train, test = (_rows(population, plan, scenario, part, root) for part in ("train", "test"))
    pooled = KMeans(len(found), n_init=10, random_state=scenario.seed).fit(train).cluster_centers_
    return SegmentOutcome(
        plan=plan,
        bundle=bundle,
        governance_key=federation.governance_key.public,
        facts=tell_segments(artifact, plan, contract),
        explained=_explained(test, found),
        pooled=_explained(test, pooled),
        epsilon={unit: renyi_epsilon(spent, plan.delta) for unit, spent in events.items()},
    )


def _rows(
    population: Population, plan: TrainingPlan, scenario: Scenario, part: str, root: Path
) -> Matrix:
    rows = population.train if part == "train" else population.test
    return customers_of(encoded(rows, plan, scenario.contract, root / "scratch.csv"))


def _explained(rows: Matrix, centres: Matrix) -> float:
    within = np.square(rows - centres[nearest(rows, centres)]).sum()
    return float(1 - within / np.square(rows - rows.mean(axis=0)).sum())
