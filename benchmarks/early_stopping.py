"""Do checks of early stopping pay? Trainings that end by them, against all rounds.

Everybody holds the same customers, a fifth of whom are set aside and trained on by nobody; log loss
and AUC are of a test part that nobody holds. *Early* is planned for one epsilon, checks included,
and ends by its checks; closed, it has spent what was begun and one exchange more. It is held
against all rounds without checks, planned for that same epsilon, and against all rounds planned for
what it has spent on the mean, as if that had been known beforehand. ADR 0053 rests on these
figures.

    make bench NAME=early_stopping ARGS=--json
    .venv/bin/python benchmarks/early_stopping.py --json [--sets telco bank_marketing] [--seeds 3] \
        [--longer-steps 3]
"""

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

# Python looks here first, where `governance.py` would pass for the package of that name.
HERE = Path(__file__).parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE.resolve()]

from clients.reservations import UNSEEN  # noqa: E402
from fedcore.early_stopping import smallest_gain  # noqa: E402
from fedcore.learning_rules import EarlyStopping  # noqa: E402
from fedcore.plans import TrainingPlan  # noqa: E402
from fedcore.privacy.accounting import renyi_epsilon  # noqa: E402
from fedcore.rounds import GAIN_SCALE  # noqa: E402
from fedcore.weights import Weights  # noqa: E402
from fedserver.strategy import is_over, release  # noqa: E402
from simulations.paperwork import make_plan  # noqa: E402
from simulations.report import versions  # noqa: E402

EPSILON = 3.0
HOLDOUT = 0.2
EVERY = (10, 20)
PATIENCE = (1, 2)
# More checks than there are: such a run goes on to its last round.
ENDLESS = 100


def load(name: str) -> Any:
    """Return a module of this folder."""
    if name not in sys.modules:
        spec: Any = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@dataclass(frozen=True)
class Customers:
    """A table's customers under one seed, whom all contestants share, and how many times longer
    than the default rule's the steps of all of them are.
    """

    split: Any
    longer: float = 1.0

    def plan(self, epsilon: float, stopping: EarlyStopping | None = None) -> TrainingPlan:
        """Return the rule's plan at an epsilon, for those who are not set aside."""
        scenario: Any = self.split.scenario
        terms = scenario.plan.model_copy(update={"holdout": HOLDOUT, "early_stopping": stopping})
        plan = make_plan(scenario.model_copy(update={"plan": terms, "epsilon": epsilon}))
        rate = plan.averaging.local_learning_rate * self.longer
        algorithm = plan.averaging.model_copy(update={"local_learning_rate": rate})
        return plan.model_copy(update={"algorithm": algorithm})

    def measured(self, ended: "Ended") -> tuple[float, float]:
        """Return log loss and AUC of what was released, on those whom nobody holds."""
        test = self.split.parts(ended.plan).test.values()
        labels = np.concatenate([part.labels for part in test])
        scores = np.concatenate(
            [load("utility_runs").scores(ended.plan, ended.model, part.features) for part in test]
        )
        return float(log_loss(labels, scores)), float(roc_auc_score(labels, scores))


@dataclass(frozen=True)
class Ended:
    """A training that has ended with a round, and the model that it has released."""

    plan: TrainingPlan
    round: int
    model: Weights

    @property
    def share(self) -> float:
        """The rounds done, of those planned."""
        return self.round / self.plan.rounds

    @property
    def spent(self) -> float:
        """What a unit's ledger counts of the run when it is closed."""
        one, begun = self.plan.round_event(), min(self.round + UNSEEN, self.plan.exchanges)
        return renyi_epsilon([one.model_copy(update={"steps": one.steps * begun})], self.plan.delta)


def main() -> None:
    """Print one JSON object with figures, targets, missed and versions."""
    arguments = _arguments()
    start, longer = time.perf_counter(), arguments.longer_steps
    figures: dict[str, float] = {}
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as folder:
            scenario = load("utility_sets").scenario_of(name, Path(folder))
            seeds = range(1, arguments.seeds + 1)
            tables = [
                Customers(load("utility_runs").Split(scenario, seed, Path(folder)), longer)
                for seed in seeds
            ]
            figures |= {f"{name}.{key}": value for key, value in figures_of(tables).items()}
    figures |= {
        "longer_steps": longer,
        "seeds": arguments.seeds,
        "seconds": time.perf_counter() - start,
    }
    rounded = {key: round(value, 5) for key, value in figures.items()}
    result = {"figures": rounded, "targets": {}, "missed": [], "versions": versions()}
    print(json.dumps(result, indent=2))  # noqa: T201


