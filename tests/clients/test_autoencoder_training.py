"""An autoencoder trains through the very engine of all other models: clipped sums, noise, a public
divisor. What it is to give is what it was given.
"""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.data import Examples
from clients.training import train_locally
from fedcore.learning_rules import Algorithm
from fedcore.plans import ModelSpec
from fedcore.privacy import engines
from fedcore.privacy.engines import BookKeeping, PerExample, Terms
from fedcore.privacy.mechanisms import clip_factors
from fedcore.privacy.noise import KeyStream
from fedcore.tasks.segmentation import task
from fedcore.tasks.task import initial_weights, load_into, shapes_of

PUBLIC_N, INPUTS, RATE = 48, 4, 0.5
MODELS = {
    "flat": ModelSpec(kind="autoencoder", embedding=2),
    "deep": ModelSpec(kind="autoencoder", hidden=(7, 5), embedding=2),
}


class Silent(KeyStream):
    """A noise stream without noise."""

    def normals(self, count, *_turn):
        return np.zeros(count)


def streams():
    return Silent(bytes(32)), KeyStream(hashlib.sha256(b"sampling").digest())


@pytest.fixture(scope="session")
def plan_of(plan):
    """One step with everybody, of an autoencoder with this clip."""

    def of(model="deep", clip=1.0, steps=1):
        terms = {"l2_clip_norm": clip, "sampling_rate": 1.0, "local_steps": steps}
        return plan.model_copy(
            update={
                "task": "segmentation",
                "model": MODELS[model],
                "algorithm": Algorithm(local_learning_rate=RATE),
                "privacy": plan.privacy.model_copy(update=terms),
            }
        )

    return of


def weights_of(plan, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    shapes = shapes_of(task.build(plan.model, INPUTS))
    return {name: scale * rng.normal(size=shape) for name, shape in shapes.items()}


def customers(count, seed=0):
    features = np.random.default_rng(seed).uniform(-1, 1, size=(count, INPUTS))
    return Examples(features, np.zeros(count))


def flat(values):
    return np.concatenate([np.asarray(values[name]).ravel() for name in sorted(values)])


def trained(plan, weights, examples):
    return flat(train_locally(task, plan, PUBLIC_N, weights, examples, streams()))


def gradients(plan, weights, rows):
    """Return each row's gradient, by a backward pass of its own: the slow reference."""
    module = task.build(plan.model, INPUTS)
    load_into(module, weights)
    names, parameters = zip(*sorted(module.named_parameters()), strict=True)
    found = []
    for row in torch.from_numpy(rows):
        loss = torch.nn.functional.mse_loss(module(row[None])[0], row)
        own = torch.autograd.grad(loss, parameters)
        found.append(flat(dict(zip(names, own, strict=True))))
    return torch.from_numpy(np.array(found))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("clip", [0.05, 0.5, 100.0])
def test_a_step_is_the_sum_of_gradients_that_were_found_and_clipped_one_by_one(
    plan_of, model, clip
):
    plan, examples = plan_of(model, clip), customers(30)
    weights = weights_of(plan)
    own = gradients(plan, weights, examples.features)
    factors = clip_factors(own.norm(dim=1), clip)
    assert (factors.min() < 1) == (clip < 100)
    expected = -RATE * (factors @ own).numpy() / PUBLIC_N
    assert trained(plan, weights, examples) == pytest.approx(expected, abs=1e-14)


@hypothesis_settings(max_examples=40)
@given(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from([1.0, 30.0, 1e3]),
    st.integers(1, 20),
    st.data(),
)
def test_one_customer_moves_a_step_by_at_most_the_clip(plan_of, model, scale, count, data):
    clip = data.draw(st.sampled_from([0.1, 1.0]))
    plan, examples = plan_of(model, clip), customers(count)
    weights, place = weights_of(plan, scale), data.draw(st.integers(0, count - 1))
    rest = Examples(np.delete(examples.features, place, axis=0), np.zeros(count - 1))
    moved = trained(plan, weights, examples) - trained(plan, weights, rest)
    # Weights of 1e3 lose the last bits of an update: that rounding depends on nobody's rows.
    assert np.linalg.norm(moved) <= RATE * clip / PUBLIC_N + 1e-12 * scale


def test_a_customer_with_several_rows_is_one_point_and_clipped_as_one(plan_of):
    plan = plan_of(clip=0.05)
    weights, rows = weights_of(plan), customers(7).features
    counts = np.array([3, 1, 3])
    several = Examples(rows, np.zeros(7), counts=counts, most=3)
    means = np.array([rows[:3].mean(axis=0), rows[3], rows[4:].mean(axis=0)])
    once = trained(plan, weights, Examples(means, np.zeros(3)))
    assert trained(plan, weights, several) == pytest.approx(once, abs=1e-15)


def test_labels_play_no_part(plan_of):
    plan, examples = plan_of(), customers(9)
    other = Examples(examples.features, np.ones(9))
    weights = weights_of(plan)
    assert np.array_equal(trained(plan, weights, examples), trained(plan, weights, other))


def test_it_is_the_fast_engine_that_trains_and_the_slow_one_finds_the_same(plan_of, monkeypatch):
    plan, examples = plan_of(), customers(20)
    weights = weights_of(plan)
    module = task.build(plan.model, INPUTS)
    terms = Terms(1.0, 1.0, 1.0, 1.0, Silent(bytes(32)))
    assert isinstance(engines.engine_for(module, terms), BookKeeping)
    fast = trained(plan, weights, examples)
    monkeypatch.setattr("clients.training.engine_for", PerExample)
    assert trained(plan, weights, examples) == pytest.approx(fast, abs=1e-14)


def test_steps_without_noise_reconstruct_customers_better(plan_of):
    plan = plan_of(clip=1.0, steps=300)
    rng = np.random.default_rng(1)
    places = rng.uniform(-1, 1, size=(PUBLIC_N, 2))
    examples = Examples(np.tanh(places @ rng.normal(size=(2, INPUTS))), np.zeros(PUBLIC_N))
    before = initial_weights(task, plan.model, INPUTS)
    update = train_locally(task, plan, PUBLIC_N, before, examples, streams())
    after = {name: before[name] + update[name] for name in before}
    rows, found = torch.from_numpy(examples.features), []
    for weights in (before, after):
        module = task.build(plan.model, INPUTS)
        load_into(module, weights)
        with torch.no_grad():
            found.append(float(task.losses(module(rows), rows).mean()))
    assert found[1] < 0.5 * found[0]
