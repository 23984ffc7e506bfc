"""How often the verdict of a fairness audit is wrong, in populations whose true gaps are known.

Two groups, 30 and 70 in a hundred of all customers, in three units at epsilon 1. Of each fresh
draw every unit's table gets exact noise of its own, and their sum the product's verdict. By metric:

- at the boundary the true gap is the threshold, so that PASS is wrong and so is FAIL, on either
  side of zero. Where a metric compares two rates, each error is counted in its worst case: PASS
  where one rate alone is at the boundary and the other has no gap, FAIL where both are at it;
- well inside the gap is about a fifth of the threshold, well outside twice it or more.

    make bench NAME=fairness_worlds ARGS=--json
    .venv/bin/python benchmarks/fairness_worlds.py --json [--draws 1000] [--well 100] [--workers 2]
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

# Python looks here first, where `governance.py` would pass for the package of that name.
HERE = Path(__file__).parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE.resolve()]

import numpy as np  # noqa: E402

from fedcore.dpias import FairnessBound  # noqa: E402
from fedcore.fairness import decide_fairness  # noqa: E402
from fedcore.fairness_bindings import DEFAULT_ALPHA, SensitiveAttribute  # noqa: E402
from fedcore.fairness_planning import ExpectedRates, expected_shares  # noqa: E402
from fedcore.fairness_tables import GroupTable, TableLayout  # noqa: E402
from fedcore.fairness_terms import METRICS, FairnessTerms  # noqa: E402
from fedcore.privacy.discrete import discrete_laplace  # noqa: E402
from simulations.noise import SeededNoise  # noqa: E402

SEED, EPSILON, UNITS, SHARE = 42, 1.0, 3, 0.3
ROWS, ROWS_WELL = 3000, 9000
THRESHOLD, INSIDE, OUTSIDE = 0.1, 0.02, 0.25
BASE, SELECTED = 0.4, 0.5
TWO_RATES = ("equalised_odds_difference", "calibration_difference")
LAYOUT = TableLayout(
    attributes=(SensitiveAttribute(name="group", groups=("a", "b")),), threshold=0.5
)
# Draws of one task: a draw takes some ten milliseconds.
CHUNK = 100
AT_MOST = {
    f"false_{error}_{metric}": DEFAULT_ALPHA for error in ("pass", "fail") for metric in METRICS
}
AT_LEAST = {
    name: 0.9
    for metric in METRICS
    for name in (f"pass_well_inside_{metric}", f"fail_well_outside_{metric}")
}


Asked = tuple[tuple[str, str], ...]
AT_BOUNDARY: Asked = (("false_pass", "PASS"), ("false_fail", "FAIL"))


@dataclass(frozen=True)
class World:
    """A population whose group `a` is off from `b` by a gap, and what is asked about it.

    Attributes:
        asked: figures, each with the verdict whose rate it is.
        alone: of two rates that are compared only one has the gap.
    """

    metric: str
    gap: float
    asked: Asked
    rows: int
    alone: bool = False

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of the table's entries."""
        rates = ExpectedRates(1 - SHARE, BASE, SELECTED, SELECTED)
        return expected_shares(LAYOUT, [self._off(), rates])

    @property
    def terms(self) -> FairnessTerms:
        """One bound: as a ratio it is what the threshold makes of the rate of `b`, on this side."""
        largest = THRESHOLD
        if self.metric == "demographic_parity_ratio":
            off = SELECTED + (THRESHOLD if self.gap > 0 else -THRESHOLD)
            largest = 1 - min(off, SELECTED) / max(off, SELECTED)
        bound = FairnessBound(attribute="group", metric=self.metric, largest_gap=largest)
        return FairnessTerms(bounds=(bound,))

    def _off(self) -> ExpectedRates:
        gap = self.gap
        if self.metric == "equalised_odds_difference" and self.alone:
            return ExpectedRates(SHARE, BASE, SELECTED + gap, SELECTED)
        if self.metric == "calibration_difference" and self.alone:
            # Of the upper band, which has as many as the lower one, more have the label.
            base = BASE + gap * SELECTED
            return ExpectedRates(
                SHARE,
                base,
                SELECTED * (BASE + gap) / base,
                SELECTED * (1 - BASE - gap) / (1 - base),
            )
        if self.metric in {"predictive_parity_difference", "calibration_difference"}:
            return ExpectedRates(SHARE, BASE + gap, SELECTED, SELECTED)
        return ExpectedRates(SHARE, BASE, SELECTED + gap, SELECTED + gap)

    def draw(self, count: int, part: int) -> Iterator[GroupTable]:
        """Yield the noised sums of fresh draws; each part of a world has chance of its own."""
        order = f"{self.metric}/{self.asked}/{self.gap}/{part}"
        chance = np.random.default_rng([SEED, *order.encode()])
        found = chance.multinomial(self.rows, self.shares, count)
        for unit in range(UNITS):
            stream = SeededNoise(SEED).stream(str(unit), order, "noise")
            found += discrete_laplace(found.size, EPSILON, stream).reshape(found.shape)
        for counts in found:
            yield GroupTable(LAYOUT, tuple(counts.tolist()), UNITS, EPSILON)


