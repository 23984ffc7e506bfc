"""Epsilon from below: what an attacker who sees every update can prove, beside what is claimed.

One run: 8 units whose customers are 8,192 canaries, each in the data by a fair coin; whole runs of
two rounds through server and ClientApp. From the updates alone a fixed share of the canaries is
guessed, the surest first, and the guesses bound epsilon (Steinke, Nasr, Jagielski 2023).
White box: thousands of updates of a unit with a canary of the clip's norm in a direction of its
own, and of one without; a threshold that was fixed beforehand tells them apart, and its error rates
bound epsilon (Nasr et al. 2023). Each reads the unit's source by the node's reader and is trained
by `clients.training.train_locally` as the ClientApp calls it; that this is what leaves a node, to
the bit, is tried on whole exchanges before.
Noise, sampling and coins are the operating system's, or with `--seed` repeatable.

    make bench NAME=audit
    .venv/bin/python benchmarks/audit.py --json [--seed 1] [--units 8] [--observations 2000]
"""

import argparse
import importlib.util
import json
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Python looks here first, where `governance.py` would pass for the package of that name.
HERE = Path(__file__).parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE.resolve()]

import numpy as np  # noqa: E402
import structlog  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from fedcore.privacy.events import NoiseSource  # noqa: E402
from fedcore.privacy.noise import KeyStream, RandomSource, SystemNoise, turn  # noqa: E402
from simulations.noise import SeededNoise  # noqa: E402


def load(name: str) -> Any:
    """Return a file beside this one as a module."""
    spec: Any = importlib.util.spec_from_file_location(f"bench_{name}", HERE / f"{name}.py")
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[f"bench_{name}"] = module
    spec.loader.exec_module(module)
    return module


bounds, worlds, runs = load("audit_bounds"), load("audit_worlds"), load("audit_runs")

# All of this was fixed before anything was looked at.
CONFIDENCE = 0.95
FALSE_ALARM = 1e-6
ONE_RUN_ORDER, ONE_RUN_ROUNDS = 1024, 2
ONE_RUN_SHARES = {1.0: 0.2, 3.0: 0.1, 8.0: 0.1}
WHITE_BOX_ORDER = 16
WHITE_BOX = {"full_batch": runs.Terms(3.0), "sampled": runs.Terms(3.0, 1, 20, 0.2)}
TARGETS = {
    "exchanges_not_the_same": 0.0,
    "one_run_ratio_at_1": 6.0,
    "one_run_ratio_at_3": 3.0,
    "one_run_ratio_at_8": 3.0,
    "white_box_ratio_full_batch": 2.0,
    "bounds_above_the_claim": 0.0,
    "halved_noise_not_noticed": 0.0,
}
ASSUMPTIONS = [
    "The attacker knows every customer but whether the canary is one, and chooses all their rows.",
    "The attacker sees each unit's update, the model that it began with and all public constants.",
    "One run: coins are fair and independent; nothing about the mechanism.",
    "White box: updates are independent, and the canary's part of them is one of Poisson-sampled "
    "Gaussian steps of the plan's rate and number with any amount of noise. The plain bound "
    "supposes independence only.",
    "White box: reader and training are the node's, called as the ClientApp calls them; what comes "
    "before and after in an exchange (orders, ledger, receipt) is in the exchanges that were "
    "compared to the bit, and in the one-run audits.",
    "A canary of the logistic model at residuals near one half; one configuration, not all.",
]


@dataclass(frozen=True)
class HalvedNoise:
    """The fault that the audit must notice: noise of half the standard deviation."""

    source: RandomSource

    @property
    def kind(self) -> NoiseSource:
        """As of the source."""
        return self.source.kind

    def stream(self, unit: str, order: str, purpose: str) -> KeyStream:
        """Return the stream that the source would, but for the noise."""
        found = self.source.stream(unit, order, purpose)
        return _Halved(found) if purpose == "noise" else found


class _Halved(KeyStream):
    def __init__(self, stream: KeyStream) -> None:
        self._stream = stream

    def normals(self, count: int, turn: Any = turn) -> NDArray[np.float64]:
        return self._stream.normals(count, turn) / 2


def main() -> None:
    """Print one JSON object with figures, targets, missed, assumptions and versions."""
    from simulations.report import versions

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="kept for `make bench`; always JSON")
    parser.add_argument("--seed", type=int, help="repeatable noise and coins")
    parser.add_argument("--units", type=int, default=8, help="of the audit in one run")
    parser.add_argument("--observations", type=int, default=2000, help="updates of each unit")
    arguments = parser.parse_args()
    quiet()
    noise = SystemNoise() if arguments.seed is None else SeededNoise(arguments.seed)
    start = time.perf_counter()
    figures = same_exchanges()
    for epsilon, share in ONE_RUN_SHARES.items():
        figures |= in_one_run(epsilon, share, arguments.units, (noise, arguments.seed))
    for name, terms in WHITE_BOX.items():
        figures |= white_box(name, terms, arguments.observations, noise)
    figures |= halved(arguments.observations, noise)
    figures["bounds_above_the_claim"] = sum(
        figures[name] > figures[name.replace("_bound_", "_claim_")]
        for name in figures
        if "_bound_" in name
    )
    figures["seconds"] = round(time.perf_counter() - start, 1)
    figures["cpu_seconds"] = round(time.process_time(), 1)
    missed = [name for name, most in TARGETS.items() if figures[name] > most]
    fixed = {
        "confidence": CONFIDENCE,
        "one_run_share_guessed": ONE_RUN_SHARES,
        "white_box_threshold": "half of what the canary adds on average",
        "noise": noise.kind,
    }
    result = {
        "figures": figures,
        "targets": TARGETS,
        "missed": missed,
        "fixed_beforehand": fixed,
        "assumptions": ASSUMPTIONS,
        "versions": versions(),
    }
    print(json.dumps(result, indent=2))  # noqa: T201


