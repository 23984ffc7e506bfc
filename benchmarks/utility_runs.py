"""A simulated federation without its papers: the product's own functions, in the same order.

Guarantees: with the same seed and scenario the released model is the whole simulated federation's
    to the last bit, as reader, feature map, training, noise streams, aggregation and averaging are
    the same functions; left out are permits, ledgers, receipts and the wire, which carries weights
    as float64. `equals_whole_federation` tries it out.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from clients import splits
from clients.checking import check_locally
from clients.data import Examples
from clients.training import train_locally
from fedcore.encodings import input_names
from fedcore.plans import Feature, TrainingPlan
from fedcore.tasks.task import initial_weights, load_into, load_scorer, load_task
from fedcore.weights import Weights, encode_weights
from fedserver.strategy import Aggregate, apply_check, apply_round, is_over, release, start
from simulations.experiment import Experiment
from simulations.noise import SeededNoise, split_key
from simulations.outputs import logs_to
from simulations.paperwork import make_plan
from simulations.population import Population, load_population
from simulations.scenario import Scenario
from simulations.scoring import encoded


@dataclass(frozen=True)
class Parts:
    """The encoded customers of each unit: whom it trains on, whom it sets aside, and whom nobody
    holds.
    """

    train: Mapping[str, Examples]
    aside: Mapping[str, Examples]
    test: Mapping[str, Examples]


class Split:
    """A scenario's customers under one seed; a feature map's numbers are made once."""

    def __init__(self, scenario: Scenario, seed: int, scratch: Path) -> None:
        self.scenario = scenario.model_copy(update={"seed": seed})
        label = scenario.contract.label.name
        columns = (label, scenario.unit_column)
        path = Path(scenario.data)
        self.population: Population = load_population(path, columns, seed, scenario.test_share)
        self.scratch = scratch / "rows.csv"
        self._parts: dict[tuple[tuple[Feature, ...], float | None], Parts] = {}

    def parts(self, plan: TrainingPlan) -> Parts:
        """Return the customers as the plan's features encode them."""
        key = plan.features, plan.holdout
        if key not in self._parts:
            held = self.population
            nobodys = Population(train=held.test, test=held.train)
            self._parts[key] = Parts(
                train=self._encoded(held, plan, self._extents(plan, is_check=False)),
                aside=self._encoded(held, plan, self._extents(plan, is_check=True)),
                test=self._encoded(nobodys, plan, dict.fromkeys(nobodys.units, splits.EVERYTHING)),
            )
        return self._parts[key]

    def _extents(self, plan: TrainingPlan, *, is_check: bool) -> dict[str, splits.Extent]:
        """Return what the units read; nobody reads in checks where nobody is set aside."""
        if is_check and plan.holdout is None:
            return {}
        noise, line = SeededNoise(self.scenario.seed), self.scenario.contract.contract_id
        return {
            unit: splits.extent_of_training(
                plan, splits.Split(split_key(noise, unit), line), is_check=is_check
            )
            for unit in self.population.units
        }

    def _encoded(
        self, rows: Population, plan: TrainingPlan, extents: Mapping[str, splits.Extent]
    ) -> dict[str, Examples]:
        contract, scratch = self.scenario.contract, self.scratch
        return {
            unit: encoded(rows.rows_of(unit), plan, contract, scratch, extent)
            for unit, extent in extents.items()
        }


def plan_of(scenario: Scenario, epsilon: float, units: tuple[str, ...] = ()) -> TrainingPlan:
    """Return the plan at an epsilon, of all units or of some alone."""
    changes: dict[str, object] = {"epsilon": epsilon}
    if units:
        changes["units"] = tuple(unit for unit in scenario.units if unit.unit in units)
        changes["plan"] = scenario.plan.model_copy(update={"minimum_units": len(units)})
    return make_plan(scenario.model_copy(update=changes))


def released_model(plan: TrainingPlan, parts: Parts, scenario: Scenario) -> Weights:
    """Train by the plan, with the noise that a simulation of this seed draws."""
    *_, (round_, state) = states(plan, parts, scenario)
    return release(state, plan, round_)


def states(plan: TrainingPlan, parts: Parts, scenario: Scenario) -> Iterator[tuple[int, Aggregate]]:
    """Yield each round's number and the state that it ends with, up to the run's end."""
    task, noise = load_task(plan.task), SeededNoise(scenario.seed)
    inputs = len(input_names(plan.features, scenario.contract))
    initial = initial_weights(task, plan.model, inputs)
    state = start(initial)
    for round_ in range(1, plan.rounds + 1):
        order = f"run-{scenario.seed}/{round_}/1"
        streams = {
            terms.unit: (
                noise.stream(terms.unit, order, "noise"),
                noise.stream(terms.unit, order, "sampling"),
            )
            for terms in plan.units
        }
        if plan.is_check(round_):
            models = (state.best or initial, state.model)
            gains = [
                check_locally(task, plan, models, parts.aside[unit], both)
                for unit, both in streams.items()
            ]
            state = apply_check(state, plan, gains)
        else:
            updates = {
                unit: train_locally(
                    task, plan, plan.public_n(unit), state.model, parts.train[unit], both
                )
                for unit, both in streams.items()
            }
            state = apply_round(state, plan, round_, updates)
        yield round_, state
        if is_over(state, plan, round_):
            return


def scores(plan: TrainingPlan, weights: Weights, features: np.ndarray) -> np.ndarray:
    """Return the model's scores."""
    task = load_scorer(plan.task)
    module = task.build(plan.model, features.shape[1])
    load_into(module, weights)
    with torch.no_grad():
        return task.scores(module(torch.from_numpy(features))).numpy()


def auc(plan: TrainingPlan, weights: Weights, parts: Parts) -> float:
    """Return the ROC AUC on all customers whom nobody holds."""
    found = [(scores(plan, weights, part.features), part.labels) for part in parts.test.values()]
    values, labels = (np.concatenate(side) for side in zip(*found, strict=True))
    return float(roc_auc_score(labels, values))


def own_aucs(plan: TrainingPlan, weights: Weights, parts: Parts) -> dict[str, tuple[float, int]]:
    """Return for each unit the ROC AUC on its own test customers, and how many those are.

    Units of which the test part has only one label are left out.
    """
    return {
        unit: (
            float(roc_auc_score(part.labels, scores(plan, weights, part.features))),
            len(part.labels),
        )
        for unit, part in parts.test.items()
        if unit in parts.train and len(set(part.labels)) > 1
    }


def equals_whole_federation(scenario: Scenario, seed: int) -> bool:
    """Return whether the whole simulated federation releases the same model, to the last bit."""
    scenario = scenario.model_copy(update={"seed": seed})
    with tempfile.TemporaryDirectory() as scratch, logs_to(Path(scratch)):
        split = Split(scenario, seed, Path(scratch))
        plan = make_plan(scenario)
        ours = encode_weights(released_model(plan, split.parts(plan), scenario))
        whole = Experiment(scenario, Path(scratch) / "run", lambda _: None).carry_out()
        return whole.plan == plan and whole.evidence.artifact == ours
