"""Federated evaluation from noised tables of scores: how near to the pooled rows, how honest.

A known population has calibrated scores with a given area under the ROC curve. Of each fresh draw
five units make tables of their own rows, each with its own exact noise; the server's sum is held
against the pooled rows and against the population. Every repetition draws all anew.

    make bench NAME=evaluation ARGS=--json
    .venv/bin/python benchmarks/evaluation.py --json [--repetitions 1000] [--rows 10000]
    .venv/bin/python benchmarks/evaluation.py --bins     compares bins, as ADR 0042 chose them
    .venv/bin/python benchmarks/evaluation.py --worlds   other populations, sizes and epsilons
"""

import argparse
import itertools
import json
import math
import platform
import statistics
import sys
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Python looks here first, where `governance.py` would pass for the package of that name.
HERE = Path(__file__).parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE.resolve()]

from fedcore.intervals import Estimate, ScoreSum, estimate_curve, value_of  # noqa: E402
from fedcore.metrics import measures, noised_sum, roc_auc  # noqa: E402
from fedcore.privacy.discrete import discrete_laplace  # noqa: E402
from fedcore.privacy.noise import SystemNoise  # noqa: E402
from fedcore.score_tables import DEFAULT_BINS, ScoreBins, score_table  # noqa: E402
from fedcore.widths import Expected, expected_table, forecast  # noqa: E402
from simulations.noise import SeededNoise  # noqa: E402

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PREVALENCE, EPSILON, SEED = 0.12, 1.0, 42
# Five units of unlike sizes.
SHARES = (0.4, 0.25, 0.15, 0.12, 0.08)
# The target's population, and others beside it.
AUC, OTHER_AUCS = 0.8, (0.7, 0.9)
NEAR = 0.012
AT_LEAST = {"within_0.012_of_exact": 0.95, "covers_population": 0.93}
AT_MOST = {"covers_population": 0.98}
# Numbers whose intervals are counted as well; each has one true value in the population.
OTHERS = (
    "roc_auc",
    "average_precision",
    "log_loss",
    "brier",
    "prevalence",
    "ece",
    "gain_10",
    "gain_30",
    "lift_20",
    "observed_0.06_0.1",
    "predicted_0.06_0.1",
    "observed_0.3_0.4",
    "true_positive_rate_at_0.2",
    "false_positive_rate_at_0.2",
    "precision_at_0.2",
    "precision_at_0.5",
)
THRESHOLDS = (0.2, 0.5)
# Scores that are not calibrated: squeezed into few bins, spread out, far too low or too high.
DISTORTIONS = ((0.5, 0.0), (0.25, 0.0), (0.1, 0.0), (2.0, 0.0), (1.0, -2.0), (1.0, 2.0))
# Where noise is strong or weak, and where label 1 is rare or common: AUC, rows, its share, epsilon.
OTHER_WORLDS = (
    (0.7, 800, 0.12, 1.0),
    (0.9, 800, 0.12, 1.0),
    (0.7, 1500, 0.12, 1.0),
    (0.8, 6000, 0.02, 1.0),
    (0.8, 20_000, 0.02, 1.0),
    (0.75, 300, 0.4, 1.0),
    (0.75, 3000, 0.4, 1.0),
    (0.8, 10_000, 0.12, 0.2),
    (0.8, 10_000, 0.12, 8.0),
)


@dataclass(frozen=True)
class World:
    """A known population of scores, and how many rows are drawn from it.

    Calibrated log-odds are multiplied by `stretch` around the prevalence's, and moved by `shift`.
    """

    roc_auc: float
    rows: int
    prevalence: float = PREVALENCE
    epsilon: float = EPSILON
    stretch: float = 1.0
    shift: float = 0.0

    @property
    def expected(self) -> Expected:
        return Expected(self.rows, self.prevalence, self.roc_auc, len(SHARES), self.epsilon)

    def draw(self, chance: np.random.Generator) -> tuple[Integers, Floats]:
        """Return labels and scores of customers drawn from the population."""
        labels = (chance.random(self.rows) < self.prevalence).astype(np.int64)
        sd = self.expected.log_odds_sd
        log_odds = self.stretch * chance.normal((labels - 0.5) * sd**2, sd) + self.shift
        odds = self.prevalence / (1 - self.prevalence) * np.exp(log_odds)
        return labels, odds / (1 + odds)


