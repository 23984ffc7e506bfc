"""Units and server together, without what lies between them: what a round of one step comes to."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.data import Examples
from clients.training import poisson_sample, train_locally
from fedcore.learning_rules import Algorithm
from fedcore.plans import UnitTerms
from fedcore.privacy.noise import KeyStream
from fedcore.tasks.churn import task
from fedcore.tasks.task import shapes_of
from fedserver import strategy

INPUTS = 4
SIZES = {"north": 48, "south": 96, "west": 24}
CLIP, NOISE, STEP = 0.3, 2.0, 0.7
SCALED_TO = CLIP * (1 - 2.0**-20)  # docs/privacy.md, section 1, step 2


def stream(*names):
    return KeyStream(hashlib.sha256(repr(names).encode()).digest())


def streams(unit, round_):
    return stream(unit, round_, "noise"), stream(unit, round_, "sampling")


@pytest.fixture(scope="session")
def plan_of(worlds):
    base = worlds.make_plan(tuple(SIZES))

    def of(rate, momentum):
        units = tuple(UnitTerms(unit=unit, public_n=size) for unit, size in SIZES.items())
        terms = {"l2_clip_norm": CLIP, "noise_multiplier": NOISE, "sampling_rate": rate}
        algorithm = Algorithm(local_learning_rate=STEP, server_momentum=momentum)
        privacy = base.privacy.model_copy(update={**terms, "local_steps": 1})
        return base.model_copy(
            update={"units": units, "algorithm": algorithm, "privacy": privacy, "rounds": 4}
        )

    return of


def clipped_sum(model, examples, picked):
    """One clipped sum of logistic gradients; `model` is (weight, bias) in one vector."""
    rows = np.hstack([examples.features, np.ones((len(examples.labels), 1))])[picked]
    residual = 1 / (1 + np.exp(-rows @ model)) - examples.labels[picked]
    gradients = rows * residual[:, None]
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return (gradients * np.minimum(1, SCALED_TO / norms)).sum(axis=0)


def by_fedsgd(rate, momentum, customers, rounds):
    """SGD with one noised clipped sum a round over the customers of all units."""
    model, velocity = np.zeros(INPUTS + 1), np.zeros(INPUTS + 1)
    for round_ in range(1, rounds + 1):
        total = np.zeros(INPUTS + 1)
        for unit, examples in customers.items():
            noise, sampling = streams(unit, round_)
            picked = poisson_sample(len(examples.labels), rate, sampling).numpy()
            total += clipped_sum(model, examples, picked)
            total += NOISE * CLIP * noise.normals(INPUTS + 1)
        velocity = momentum * velocity - STEP * total / (rate * sum(SIZES.values()))
        model = model + velocity
    return model


@hypothesis_settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.5]), st.sampled_from([0.0, 0.9]))
def test_with_one_local_step_a_run_is_fedsgd_over_one_clipped_sum_of_everybody(
    plan_of, seed, rate, momentum
):
    rng, plan = np.random.default_rng(seed), plan_of(rate, momentum)
    customers = {
        unit: Examples(
            rng.uniform(-1, 1, (count, INPUTS)), (rng.uniform(size=count) < 0.4).astype(float)
        )
        for unit, count in (("north", 40), ("south", int(rng.integers(0, 90))), ("west", 30))
    }
    shapes = shapes_of(task.build(plan.model, INPUTS))
    state = strategy.start({name: np.zeros(shape) for name, shape in shapes.items()})
    for round_ in range(1, plan.rounds + 1):
        updates = {
            unit: train_locally(
                task, plan, SIZES[unit], state.model, examples, streams(unit, round_)
            )
            for unit, examples in customers.items()
        }
        state = strategy.apply_round(state, plan, round_, updates)
    bias, weight = (state.model[name].ravel() for name in sorted(shapes))
    expected = by_fedsgd(rate, momentum, customers, plan.rounds)
    assert np.concatenate([weight, bias]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_round_of_fedsgd_is_charged_as_one_step(plan_of):
    plan = plan_of(0.5, 0.9)
    event = plan.round_event()
    assert (event.steps, event.l2_sensitivity, event.sampling_rate) == (1, CLIP, 0.5)
    assert plan.run_event().steps == plan.exchanges
