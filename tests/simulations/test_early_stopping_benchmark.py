"""The benchmark of early stopping ends, releases and charges what the whole federation does."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from fedcore.learning_rules import EarlyStopping
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.rounds import RoundReport
from fedcore.weights import encode_weights
from simulations.experiment import Experiment

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "early_stopping.py"
EPSILON = 60.0


@pytest.fixture(scope="module")
def bench():
    spec: Any = importlib.util.spec_from_file_location("bench_early_stopping", BENCHMARK)
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["bench_early_stopping"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def unsaid(scenario):
    """The small scenario with room for a gain that is seen, and what the rule picks left out."""
    terms = scenario.plan.model_copy(
        update={"algorithm": None, "l2_clip_norm": None, "features": ()}
    )
    units = tuple(u.model_copy(update={"epsilon_cap": 2 * EPSILON}) for u in scenario.units)
    changes = {"opt_outs": (), "plan": terms, "rounds": 15, "units": units, "epsilon": EPSILON}
    return scenario.model_copy(update=changes)


@pytest.fixture
def table(bench, unsaid, tmp_path):
    return bench.Customers(bench.load("utility_runs").Split(unsaid, unsaid.seed, tmp_path))


def test_a_run_ends_releases_and_charges_as_in_the_whole_federation(bench, table, tmp_path):
    ours = bench.endings(table, 1, EPSILON)[2]
    terms = table.split.scenario.plan.model_copy(
        update={"holdout": bench.HOLDOUT, "early_stopping": EarlyStopping(every=1, patience=2)}
    )
    scenario = table.split.scenario.model_copy(update={"plan": terms})
    whole = Experiment(scenario, tmp_path / "run", lambda _: None).carry_out()
    assert whole.plan == ours.plan
    assert whole.evidence.artifact == encode_weights(ours.model)
    reports = [RoundReport.from_bytes(one.payload_bytes) for one in whole.evidence.reports]
    assert ours.round == reports[-1].round < ours.plan.rounds
    # Some check before has shown a better model, which the last ones are compared with.
    assert ours.round > 4
    for events in whole.ledger_events.values():
        assert renyi_epsilon(events, ours.plan.delta) == ours.spent < EPSILON


def test_one_course_tells_the_ends_of_all_patiences(bench, table):
    found = bench.endings(table, 1, EPSILON)
    ends = [found[patience].round for patience in (1, 2, bench.ENDLESS)]
    assert ends[0] < ends[1] < ends[2] == found[1].plan.rounds
    for one in found.values():
        parts = table.split.parts(one.plan)
        alone = bench.load("utility_runs").released_model(one.plan, parts, table.split.scenario)
        assert encode_weights(alone) == encode_weights(one.model)


def test_all_contestants_train_on_the_same_customers_and_on_nobody_who_is_set_aside(bench, table):
    plans = [
        table.plan(EPSILON),
        table.plan(1.0),
        table.plan(EPSILON, EarlyStopping(every=1, patience=2)),
    ]
    first, *others = (table.split.parts(plan) for plan in plans)
    for unit, part in first.train.items():
        aside = set(first.aside[unit].identifiers)
        assert aside
        assert aside.isdisjoint(part.identifiers)
        for other in others:
            assert other.train[unit].identifiers == part.identifiers


def test_all_rounds_spend_what_they_were_planned_for(bench, table):
    ended = bench.all_rounds(table, 3.0)
    assert ended.share == 1
    assert 2.9 < ended.spent <= 3.0