@dataclass(frozen=True)
class Repetition:
    """What the server has of one draw, and the pooled rows' own number, which nobody has."""

    table: ScoreSum
    exact_auc: float

    def auc(self) -> Estimate:
        """Return the federated estimate."""
        return estimate_curve(roc_auc, self.table)


def main() -> None:
    """Print one JSON object with figures, targets, missed and versions."""
    arguments = _arguments()
    start = time.perf_counter()
    numbers = range(arguments.repetitions)
    if arguments.bins:
        worlds = [World(auc, arguments.rows) for auc in (AUC, *OTHER_AUCS)]
        print(json.dumps(compare(worlds, numbers), indent=2))  # noqa: T201
        return
    if arguments.worlds:
        print(json.dumps(other_worlds(numbers), indent=2))  # noqa: T201
        return
    world = World(AUC, arguments.rows)
    figures = auc_figures(world, numbers) | other_figures(world, numbers)
    for other in OTHER_AUCS:
        found = auc_figures(World(other, arguments.rows), numbers)
        figures |= {f"{name}_at_auc_{other:g}": figure for name, figure in found.items()}
    figures["noise_of_5000_counts_s"] = noise_seconds()
    figures["repetitions"], figures["rows"] = float(len(numbers)), float(arguments.rows)
    figures["seconds"] = round(time.perf_counter() - start, 1)
    result = {
        "figures": figures,
        "targets": {"at_least": AT_LEAST, "at_most": AT_MOST},
        "missed": missed(figures),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("fedpact", "numpy")},
        },
    }
    print(json.dumps(result, indent=2))  # noqa: T201


def repeat(world: World, number: int, bins: ScoreBins = DEFAULT_BINS) -> Repetition:
    """Return the noised sum of the units' tables of a fresh draw."""
    chance = np.random.default_rng([SEED, number])
    labels, scores = world.draw(chance)
    units = chance.choice(len(SHARES), world.rows, p=SHARES)
    tables = []
    for unit in range(len(SHARES)):
        order = f"{world.roc_auc}/{number}/{bins.name}"
        stream = SeededNoise(SEED).stream(str(unit), order, "noise")
        own = score_table(labels[units == unit], scores[units == unit], bins)
        tables.append(own + discrete_laplace(bins.size, world.epsilon, stream))
    return Repetition(noised_sum(tables, world.epsilon, bins), rank_auc(labels, scores))


def rank_auc(labels: Integers, scores: Floats) -> float:
    """Return the exact area under the ROC curve of rows whose scores all differ."""
    positives = int(labels.sum())
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    pairs = positives * (len(scores) - positives)
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / pairs)


def auc_figures(world: World, numbers: range) -> dict[str, float]:
    """Return how near the federated number is to the exact one; how often its interval holds."""
    repetitions = [repeat(world, number) for number in numbers]
    found = [repetition.auc() for repetition in repetitions]
    off = np.array([e.value - r.exact_auc for e, r in zip(found, repetitions, strict=True)])
    halves = np.array([(e.high - e.low) / 2 for e in found])
    expected = forecast(world.expected)["roc_auc"]
    return {
        f"within_{NEAR}_of_exact": float((np.abs(off) <= NEAR).mean()),
        "distance_from_exact_95th_percentile": float(np.quantile(np.abs(off), 0.95)),
        "mean_above_exact": float(off.mean()),
        "covers_population": float(np.mean([e.low <= world.roc_auc <= e.high for e in found])),
        "half_width": float(halves.mean()),
        "half_width_forecast": (expected.high - expected.low) / 2 if expected else math.inf,
        "sampling_sd": float(np.mean([e.sampling_sd for e in found])),
        "noise_sd": float(np.mean([e.noise_sd for e in found])),
        "bins_error": float(np.mean([e.bins_error for e in found])),
    }


