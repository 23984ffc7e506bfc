"""The accuracy benchmark trains without papers: the same model as the whole federation's."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from fedcore.weights import encode_weights
from simulations.experiment import Experiment
from simulations.paperwork import make_plan
from simulations.scenario import load_scenario

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name):
    spec: Any = importlib.util.spec_from_file_location(f"bench_{name}", BENCHMARKS / f"{name}.py")
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[f"bench_{name}"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs():
    return load("utility_runs")


@pytest.fixture(scope="module")
def sets():
    return load("utility_sets")


@pytest.fixture
def unsaid(scenario):
    """The small scenario without opt-outs, and with all that the rule picks left out."""
    terms = scenario.plan.model_copy(
        update={"algorithm": None, "l2_clip_norm": None, "features": ()}
    )
    return scenario.model_copy(update={"opt_outs": (), "plan": terms})


def test_the_benchmark_releases_the_whole_federations_model_to_the_last_bit(runs, unsaid, tmp_path):
    split = runs.Split(unsaid, unsaid.seed, tmp_path)
    plan = make_plan(unsaid)
    ours = runs.released_model(plan, split.parts(plan), unsaid)
    whole = Experiment(unsaid, tmp_path / "run", lambda _: None).carry_out()
    assert whole.plan == plan
    assert whole.evidence.artifact == encode_weights(ours)
    assert whole.auc == runs.auc(plan, ours, split.parts(plan))
    other = unsaid.model_copy(update={"seed": unsaid.seed + 1})
    assert encode_weights(runs.released_model(plan, split.parts(plan), other)) != encode_weights(
        ours
    )


def test_a_unit_alone_has_the_rules_plan_for_one_unit(runs, unsaid):
    plan = runs.plan_of(unsaid, 3.0, ("north",))
    assert [unit.unit for unit in plan.units] == ["north"]
    assert plan.minimum_units == 1
    together = runs.plan_of(unsaid, 3.0)
    assert plan.privacy.noise_multiplier == together.privacy.noise_multiplier


@pytest.mark.parametrize("name", ["bankchurners", "bank_marketing", "cdnow"])
def test_the_scenarios_of_the_benchmark_leave_to_the_rule_what_it_picks(name):
    scenario = load_scenario(str(BENCHMARKS / f"utility_{name}.toml"))
    assert (scenario.rounds, scenario.plan.algorithm, scenario.plan.l2_clip_norm) == (None,) * 3
    plan = make_plan(scenario)
    assert {f.encoding for f in plan.features if f.edges} == {"edges"}
    assert "duration" not in {f.field for f in plan.features}


@pytest.mark.parametrize("name", ["bankchurners", "bank_marketing", "cdnow"])
def test_the_search_that_is_on_record_is_of_the_rule_as_it_is_now(name):
    """Whoever changes the rule searches again: `benchmarks/utility.py --tune`."""
    reference = Path(__file__).parents[1] / "reference" / "utility_tuning.json"
    outcome = json.loads(reference.read_text(encoding="utf-8"))
    recorded = outcome["sets"][name]["rule"]
    plan = make_plan(load_scenario(str(BENCHMARKS / f"utility_{name}.toml")))
    clip = plan.privacy.l2_clip_norm
    step = plan.averaging.local_learning_rate * clip
    edges = next(len(f.edges) for f in plan.features if f.edges)
    assert (recorded["rounds"], recorded["l2_clip_norm"]) == (plan.rounds, clip)
    assert recorded["step"] == pytest.approx(step)
    assert recorded["average_last"] == plan.averaging.average_last
    assert recorded["intervals"] == edges - 1
    assert outcome["missed"] == []
    assert all(found["below"] <= 0.01 for found in outcome["sets"].values())


@pytest.mark.skipif("FEDPACT_DATA" not in os.environ, reason="FEDPACT_DATA names no real tables")
@pytest.mark.parametrize("name", ["bankchurners", "bank_marketing", "cdnow"])
def test_every_row_of_the_real_tables_is_within_its_public_contract(runs, sets, name, tmp_path):
    scenario = sets.scenario_of(name, tmp_path)
    split = runs.Split(scenario, 101, tmp_path)
    parts = split.parts(runs.plan_of(scenario, 3.0))
    counts = [len(p.labels) for side in (parts.train, parts.test) for p in side.values()]
    assert sum(counts) == sets.table(name).height


@pytest.mark.slow
def test_telco_at_epsilon_3_stays_near_the_pooled_reference(runs, sets, tmp_path):
    """On a tuning seed; the figures are the benchmark's."""
    pooled = load("utility_pooled")
    scenario = sets.scenario_of("telco", tmp_path)
    split = runs.Split(scenario, 101, tmp_path)
    plan = runs.plan_of(split.scenario, 3.0)
    model = runs.released_model(plan, split.parts(plan), split.scenario)
    found = runs.auc(plan, model, split.parts(plan))
    assert pooled.searched_logistic(split, plan) - found < 0.006
