"""The search behind the default rule, at epsilon 3, and how far the rule stays below its outcome.

With full batches and one local step a round is one clipped, noised sum over all units, so that many
settings are trained at once: the same clip, noise and averaging in float32 and with NumPy's
generator, which no figure rests on. The rule is one more setting among them. The outcome of
seeds 101-105 is kept in `tests/reference/utility_tuning.json`.
"""

import itertools
import json
import math
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from fedcore.defaults import (
    SERVER_MOMENTUM,
    PublicFacts,
    default_intervals,
    evenly_divided,
)
from fedcore.plans import Feature, TrainingPlan
from fedcore.privacy.calibration import noise_multiplier_for
from simulations.paperwork import make_plan
from simulations.scenario import Scenario

ALLOWED = 0.01
INTERVALS = (8, 16)
ROUNDS = (60, 120, 200)
CLIP_SHARES = (0.15, 0.25, 0.35, 0.5, 0.8)
REACHES = (0.3, 0.6, 1.2, 2.4)
AVERAGED = (1 / 3, 1 / 2)


@dataclass(frozen=True)
class Setting:
    """Numbers of a run; `step` is learning rate times clip norm."""

    intervals: int
    rounds: int
    l2_clip_norm: float
    step: float
    average_last: int


def main(names: list[str], seeds: list[int], sets: Any, runs: Any) -> None:
    """Print for each set the best setting, the rule's, and the difference of their AUCs."""
    outcome: dict[str, Any] = {"seeds": seeds, "epsilon": 3.0, "allowed": ALLOWED, "sets": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            start = time.perf_counter()
            scenario = sets.scenario_of(name, Path(folder)).model_copy(update={"epsilon": 3.0})
            outcome["sets"][name] = found = _searched(scenario, seeds, Path(folder), runs)
            sys.stderr.write(f"{name} ({time.perf_counter() - start:.0f} s): {found}\n")
    outcome["missed"] = [n for n, found in outcome["sets"].items() if found["below"] > ALLOWED]
    print(json.dumps(outcome, indent=2))  # noqa: T201


def _searched(scenario: Scenario, seeds: list[int], folder: Path, runs: Any) -> dict[str, Any]:
    aucs: dict[Setting, list[float]] = {}
    plan = make_plan(scenario)
    maps = _maps(scenario, plan)
    rule = _setting(plan, next(n for n, features in maps.items() if features == plan.features))
    for seed, (intervals, features) in itertools.product(seeds, maps.items()):
        split = runs.Split(scenario, seed, folder)
        mapped = plan.model_copy(update={"features": features})
        data = _stacked(split.parts(mapped))
        wanted = _grid(data[0].shape[1] - 1, intervals, _facts(scenario, plan).room)
        wanted += [rule] if intervals == rule.intervals else []
        for _, some in itertools.groupby(sorted(wanted, key=_rounds), key=_rounds):
            settings = list(some)
            for setting, auc in zip(settings, _aucs(plan, settings, data, seed), strict=True):
                aucs.setdefault(setting, []).append(auc)
    means = {setting: float(np.mean(values)) for setting, values in aucs.items()}
    best = max(means, key=lambda setting: means[setting])
    return {
        "tried": len(means),
        "best": asdict(best) | {"auc": round(means[best], 4)},
        "rule": asdict(rule) | {"auc": round(means[rule], 4)},
        "below": round(means[best] - means[rule], 4),
    }


def _maps(scenario: Scenario, plan: TrainingPlan) -> dict[int, tuple[Feature, ...]]:
    """Return the feature maps to try, by their intervals: 0 for an author's own."""
    if scenario.plan.features:
        return {0: scenario.plan.features}
    maps = {default_intervals(_facts(scenario, plan)): plan.features}
    for count in INTERVALS:
        maps.setdefault(count, evenly_divided(scenario.contract, count))
    return maps


def _facts(scenario: Scenario, plan: TrainingPlan) -> PublicFacts:
    return PublicFacts(tuple(u.public_n for u in plan.units), scenario.epsilon, scenario.delta)


def _grid(inputs: int, intervals: int, room: float) -> list[Setting]:
    return [
        Setting(
            intervals=intervals,
            rounds=rounds,
            l2_clip_norm=share * math.sqrt(inputs),
            step=reach * room * (1 - SERVER_MOMENTUM) / rounds,
            average_last=round(averaged * rounds),
        )
        for rounds, share, reach, averaged in itertools.product(
            ROUNDS, CLIP_SHARES, REACHES, AVERAGED
        )
    ]


def _setting(plan: TrainingPlan, intervals: int) -> Setting:
    clip = plan.privacy.l2_clip_norm
    return Setting(
        intervals=intervals,
        rounds=plan.rounds,
        l2_clip_norm=clip,
        step=plan.averaging.local_learning_rate * clip,
        average_last=plan.averaging.average_last,
    )


def _rounds(setting: Setting) -> int:
    return setting.rounds


def _stacked(parts: Any) -> tuple[np.ndarray, ...]:
    """Return features with a column of ones, and labels, of training and test."""
    found = []
    for side in (parts.train, parts.test):
        features = np.concatenate([part.features for part in side.values()])
        ones = np.ones((len(features), 1))
        found.append(np.hstack([features, ones]).astype(np.float32))
        found.append(np.concatenate([part.labels for part in side.values()]).astype(np.float32))
    return tuple(found)


def _aucs(
    plan: TrainingPlan, settings: list[Setting], data: tuple[np.ndarray, ...], seed: int
) -> list[float]:
    """Return the AUC of each setting, all of which have the same number of rounds."""
    features, labels, test, test_labels = data
    rounds, privacy = settings[0].rounds, plan.privacy
    total = sum(unit.public_n for unit in plan.units)
    clip, step, last = (
        np.array([getattr(setting, name) for setting in settings], dtype=np.float32)
        for name in ("l2_clip_norm", "step", "average_last")
    )
    one = noise_multiplier_for(3.0, privacy.delta, rounds, 1.0)
    noise = one * clip * math.sqrt(len(plan.units)) / total
    random, norms = np.random.default_rng(seed), np.linalg.norm(features, axis=1)[:, None]
    weights = np.zeros((features.shape[1], len(settings)), np.float32)
    momentum, averaged = np.zeros_like(weights), np.zeros_like(weights)
    for round_ in range(rounds):
        slopes = 1 / (1 + np.exp(np.clip(-(features @ weights), -60, 60))) - labels[:, None]
        slopes *= clip / np.maximum(np.abs(slopes) * norms, clip)
        drawn = random.standard_normal(weights.shape, dtype=np.float32)
        gradient = features.T @ slopes / total + noise.astype(np.float32) * drawn
        momentum = SERVER_MOMENTUM * momentum - step / clip * gradient
        weights = weights + momentum
        averaged += weights * (round_ >= rounds - last) / last
    scores = test @ averaged
    return [float(roc_auc_score(test_labels, scores[:, i])) for i in range(len(settings))]
