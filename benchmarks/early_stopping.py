"""Would checks on customers set aside, each charged, end a private training at the right time?

A run under one total epsilon trains all its rounds, or has some epsilon for checks, on a test part
that stands for the customers set aside. A check is a noised table of scores, as an evaluation's, or
one noised number: the sum of each customer's loss under the best model before, less that under
this one, clipped. It improves if it is better by more than noise explains. A run that has ended
costs what was begun of it, its reservation being closed: for that epsilon all rounds could have
been planned, under more noise and without a check. ADR 0050 and 0051 rest on these figures.

    make bench NAME=early_stopping ARGS=--json
    .venv/bin/python benchmarks/early_stopping.py --json [--sets telco bank_marketing] [--seeds 5]
"""

import argparse
import importlib.util
import json
import math
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

# Python looks here first, where `governance.py` would pass for the package of that name.
HERE = Path(__file__).parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE.resolve()]

from fedcore.metrics import measures, noised_sum  # noqa: E402
from fedcore.plans import TrainingPlan  # noqa: E402
from fedcore.privacy.accounting import renyi_epsilon  # noqa: E402
from fedcore.privacy.discrete import discrete_laplace, discrete_laplace_variance  # noqa: E402
from fedcore.privacy.events import PrivacyEvent  # noqa: E402
from fedcore.score_tables import DEFAULT_BINS, score_table  # noqa: E402
from simulations.noise import SeededNoise  # noqa: E402
from simulations.paperwork import make_plan  # noqa: E402

Floats = NDArray[np.float64]


def load(name: str) -> Any:
    """Return a module of this folder."""
    if name not in sys.modules:
        spec: Any = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


EPSILON = 3.0
CHECKS = 6
# What one check may reveal of a customer set aside, by its pure epsilon.
CHECK_EPSILONS = (0.05, 0.1, 0.2)
METRICS = ("log_loss", "roc_auc")
PATIENCE = 2
# An improvement is believed that noise alone shows once in twenty checks.
QUANTILE = 1.645
# The most by which one customer's loss may differ between two models, as far as it counts, and
# into how many steps that is divided, so that sums are integers.
CLIPS, GRID = (0.1, 1.0), 1000
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Check:
    """A model after so many rounds: what is exact, what a noised table shows with its noise, and
    of each unit the losses of its customers.
    """

    round: int
    exact: dict[str, float]
    shown: dict[str, tuple[float, float] | None]
    losses: dict[str, Floats]


@dataclass(frozen=True)
class Course:
    """A training with its checks. `epsilon` is that of a check; None where none is charged."""

    seed: int
    epsilon: float | None
    checks: tuple[Check, ...]
    plan: TrainingPlan | None = None

    def spent(self, place: int) -> float:
        """Return what a closed ledger counts of a run that has ended with this check.

        Raises: ValueError for a course without its plan.
        """
        if self.plan is None:
            raise ValueError("the course has no plan")
        # A closed ledger counts one exchange more than were begun.
        one, done = self.plan.round_event(), min(self.checks[place].round + 1, self.plan.exchanges)
        events = [one.model_copy(update={"steps": one.steps * done})]
        if self.epsilon is not None:
            events.append(_checks(self.epsilon, place + 1))
        return renyi_epsilon(events, self.plan.delta)


def main() -> None:
    """Print one JSON object with figures, targets, missed and versions."""
    arguments = _arguments()
    start, figures = time.perf_counter(), dict[str, float]()
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as folder:
            scenario = load("utility_sets").scenario_of(name, Path(folder))
            seeds = range(1, arguments.seeds + 1)
            splits = [load("utility_runs").Split(scenario, seed, Path(folder)) for seed in seeds]
            found = figures_of(splits)
        figures |= {f"{name}.{key}": round(value, 5) for key, value in found.items()}
    figures["seeds"], figures["seconds"] = (
        float(arguments.seeds),
        round(time.perf_counter() - start, 1),
    )
    result = {
        "figures": figures,
        "targets": {},
        "missed": [],
        "versions": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{package: version(package) for package in ("fedpact", "numpy", "torch")},
        },
    }
    print(json.dumps(result, indent=2))  # noqa: T201