def quiet() -> None:
    """Leave the nodes' log lines out."""
    level = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=level)


def same_exchanges() -> dict[str, float]:
    """Return how many updates of whole exchanges were compared, and how many were not the same."""
    found = {"exchanges_compared": 0.0, "exchanges_not_the_same": 0.0}
    for terms in (runs.Terms(3.0, 4), runs.Terms(3.0, 4, 5, 0.2)):
        sent, same = runs.redone_exchanges(worlds, WHITE_BOX_ORDER, terms, SeededNoise(1))
        found["exchanges_compared"] += sent
        found["exchanges_not_the_same"] += sent - same
    return found


def in_one_run(
    epsilon: float, share: float, units: int, chance: tuple[RandomSource, int | None]
) -> dict[str, float]:
    """Return what one run at a claim shows."""
    noise, seed = chance
    terms = runs.Terms(epsilon, ONE_RUN_ROUNDS)
    scores = runs.one_run(worlds, terms, (ONE_RUN_ORDER, units), noise, seed)
    guessed, right = scores.guess(share)
    found = bounds.Guesses(len(scores.told), guessed, right)
    bound = bounds.one_run_epsilon(found, runs.DELTA, CONFIDENCE)
    named = f"at_{epsilon:g}"
    return {
        f"one_run_canaries_{named}": found.canaries,
        f"one_run_guessed_{named}": guessed,
        f"one_run_right_{named}": right,
        f"one_run_claim_{named}": scores.claim,
        f"one_run_bound_{named}": bound,
        f"one_run_ratio_{named}": ratio(scores.claim, bound),
    }


def white_box(name: str, terms: Any, count: int, noise: RandomSource) -> dict[str, float]:
    """Return what repeated updates under a plan's terms show."""
    plan, found = errors(terms, count, noise)
    bound = white_box_bound(terms, found, CONFIDENCE)
    claim = worlds.run_claim(plan)
    return {
        f"white_box_observations_{name}": found.without + found.with_,
        f"white_box_false_alarms_{name}": found.false_alarms,
        f"white_box_misses_{name}": found.misses,
        f"white_box_claim_{name}": claim,
        f"white_box_bound_{name}": bound,
        f"white_box_ratio_{name}": ratio(claim, bound),
        f"white_box_plain_{name}": found.plain_epsilon(runs.DELTA, CONFIDENCE),
    }


def halved(count: int, noise: RandomSource) -> dict[str, float]:
    """Return what is shown where the noise is half of what the plan says, and nobody knows."""
    terms = WHITE_BOX["full_batch"]
    plan, found = errors(terms, count, HalvedNoise(noise))
    bound = white_box_bound(terms, found, 1 - FALSE_ALARM)
    return {
        "halved_noise_shown": bound,
        "halved_noise_not_noticed": float(bound <= worlds.run_claim(plan)),
    }


def errors(terms: Any, count: int, noise: RandomSource) -> tuple[Any, Any]:
    """Return the plan, and how often the threshold was wrong about so many updates of each unit."""
    plan = runs.pair_plan(worlds, WHITE_BOX_ORDER, terms)
    with runs.opened_pair(worlds, WHITE_BOX_ORDER, plan, noise) as federation:
        units = {unit: runs.reader(federation, plan, unit) for unit in (runs.WITH, runs.WITHOUT)}
        told = runs.observe(worlds, plan, units, count, noise)
    return plan, errors_of(plan, told)


def errors_of(plan: Any, told: dict[str, NDArray[np.float64]]) -> Any:
    """Return how often the threshold is wrong about the updates of the two units."""
    alarms = int((told[runs.WITHOUT] > runs.threshold(plan)).sum())
    misses = int((told[runs.WITH] <= runs.threshold(plan)).sum())
    return bounds.Errors(len(told[runs.WITHOUT]), alarms, len(told[runs.WITH]), misses)


def white_box_bound(terms: Any, found: Any, confidence: float) -> float:
    """Return the bound for the family of the terms."""
    family = bounds.Family(terms.sampling_rate, terms.rounds * terms.local_steps)
    return float(bounds.white_box_epsilon(family, found, runs.DELTA, confidence))


def ratio(claim: float, bound: float) -> float:
    """Return how many times the bound the claim is."""
    return claim / max(bound, 1e-3)


if __name__ == "__main__":
    main()
