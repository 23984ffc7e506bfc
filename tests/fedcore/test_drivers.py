"""What drives a score: exact for logistic models, complete for networks, and without a row."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from fedcore.drivers import (
    GRID,
    TOLERANCE,
    DenseNetwork,
    attribute,
    explain,
    grid_points,
    middle,
    network_of,
    points_for,
)
from fedcore.encodings import input_names
from fedcore.errors import InvalidRecordError
from fedcore.field_grids import field_grids
from fedcore.plans import Feature, ModelSpec
from fedcore.tasks.churn import task
from fedcore.tasks.task import initial_weights, load_into, shapes_of
from fedcore.weights import encode_weights

_FILE = Path(__file__).with_name("test_field_grids.py")
_SPEC = importlib.util.spec_from_file_location("fedcore_field_grids", _FILE)
_GRIDS: Any = importlib.util.module_from_spec(_SPEC)  # type: ignore[arg-type]
_SPEC.loader.exec_module(_GRIDS)  # type: ignore[union-attr]
MIXED, FEATURES, plan_of = _GRIDS.MIXED, _GRIDS.FEATURES, _GRIDS.plan_of
INPUTS = len(input_names(FEATURES, MIXED))


def drawn(model, inputs=INPUTS, size=0.7, seed=0):
    """Weights of the task's own module, drawn anew."""
    generator = np.random.default_rng(seed)
    shapes = shapes_of(task.build(model, inputs))
    return {name: generator.normal(0, size, shape) for name, shape in shapes.items()}


def network(hidden, seed=0, size=0.7):
    """A network, its plan, its bytes, and torch's module with the same weights."""
    model = ModelSpec(kind="mlp" if hidden else "logistic", hidden=hidden)
    plan = plan_of(MIXED, FEATURES, model=model)
    weights = drawn(model, size=size, seed=seed)
    module = task.build(model, INPUTS)
    load_into(module, weights)
    return plan, encode_weights(weights), module


