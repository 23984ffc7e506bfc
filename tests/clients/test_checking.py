"""What a unit says in a check: each customer counts at most one, whatever weights and rows are."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clients.checking import bounded_gains, check_locally
from clients.data import Examples
from clients.measuring import mean_of, of_customers
from fedcore.learning_rules import Algorithm
from fedcore.plans import ModelSpec
from fedcore.privacy.noise import KeyStream
from fedcore.rounds import GAIN_SCALE
from fedcore.tasks.churn import task
from fedcore.tasks.task import initial_weights

INPUTS = 4


class Silence(KeyStream):
    """A stream whose noise is zero."""

    def normals(self, count, turn=None):
        return np.zeros(count)


def stream(name):
    return KeyStream(hashlib.sha256(str(name).encode()).digest())


SILENCE = Silence(bytes(32))


@pytest.fixture(scope="module")
def plan_of(plan):
    def of(**privacy):
        update = {
            "model": ModelSpec(kind="logistic"),
            "algorithm": Algorithm(local_learning_rate=1),
        }
        terms = {"sampling_rate": 1.0, "local_steps": 1, "noise_multiplier": 4.0} | privacy
        return plan.model_copy(update=update | {"privacy": plan.privacy.model_copy(update=terms)})

    return of


def weights_of(plan, seed, scale=1.0):
    draw = np.random.default_rng(seed)
    first = initial_weights(task, plan.model, INPUTS)
    return {name: draw.normal(0, scale, array.shape) for name, array in first.items()}


def customers(counts, seed=0):
    """Customers with so many rows each."""
    draw, rows = np.random.default_rng(seed), int(sum(counts))
    labels = (draw.uniform(size=rows) < 0.4).astype(float)
    return Examples(
        features=draw.uniform(-1, 1, (rows, INPUTS)),
        labels=labels,
        counts=np.array(counts, dtype=np.int64),
        most=5,
    )


def without(examples, place):
    starts = np.cumsum(examples.counts) - examples.counts
    gone = np.arange(starts[place], starts[place] + examples.counts[place])
    return Examples(
        np.delete(examples.features, gone, axis=0),
        np.delete(examples.labels, gone),
        counts=np.delete(examples.counts, place),
        most=examples.most,
    )


def checked(plan, models, examples, noise=SILENCE, sampling="sampling"):
    return check_locally(task, plan, models, examples, (noise, stream(sampling)))


def log_losses(weights, examples):
    logits = examples.features @ weights["0.weight"][0] + weights["0.bias"][0]
    return np.logaddexp(0, np.where(examples.labels > 0, -logits, logits))


def test_without_noise_it_is_the_sum_of_what_customers_lose_less_of_means_over_their_rows(plan_of):
    plan, examples = plan_of(), customers([1, 3, 2, 5, 1])
    before, after = weights_of(plan, 1), weights_of(plan, 2)
    losses = [of_customers(examples, log_losses(w, examples), mean_of) for w in (before, after)]
    expected = np.clip(losses[0] - losses[1], -1, 1).sum() * GAIN_SCALE
    assert checked(plan, (before, after), examples) == pytest.approx(expected, abs=5)
    assert checked(plan, (after, before), examples) == pytest.approx(-expected, abs=5)
    assert checked(plan, (after, after), examples) == 0


def test_labels_that_weigh_more_in_training_weigh_more_in_checks(plan_of):
    plan, examples = plan_of(), customers([1] * 30)
    weighted = plan.model_copy(
        update={"algorithm": plan.algorithm.model_copy(update={"positive_weight": 2.0})}
    )
    models = weights_of(plan, 1, 0.1), weights_of(plan, 2, 0.1)
    positive = Examples(examples.features, np.ones(30))
    plain = checked(plan, models, positive)
    assert plain != 0
    assert checked(weighted, models, positive) == pytest.approx(2 * plain, abs=60)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.integers(0, 10**6),
    st.sampled_from([1e-3, 1.0, 1e3, 1e150, 1e300]),
    st.data(),
)
def test_one_customer_moves_it_by_one_at_most(plan_of, counts, seed, scale, data):
    plan, examples = plan_of(), customers(counts, seed)
    models = weights_of(plan, seed, scale), weights_of(plan, seed + 1, scale)
    place = data.draw(st.integers(0, len(counts) - 1))
    found = [checked(plan, models, each) for each in (examples, without(examples, place))]
    assert abs(found[0] - found[1]) <= GAIN_SCALE


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=20))
def test_losses_that_are_no_numbers_count_nothing_and_all_others_at_most_one(pairs):
    before, after = np.array(pairs).reshape(-1, 2).T
    found = bounded_gains(before, after)
    assert found.dtype == np.int64
    assert (np.abs(found) <= GAIN_SCALE).all()
    assert bounded_gains(np.array([np.nan, np.inf]), np.array([0.0, np.inf])).tolist() == [0, 0]
    assert bounded_gains(np.array([np.inf, 0.0]), np.array([0.0, np.inf])).tolist() == [
        GAIN_SCALE,
        -GAIN_SCALE,
    ]


def test_nobody_set_aside_is_noise_as_well(plan_of):
    plan, nobody = plan_of(), customers([])
    models = weights_of(plan, 1), weights_of(plan, 2)
    assert checked(plan, models, nobody) == 0
    assert checked(plan, models, nobody, noise=stream("noise")) != 0


def test_each_step_draws_a_sample_of_its_own_and_noise_once(plan_of):
    plan, examples = plan_of(sampling_rate=0.5, local_steps=400), customers([1] * 40)
    models = weights_of(plan, 1), weights_of(plan, 2)
    whole = checked(plan_of(), models, examples)
    found = checked(plan, models, examples)
    gains = bounded_gains(*(log_losses(weights, examples) for weights in models))
    deviation = np.sqrt((gains.astype(float) ** 2).sum() / 400)
    assert found != whole
    assert abs(found - whole) < 5 * deviation
    noise = stream("noise")
    drawn = noise.normals(2)[:1]  # pairs are drawn, one is used
    step = plan_of(noise_multiplier=3.0)
    expected = whole + 3.0 * GAIN_SCALE * drawn[0]
    assert checked(step, models, examples, noise=stream("noise")) == pytest.approx(expected, abs=1)


@pytest.mark.slow
def test_the_noise_of_a_check_is_the_plans(plan_of):
    """Its deviation is noise multiplier / (rate * root of steps), and its law is normal."""
    plan, nobody = plan_of(noise_multiplier=3.0, sampling_rate=0.5, local_steps=4), customers([])
    models = weights_of(plan, 1), weights_of(plan, 2)
    found = [checked(plan, models, nobody, noise=stream(number)) for number in range(4000)]
    expected = 3.0 * GAIN_SCALE / (0.5 * 2)
    assert stats.kstest(np.array(found) / expected, "norm").pvalue > 1e-4