Task = tuple[World, int, int]


def worlds() -> list[World]:
    """Return every world, of each metric and side of zero."""
    found = []
    for metric in METRICS:
        for side in (1, -1):
            at = side * THRESHOLD
            if metric in TWO_RATES:
                found += [
                    World(metric, at, AT_BOUNDARY[:1], ROWS, alone=True),
                    World(metric, at, AT_BOUNDARY[1:], ROWS),
                ]
            else:
                found.append(World(metric, at, AT_BOUNDARY, ROWS))
            inside, outside = (("pass_well_inside", "PASS"),), (("fail_well_outside", "FAIL"),)
            found += [
                World(metric, side * INSIDE, inside, ROWS_WELL),
                World(metric, side * OUTSIDE, outside, ROWS_WELL),
            ]
    return found


def tasks_of(draws: int, well: int) -> list[Task]:
    """Return what is to be drawn, in parts."""
    return [
        (world, part, min(CHUNK, count - start))
        for world in worlds()
        for count in (draws if world.rows == ROWS else well,)
        for part, start in enumerate(range(0, count, CHUNK))
    ]


def verdicts(task: Task) -> tuple[World, Counter[str]]:
    """Return how often each verdict came out."""
    world, part, count = task
    tables = world.draw(count, part)
    return world, Counter(decide_fairness(table, world.terms).verdict for table in tables)


def drawn(tasks: list[Task], workers: int) -> Iterator[tuple[World, Counter[str]]]:
    """Yield the verdicts of all tasks, in whatever order: chance is each task's own."""
    if workers == 1:
        yield from map(verdicts, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(verdicts, tasks)


def figures_of(tasks: list[Task], workers: int) -> dict[str, float]:
    """Return every rate: over both sides of zero together, and on each side."""
    hits: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for world, found in drawn(tasks, workers):
        side = "above" if world.gap > 0 else "below"
        for figure, verdict in world.asked:
            name = f"{figure}_{world.metric}"
            for counted in (name, f"{name}_{side}"):
                hits[counted] += found[verdict]
                totals[counted] += found.total()
    return {name: hits[name] / totals[name] for name in sorted(totals)}


def missed(figures: dict[str, float]) -> list[str]:
    """Return the targets that the figures miss."""
    below = [name for name, least in AT_LEAST.items() if figures[name] < least]
    return below + [name for name, most in AT_MOST.items() if figures[name] > most]


def main() -> None:
    """Print one JSON object with figures, targets, missed and versions."""
    arguments = _arguments()
    start = time.perf_counter()
    figures = figures_of(tasks_of(arguments.draws, arguments.well), arguments.workers)
    figures["draws_a_side"], figures["draws_a_side_well"] = arguments.draws, arguments.well
    figures["seconds"] = round(time.perf_counter() - start, 1)
    result = {
        "figures": figures,
        "targets": {"at_least": AT_LEAST, "at_most": AT_MOST},
        "missed": missed(figures),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("fedpact", "numpy", "scipy")},
        },
    }
    print(json.dumps(result, indent=2))  # noqa: T201


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="kept for `make bench`; always JSON")
    parser.add_argument("--draws", type=int, default=1000, help="at the boundary, on each side")
    parser.add_argument("--well", type=int, default=100, help="well inside or outside, each side")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
