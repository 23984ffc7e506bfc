"""The two audits, on federations of `audit_worlds`: one run with many canaries, and many updates
with one.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.data import Examples
from fedcore.bundle import read_bundle
from fedcore.models import ModelVersion
from fedcore.plans import PrivacyTerms, TrainingPlan
from fedcore.privacy.calibration import noise_multiplier_for
from fedcore.privacy.noise import KeyStream, RandomSource
from simulations.federation import Federation

Floats = NDArray[np.float64]
DELTA = 1e-5
RUN = "run-1"
# White box: the canary's line, and those of the customers whom both units have.
CANARY, OTHERS = 1, range(2, 14)
WITH, WITHOUT = "north", "south"


@dataclass(frozen=True)
class Terms:
    """What a plan claims and how it spends it: noise is the least that keeps the claim."""

    epsilon: float
    rounds: int = 1
    local_steps: int = 1
    sampling_rate: float = 1.0

    def privacy(self, clip: float) -> PrivacyTerms:
        """Return the plan's terms."""
        steps = self.rounds * self.local_steps
        return PrivacyTerms(
            l2_clip_norm=clip,
            noise_multiplier=noise_multiplier_for(self.epsilon, DELTA, steps, self.sampling_rate),
            sampling_rate=self.sampling_rate,
            local_steps=self.local_steps,
            delta=DELTA,
        )


@dataclass(frozen=True)
class Scores:
    """What one run told of each canary, and the truth: which were in the data."""

    told: Floats
    inside: NDArray[np.bool_]
    claim: float

    def guess(self, share: float) -> tuple[int, int]:
        """Guess the highest scores to be in and the lowest to be out, so large a share of all.

        Returns: how many were guessed, and how many of them rightly.
        """
        each = int(len(self.told) * share / 2)
        ranked = self.inside[np.argsort(self.told)]
        return 2 * each, int(ranked[-each:].sum() + (~ranked[:each]).sum())


def one_run(
    worlds: Any, terms: Terms, size: tuple[int, int], noise: RandomSource, seed: int | None = None
) -> Scores:
    """Do one whole run whose customers are canaries, each in its unit's source by a fair coin.

    Args: `size` is the order of the lines, which is a unit's number of canaries, and the number of
        units; `seed` is the coins', which are the operating system's without one.
    """
    order, count = size
    units = [f"unit-{number}" for number in range(count)]
    plan = worlds.make_plan(order, units, order // 2, terms.rounds, terms.privacy(worlds.CLIP))
    inside = np.random.default_rng(seed).random((count, order)) < 0.5
    rows = {
        unit: worlds.rows_of(order, np.flatnonzero(coins))
        for unit, coins in zip(units, inside, strict=True)
    }
    told = {unit: np.zeros(order) for unit in units}

    def note(sent: Any) -> None:
        told[sent.receipt.unit] += worlds.samples_of(plan, sent.receipt.unit, sent.update)

    with opened(worlds, order, plan, rows, noise) as federation:
        worlds.watch_updates(federation, note)
        federation.run(plan.digest, RUN)
        claim = signed_claim(federation)
    return Scores(np.concatenate([told[unit] for unit in units]), inside.ravel(), claim)


def signed_claim(federation: Federation) -> float:
    """Return the largest epsilon that the evidence of the run's model states for a unit."""
    evidence = read_bundle(federation.offices["compliance"].fetch_evidence("churn", 1))
    model = ModelVersion.from_bytes(evidence.model_version.payload_bytes)
    return max(claim.claim for claim in model.epsilon)


def pair_plan(worlds: Any, order: int, terms: Terms) -> TrainingPlan:
    """Return a plan for two units, of which only `WITH` has the canary among its customers."""
    privacy = terms.privacy(worlds.CLIP)
    plan: TrainingPlan = worlds.make_plan(order, (WITH, WITHOUT), 8, terms.rounds, privacy)
    return plan


@contextmanager
def opened_pair(
    worlds: Any, order: int, plan: TrainingPlan, noise: RandomSource
) -> Iterator[Federation]:
    """Open a world of the two units; every other customer has the negative label."""
    rows = {
        WITH: worlds.rows_of(order, (CANARY, *OTHERS), OTHERS[::2]),
        WITHOUT: worlds.rows_of(order, OTHERS, OTHERS[::2]),
    }
    with opened(worlds, order, plan, rows, noise) as federation:
        yield federation


def redone_exchanges(worlds: Any, order: int, terms: Terms, noise: RandomSource) -> tuple[int, int]:
    """Do a whole run, and each of its updates again as `observe` does it.

    Returns: how many updates left the nodes, and how many of these were the same to the bit.
    """
    plan, sent = pair_plan(worlds, order, terms), []
    with opened_pair(worlds, order, plan, noise) as federation:
        worlds.watch_updates(federation, sent.append)
        federation.run(plan.digest, RUN)
        same = [_redone(worlds, federation, plan, one, noise) == one.update for one in sent]
    return len(same), sum(same)


def _redone(
    worlds: Any, federation: Federation, plan: TrainingPlan, sent: Any, noise: RandomSource
) -> bytes:
    receipt = sent.receipt
    order = f"{RUN}/{receipt.round}/{receipt.attempt}"
    streams = streams_of(noise, receipt.unit, order)
    examples = reader(federation, plan, receipt.unit)()
    update: bytes = worlds.update_of(plan, receipt.unit, sent.model, examples, streams)
    return update


def observe(
    worlds: Any,
    plan: TrainingPlan,
    units: dict[str, Callable[[], Examples]],
    count: int,
    noise: RandomSource,
) -> dict[str, Floats]:
    """Return how often the canary was in the samples, by each of so many updates of each unit.

    Every update is of the plan's first round, on what the unit's reader yields, under streams of
    its own.
    """
    model = worlds.first_model(plan)
    found: dict[str, Floats] = {}
    for unit, read in units.items():
        told = np.empty(count)
        for number in range(count):
            streams = streams_of(noise, unit, f"observation-{number}/1/1")
            update = worlds.update_of(plan, unit, model, read(), streams)
            told[number] = worlds.samples_of(plan, unit, update)[CANARY]
        found[unit] = told
    return found


def threshold(plan: TrainingPlan) -> float:
    """Return from where on an output counts as one with the canary: half of what it adds on
    average.
    """
    return plan.privacy.sampling_rate * plan.privacy.local_steps / 2


def reader(federation: Federation, plan: TrainingPlan, unit: str) -> Callable[[], Examples]:
    """Return what reads a unit's source as its node does, anew at each call."""

    def read() -> Examples:
        with federation.units[unit].node() as node:
            return node.examples(plan)

    return read


def streams_of(noise: RandomSource, unit: str, order: str) -> tuple[KeyStream, KeyStream]:
    """Return the streams that a node takes for an order."""
    return noise.stream(unit, order, "noise"), noise.stream(unit, order, "sampling")


@contextmanager
def opened(
    worlds: Any,
    order: int,
    plan: TrainingPlan,
    rows: dict[str, pl.DataFrame],
    noise: RandomSource,
) -> Iterator[Federation]:
    """Open a world in a folder of its own, and close it."""
    with tempfile.TemporaryDirectory() as scratch:
        federation = worlds.open_world(Path(scratch) / "world", order, plan, rows, noise)
        try:
            yield federation
        finally:
            federation.close()