def figures_of(splits: Sequence[Any]) -> dict[str, float]:
    """Return what training with and without checks reaches on one table, over its seeds."""
    figures: dict[str, float] = {}
    exactly = [course_of(split, None) for split in splits]
    figures["without.spent"] = _mean(course.spent(CHECKS - 1) for course in exactly)
    figures["without.spent_by_first_half"] = _mean(
        course.spent(CHECKS // 2 - 1) for course in exactly
    )
    plain = [course.checks for course in exactly]
    for metric in METRICS:
        last = [run[-1].exact[metric] for run in plain]
        half = [run[len(run) // 2 - 1].exact[metric] for run in plain]
        figures[f"without.{metric}"] = _mean(last)
        figures[f"without.{metric}_gain_of_last_half"] = _mean(
            _gain(metric, after, before) for after, before in zip(last, half, strict=True)
        )
        figures[f"without.{metric}_best_less_last"] = _mean(
            max(_gain(metric, one.exact[metric], run[-1].exact[metric]) for one in run)
            for run in plain
        )
    places = [_stopped_exactly(run) for run in plain]
    figures |= {
        f"without.log_loss{key}": value
        for key, value in _ended("log_loss", exactly, places).items()
    }
    for epsilon in CHECK_EPSILONS:
        courses = [course_of(split, epsilon) for split in splits]
        for metric in METRICS:
            figures[f"{epsilon:g}.{metric}"] = _mean(
                course.checks[-1].exact[metric] for course in courses
            )
            figures |= {
                f"{epsilon:g}.table.{metric}{key}": value
                for key, value in by_tables(metric, courses).items()
            }
        for clip in CLIPS:
            ended = by_pairs(courses, clip)
            for_the_same = [course_of(split, None, ended["_spent"]) for split in splits]
            ended["_all_rounds_for_the_same"] = _mean(
                course.checks[-1].exact["log_loss"] for course in for_the_same
            )
            figures |= {
                f"{epsilon:g}.paired_{clip:g}.log_loss{key}": value for key, value in ended.items()
            }
    return figures


def course_of(split: Any, epsilon: float | None, total: float = EPSILON) -> Course:
    """Train by the default rule, and return what each check finds; without epsilon none is charged,
    and nothing is shown. `total` is what rounds and checks claim together.
    """
    plan = plan_of(split.scenario, epsilon, total)
    parts, every = split.parts(plan), plan.rounds // CHECKS
    found = [
        _check(plan, weights, parts, (split.scenario.seed, round_, epsilon))
        for round_, weights in load("utility_runs").models(plan, parts, split.scenario)
        if round_ % every == 0
    ]
    return Course(split.scenario.seed, epsilon, tuple(found), plan)


def plan_of(scenario: Any, epsilon: float | None, total: float) -> TrainingPlan:
    """Return the plan whose rounds and checks together claim `total`."""
    plan = make_plan(scenario.model_copy(update={"epsilon": total}))
    if epsilon is None:
        return plan
    checks, low, high = _checks(epsilon, CHECKS), plan.privacy.noise_multiplier, 1e4
    if renyi_epsilon([_with_noise(plan, high).run_event(), checks], plan.delta) > total:
        raise ValueError("the checks alone pass the epsilon of the run")
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        charged = [_with_noise(plan, middle).run_event(), checks]
        fits = renyi_epsilon(charged, plan.delta) <= total
        low, high = (low, middle) if fits else (middle, high)
    return _with_noise(plan, high)


def _checks(epsilon: float, count: int) -> PrivacyEvent:
    return PrivacyEvent(
        mechanism="discrete_laplace",
        l1_sensitivity=1.0,
        sampling_rate=1.0,
        noise_multiplier=1 / epsilon,
        steps=count,
    )


def _with_noise(plan: TrainingPlan, noise: float) -> TrainingPlan:
    terms = plan.privacy.model_copy(update={"noise_multiplier": noise})
    return plan.model_copy(update={"privacy": terms})


def _check(plan: TrainingPlan, weights: Any, parts: Any, about: tuple[int, int, Any]) -> Check:
    seed, round_, epsilon = about
    units = [
        (unit, load("utility_runs").scores(plan, weights, part.features), part.labels)
        for unit, part in parts.test.items()
    ]
    scores, labels = (np.concatenate([one[place] for one in units]) for place in (1, 2))
    exact = {
        "log_loss": float(log_loss(labels, scores)),
        "roc_auc": float(roc_auc_score(labels, scores)),
    }
    losses = {unit: _losses(of_unit, told) for unit, of_unit, told in units}
    if epsilon is None:
        return Check(round_, exact, {}, losses)
    noise = SeededNoise(seed)
    tables = [
        score_table(told, of_unit)
        + discrete_laplace(
            DEFAULT_BINS.size, epsilon, noise.stream(unit, f"{round_}/{epsilon}", "table")
        )
        for unit, of_unit, told in units
    ]
    found = measures(noised_sum(tables, epsilon, DEFAULT_BINS), ())
    shown = {
        metric: None if (one := found[metric]) is None else (one.value, one.noise_sd)
        for metric in METRICS
    }
    return Check(round_, exact, shown, losses)


def _losses(scores: Floats, labels: Floats) -> Floats:
    right = np.where(labels > 0, scores, 1 - scores)
    return -np.log(np.clip(right, _SMALLEST, 1))


def _stopped_exactly(run: Sequence[Check]) -> int:
    """Return where a run would end for whoever saw the losses without noise."""
    best, waited = 0, 0
    for place, check in enumerate(run[1:], start=1):
        better = check.exact["log_loss"] < run[best].exact["log_loss"]
        best, waited = (place, 0) if better else (best, waited + 1)
        if waited >= PATIENCE:
            return place
    return len(run) - 1


def by_tables(metric: str, courses: Sequence[Course]) -> dict[str, float]:
    """Return what became of runs that are ended by the noised tables."""
    places = [_stopped_by_tables(metric, course) for course in courses]
    shown = [check.shown[metric] for course in courses for check in course.checks]
    told = [each[1] for each in shown if each is not None]
    figures = _ended(metric, courses, places) | {"_hidden": 1 - len(told) / len(shown)}
    if told:
        figures["_seen_from"] = QUANTILE * math.sqrt(2) * _mean(told)
    return figures


def _stopped_by_tables(metric: str, course: Course) -> int:
    best: tuple[float, float] | None = None
    waited = 0
    for place, check in enumerate(course.checks):
        now = check.shown[metric]
        if now is not None and (
            best is None or _gain(metric, now[0], best[0]) > QUANTILE * math.hypot(now[1], best[1])
        ):
            best, waited = now, 0
        else:
            waited += 1
        if waited >= PATIENCE:
            return place
    return len(course.checks) - 1


def by_pairs(courses: Sequence[Course], clip: float) -> dict[str, float]:
    """Return what became of runs that are ended by each customer's own difference of losses."""
    found = [stopped_by_pairs(course, clip) for course in courses]
    figures = _ended("log_loss", courses, [place for place, _ in found])
    best = [
        course.checks[place].exact["log_loss"]
        for course, (_, place) in zip(courses, found, strict=True)
    ]
    seen = _mean(seen_from(course, clip) for course in courses)
    return figures | {"_of_best": _mean(best), "_seen_from": seen}


def stopped_by_pairs(course: Course, clip: float) -> tuple[int, int]:
    """Return the places of the check at which a run ends, and of the best one before it."""
    best, waited = 0, 0
    for place, check in enumerate(course.checks[1:], start=1):
        known = course.checks[best]
        gain = sum(noised_gain(course, unit, (known, check), clip) for unit in check.losses)
        if gain / _customers(check) > seen_from(course, clip):
            best, waited = place, 0
        else:
            waited += 1
        if waited >= PATIENCE:
            return place, best
    return len(course.checks) - 1, best


def noised_gain(course: Course, unit: str, models: tuple[Check, Check], clip: float) -> float:
    """Return what a unit would answer of the best model and of the one now: the sum of clipped
    differences, on a grid, with noise.
    """
    best, now = models
    steps = np.rint((best.losses[unit] - now.losses[unit]) / clip * GRID)
    total = int(np.clip(steps, -GRID, GRID).sum())
    stream = SeededNoise(course.seed).stream(unit, f"{now.round}/{course.epsilon}", "pair")
    noise = discrete_laplace(1, Fraction(repr(course.epsilon)) / GRID, stream)
    return float(total + noise[0]) * clip / GRID


def seen_from(course: Course, clip: float) -> float:
    """Return the least mean gain that stands out of the noise."""
    check, epsilon = course.checks[0], Fraction(repr(course.epsilon)) / GRID
    sd = math.sqrt(len(check.losses) * discrete_laplace_variance(epsilon)) * clip / GRID
    return QUANTILE * sd / _customers(check)


def _customers(check: Check) -> int:
    return sum(len(losses) for losses in check.losses.values())


def _ended(metric: str, courses: Sequence[Course], places: Sequence[int]) -> dict[str, float]:
    ends = [course.checks[place] for course, place in zip(courses, places, strict=True)]
    lasts = [course.checks[-1] for course in courses]
    shares = [end.round / last.round for end, last in zip(ends, lasts, strict=True)]
    return {
        "_at_stop": _mean(end.exact[metric] for end in ends),
        "_rounds": _mean(shares),
        "_spent": _mean(course.spent(place) for course, place in zip(courses, places, strict=True)),
    }


def _gain(metric: str, value: float, before: float) -> float:
    return before - value if metric == "log_loss" else value - before


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the only form there is")
    parser.add_argument("--sets", nargs="+", default=["telco", "bank_marketing"])
    parser.add_argument("--seeds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