@pytest.mark.parametrize("hidden", [(), (5,), (16, 8), (4, 3, 2, 3)])
def test_log_odds_and_gradients_are_those_of_torch(hidden):
    plan, data, module = network(hidden)
    points = np.random.default_rng(1).uniform(-1, 1, (40, INPUTS))
    inputs = torch.from_numpy(points).requires_grad_()
    outputs = module(inputs).squeeze(1)
    [slopes] = torch.autograd.grad(outputs.sum(), inputs)
    ours = network_of(data, plan, MIXED)
    assert np.allclose(ours.logits(points), outputs.detach().numpy(), rtol=0, atol=1e-12)
    assert np.allclose(ours.gradients(points), slopes.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("hidden", [(5,), (16, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_attributions_add_up_to_the_score_above_the_middle(hidden, seed):
    plan, data, _ = network(hidden, seed)
    grids = field_grids(plan, MIXED)
    points, _ = grid_points(grids, GRID)
    ours, baseline = network_of(data, plan, MIXED), middle(grids)
    found, gap = attribute(ours, points, baseline)
    rise = ours.logits(points) - ours.logits(baseline[None, :])
    assert np.max(np.abs(found.sum(axis=1) - rise)) == pytest.approx(gap, abs=1e-12)
    assert gap <= TOLERANCE
    assert explain(data, plan, MIXED).gap == gap


def test_an_integral_that_does_not_settle_says_how_far_it_is_off():
    """Weights near the plan's bound make a step of every hidden unit."""
    plan, data, _ = network((16, 8), size=100.0)
    assert explain(data, plan, MIXED).gap > TOLERANCE


def test_without_hidden_layers_gradients_and_exact_values_agree():
    plan, data, _ = network(())
    grids = field_grids(plan, MIXED)
    points, _ = grid_points(grids, 64)
    ours, baseline = network_of(data, plan, MIXED), middle(grids)
    found, gap = attribute(ours, points, baseline)
    weight = ours.layers[0][0][0]
    assert np.allclose(found, weight * (points - baseline), rtol=0, atol=1e-12)
    assert gap < 1e-12


def test_an_effect_of_a_logistic_model_is_the_largest_difference_of_its_log_odds():
    """Held against all states of a field, the others standing still, by torch."""
    plan, data, module = network((), seed=3)
    found = {driver.field: driver for driver in explain(data, plan, MIXED).drivers}
    grids = field_grids(plan, MIXED)
    still, _ = grid_points(grids, 1)
    for grid in grids:
        rows = np.repeat(still, len(grid.labels), axis=0)
        rows[:, list(grid.columns)] = grid.codes
        with torch.no_grad():
            scores = module(torch.from_numpy(rows)).squeeze(1).numpy()
        driver = found[grid.field]
        assert driver.effect == pytest.approx(scores.max() - scores.min(), abs=1e-12)
        assert driver.most == grid.labels[int(scores.argmax())]
        assert driver.least == grid.labels[int(scores.argmin())]


def test_a_scaled_field_of_a_logistic_model_has_twice_its_weight():
    plan = plan_of(MIXED, (Feature(field="calls", encoding="scale", absent="leave_out"),))
    data = encode_weights({"0.weight": np.array([[-1.5]]), "0.bias": np.zeros(1)})
    explained = explain(data, plan, MIXED)
    assert (explained.kind, explained.points, explained.gap) == ("logistic", 0, 0.0)
    [driver] = explained.drivers
    assert (driver.effect, driver.most, driver.least) == (3.0, "-10", "190")


def test_a_network_that_looks_at_one_field_is_driven_by_that_field_alone():
    model = ModelSpec(kind="mlp", hidden=(4,))
    plan = plan_of(MIXED, FEATURES, model=model)
    weights = drawn(model, seed=5)
    [kind] = [grid for grid in field_grids(plan, MIXED) if grid.field == "kind"]
    others = [column for column in range(INPUTS) if column not in kind.columns]
    weights["0.weight"][:, others] = 0.0
    first, *rest = explain(encode_weights(weights), plan, MIXED).drivers
    assert first.field == "kind"
    assert first.effect > 0.1
    assert all(driver.effect < 1e-12 for driver in rest)


def test_drivers_of_a_network_are_sorted_and_the_same_each_time():
    plan, data, _ = network((16, 8), seed=2)
    explained = explain(data, plan, MIXED)
    effects = [driver.effect for driver in explained.drivers]
    assert (explained.kind, explained.points) == ("mlp", GRID)
    assert effects == sorted(effects, reverse=True)
    assert explain(data, plan, MIXED) == explained


def test_a_fresh_model_is_driven_by_nothing():
    for hidden in ((), (8,)):
        model = ModelSpec(kind="mlp" if hidden else "logistic", hidden=hidden)
        plan = plan_of(MIXED, FEATURES, model=model)
        data = encode_weights(initial_weights(task, model, INPUTS))
        assert {driver.effect for driver in explain(data, plan, MIXED).drivers} == {0.0}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"no model", "weights.unreadable"),
        (save({"w": np.ones(2)}), "weights.wrong_shape"),
        (encode_weights(drawn(ModelSpec(kind="logistic"), INPUTS + 1)), "weights.wrong_shape"),
    ],
)
def test_bytes_that_are_no_model_of_the_plan_are_refused_and_its_own_are_not(data, code):
    plan = plan_of(MIXED, FEATURES)
    with pytest.raises(InvalidRecordError, match=code.replace(".", r"\.")):
        explain(data, plan, MIXED)
    assert explain(network(())[1], plan, MIXED).drivers


def test_the_public_grid_spreads_evenly_over_the_states_of_every_field():
    grids = field_grids(plan_of(MIXED, FEATURES), MIXED)
    points, places = grid_points(grids, GRID)
    assert points.shape == (GRID, INPUTS)
    for order, grid in enumerate(grids):
        counts = np.bincount(places[:, order], minlength=len(grid.labels))
        assert counts.max() - counts.min() <= 4
    pairs = np.corrcoef(places.T) - np.eye(len(grids))
    assert np.abs(pairs).max() < 0.2


@pytest.mark.parametrize(
    ("width", "points"), [(8, GRID), (500, GRID), (1000, 124), (2000, 32), (3000, 32)]
)
def test_a_large_network_has_fewer_points_and_never_fewer_than_some(width, points):
    layers = ((np.zeros((width, width)), np.zeros(width)), (np.zeros((1, width)), np.zeros(1)))
    assert points_for(DenseNetwork(layers)) == points


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5))
def test_gradients_are_the_slopes_of_the_log_odds(seed, inputs, width):
    generator = np.random.default_rng(seed)
    layers = (
        (generator.normal(0, 1, (width, inputs)), generator.normal(0, 1, width)),
        (generator.normal(0, 1, (1, width)), generator.normal(0, 1, 1)),
    )
    ours = DenseNetwork(layers)
    point, way = generator.uniform(-1, 1, (2, 1, inputs))
    step = 1e-5
    slope = (ours.logits(point + step * way) - ours.logits(point - step * way)) / (2 * step)
    assert slope[0] == pytest.approx((ours.gradients(point) * way).sum(), abs=1e-7)