def other_figures(world: World, numbers: range) -> dict[str, float]:
    """Return how often the other numbers' intervals hold the population's, and are said at all."""
    true = truths(world)
    said = dict.fromkeys(OTHERS, 0)
    covered = dict.fromkeys(OTHERS, 0)
    for number in numbers:
        found = measures(repeat(world, number).table, THRESHOLDS)
        for name in OTHERS:
            one = found[name]
            if one is not None and name in true:
                said[name] += 1
                covered[name] += one.low <= true[name] <= one.high
    figures = {f"covers_{name}": covered[name] / said[name] for name in OTHERS if said[name]}
    return figures | {f"said_{name}": said[name] / len(numbers) for name in OTHERS}


def other_worlds(numbers: range) -> dict[str, dict[str, float]]:
    """Return the same for populations, sizes and epsilons that no target names."""
    found = {
        f"auc {auc:g}, {rows} rows, {share:g} positive, epsilon {epsilon:g}": other_figures(
            World(auc, rows, share, epsilon), numbers
        )
        for auc, rows, share, epsilon in OTHER_WORLDS
    }
    for stretch, shift in DISTORTIONS:
        world = World(AUC, 10_000, stretch=stretch, shift=shift)
        found[f"log-odds times {stretch:g} plus {shift:g}"] = auc_figures(world, numbers)
    return found


def noise_seconds() -> float:
    """Return the median time that exact noise for 5,000 counts takes."""
    taken = []
    for _ in range(11):
        start = time.perf_counter()
        discrete_laplace(5000, EPSILON, SystemNoise().stream("", "", "noise"))
        taken.append(time.perf_counter() - start)
    return round(statistics.median(taken), 4)


def truths(world: World, parts: int = 16) -> dict[str, float]:
    """Return the population's own numbers, from bins cut into so many that no error is left."""
    cuts = [
        np.linspace(low, high, parts + 1)[:-1]
        for low, high in itertools.pairwise(DEFAULT_BINS.edges)
    ]
    fine = ScoreBins("fine", (*np.concatenate(cuts).tolist(), 1.0))
    expected = replace(world.expected, rows=10**9)
    table = ScoreSum(expected_table(expected, fine), 0.0, fine)
    found = measures(table, THRESHOLDS)
    return {name: one.value for name, one in found.items() if one is not None}


# Which bins


def candidates() -> list[ScoreBins]:
    """Return bins to choose from: even in the score, in its square root, in its log-odds; ours."""
    found = [DEFAULT_BINS]
    for count in (10, 20, 34, 50, 100, 200):
        even = np.linspace(0, 1, count + 1)
        log_odds = 1 / (1 + np.exp(-np.linspace(-6, 6, count - 1)))
        for name, edges in (
            ("even", even),
            ("root", even**2),
            ("log-odds", np.array([0, *log_odds, 1])),
        ):
            found.append(ScoreBins(f"{name}/{count}", tuple(edges.tolist())))
    return found


def compare(worlds: list[World], numbers: range) -> dict[str, dict[str, float]]:
    """Return for each bins the distance from the exact number, and what bins alone make of it."""
    found = {}
    for bins in candidates():
        row = {}
        for world in worlds:
            repetitions = [repeat(world, number, bins) for number in numbers]
            off = [r.auc().value - r.exact_auc for r in repetitions]
            whole = ScoreSum(expected_table(world.expected, bins), 0.0, bins)
            row[f"distance_95_at_auc_{world.roc_auc:g}"] = float(np.quantile(np.abs(off), 0.95))
            alone = value_of(roc_auc, whole.counts) - world.roc_auc
            row[f"bins_alone_at_auc_{world.roc_auc:g}"] = alone
        found[bins.name] = row
    return found


def missed(figures: dict[str, float]) -> list[str]:
    """Return the targets that the figures miss."""
    below = [name for name, least in AT_LEAST.items() if figures[name] < least]
    return below + [name for name, most in AT_MOST.items() if figures[name] > most]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="kept for `make bench`; always JSON")
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--bins", action="store_true", help="compare bins instead")
    parser.add_argument("--worlds", action="store_true", help="other populations instead")
    return parser.parse_args()


if __name__ == "__main__":
    main()