def figures_of(tables: Sequence[Customers]) -> dict[str, float]:
    """Return what all rounds, and trainings that may end early, reach on one table, as means over
    its seeds.
    """
    figures = _worth("all", tables, [all_rounds(table, EPSILON) for table in tables])
    for every in EVERY:
        courses = [endings(table, every) for table in tables]
        figures |= _worth(f"{every}.no_end", tables, [course[ENDLESS] for course in courses])
        figures[f"{every}.seen_from"] = _mean(
            seen_from(table, course[ENDLESS].plan)
            for table, course in zip(tables, courses, strict=True)
        )
        for patience in PATIENCE:
            early, name = [course[patience] for course in courses], f"{every}.{patience}"
            figures |= _worth(f"{name}.early", tables, early)
            figures[f"{name}.rounds"] = _mean(one.share for one in early)
            figures[f"{name}.spent"] = spent = _mean(one.spent for one in early)
            planned = [all_rounds(table, spent) for table in tables]
            figures |= _worth(f"{name}.all_for_spent", tables, planned)
            figures |= _apart(f"{name}.early_above_all_for_spent", tables, (early, planned))
    return figures


def all_rounds(table: Customers, epsilon: float) -> Ended:
    """Train all rounds without checks, planned for this epsilon."""
    plan = table.plan(epsilon)
    model = load("utility_runs").released_model(plan, table.split.parts(plan), table.split.scenario)
    return Ended(plan, plan.rounds, model)


def endings(table: Customers, every: int, epsilon: float = EPSILON) -> dict[int, Ended]:
    """Return where a training ends for each patience, and where for so much that it never does.

    Until it ends a run does not depend on its patience, so that one course tells all its ends.
    """
    plans = {
        patience: table.plan(epsilon, EarlyStopping(every=every, patience=patience))
        for patience in (*PATIENCE, ENDLESS)
    }
    longest, found = plans[ENDLESS], dict[int, Ended]()
    course = load("utility_runs").states(longest, table.split.parts(longest), table.split.scenario)
    for round_, state in course:
        for patience, plan in plans.items():
            if patience not in found and is_over(state, plan, round_):
                found[patience] = Ended(plan, round_, release(state, plan, round_))
    return found


def seen_from(table: Customers, plan: TrainingPlan) -> float:
    """Return how much smaller the loss of each customer set aside must be, on the mean, to be seen
    as smaller.
    """
    aside = table.split.parts(plan).aside.values()
    customers = sum(part.customers for part in aside)
    return smallest_gain(plan, len(aside)) / GAIN_SCALE / customers


def _worth(name: str, tables: Sequence[Customers], ended: Sequence[Ended]) -> dict[str, float]:
    """Return log loss and AUC of what was released, on customers whom nobody holds."""
    losses, areas = zip(*map(Customers.measured, tables, ended), strict=True)
    return {f"{name}.log_loss": _mean(losses), f"{name}.roc_auc": _mean(areas)}


def _apart(
    name: str, tables: Sequence[Customers], sides: tuple[Sequence[Ended], Sequence[Ended]]
) -> dict[str, float]:
    """Return by how much the first ones' log loss and AUC are above the others', in pairs by
    seed: the mean, and the standard deviation over the seeds.
    """
    first, others = (np.array(list(map(Customers.measured, tables, side))) for side in sides)
    figures: dict[str, float] = {}
    for metric, above in zip(("log_loss", "roc_auc"), (first - others).T, strict=True):
        figures |= {f"{name}.{metric}": float(above.mean()), f"{name}.{metric}_sd": above.std()}
    return figures


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the only form there is")
    parser.add_argument("--sets", nargs="+", default=["telco", "bank_marketing"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--longer-steps", type=float, default=1.0, help="times the rule's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
