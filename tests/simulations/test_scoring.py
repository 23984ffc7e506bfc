import numpy as np
import pytest

from fedcore.tasks.task import initial_weights, load_task
from fedcore.weights import encode_weights
from simulations.experiment import load_customers
from simulations.paperwork import make_plan
from simulations.scoring import HeldOut, baselines, encoded


@pytest.fixture
def measured(scenario, tmp_path):
    population = load_customers(scenario, tmp_path / "x")
    plan = make_plan(scenario)
    scratch = tmp_path / "rows.csv"
    part = HeldOut(population, plan, scenario.contract, scratch)
    return population, plan, scratch, part


def test_an_untrained_model_knows_nothing(scenario, measured):
    _, plan, _, part = measured
    weights = initial_weights(load_task("churn"), plan.model, 2)
    assert part.auc(encode_weights(weights)) == 0.5


def test_a_model_that_orders_rightly_and_its_opposite_add_up_to_one(measured):
    part = measured[3]
    weights = {"0.weight": np.array([[-1.0, 0.0]]), "0.bias": np.zeros(1)}
    opposite = {"0.weight": np.array([[1.0, 0.0]]), "0.bias": np.zeros(1)}
    good = part.auc(encode_weights(weights))
    assert good > 0.65
    assert good + part.auc(encode_weights(opposite)) == pytest.approx(1.0)


def test_pooled_training_is_chosen_by_inner_validation_not_by_the_test(scenario, measured):
    population, plan, scratch, part = measured
    found = baselines(population, plan, scenario.contract, scratch, part)
    best = max(found.inner_scores, key=found.inner_scores.__getitem__)
    assert found.pooled == found.pooled_candidates[best]
    assert 0.5 < found.pooled < 0.95
    assert set(found.alone) == set(population.units)


def test_the_test_part_is_held_by_no_unit(scenario, measured):
    population, plan, scratch, _ = measured
    held = sum(population.rows_of(unit).height for unit in population.units)
    everyone = encoded(population.train, plan, scenario.contract, scratch)
    assert len(everyone.labels) == held == population.train.height
