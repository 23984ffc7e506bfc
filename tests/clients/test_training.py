import hashlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import stats

from clients import training
from clients.data import Examples
from clients.training import train_locally
from fedcore.learning_rules import Adam, Algorithm, Momentum
from fedcore.plans import ModelSpec
from fedcore.privacy import engines
from fedcore.privacy.engines import BookKeeping
from fedcore.privacy.mechanisms import BookKeepingOptimizer
from fedcore.privacy.noise import KeyStream
from fedcore.tasks.churn import task
from fedcore.tasks.task import load_into, shapes_of

PUBLIC_N = 48
MODELS = {
    "logistic": ModelSpec(kind="logistic"),
    "mlp": ModelSpec(kind="mlp", hidden=(7, 5)),
}
NOBODY = Examples(np.zeros((0, 4)), np.zeros(0))


def stream(name):
    return KeyStream(hashlib.sha256(str(name).encode()).digest())


@pytest.fixture(scope="session")
def plan_of(plan):
    """The plan with another model and other privacy terms."""

    def of(model="logistic", rate=0.5, **privacy):
        return plan.model_copy(
            update={
                "model": MODELS[model],
                "algorithm": Algorithm(local_learning_rate=rate),
                "privacy": plan.privacy.model_copy(update=privacy),
            }
        )

    return of


def weights_of(plan, inputs=4, seed=None):
    shapes = shapes_of(task.build(plan.model, inputs))
    if seed is None:
        return {name: np.zeros(shape) for name, shape in shapes.items()}
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def customers(count, seed=0, inputs=4):
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=count) < 0.4).astype(float)
    return Examples(rng.uniform(-1, 1, size=(count, inputs)), labels)


def without(examples, place):
    return Examples(np.delete(examples.features, place, axis=0), np.delete(examples.labels, place))


def flat(update):
    return np.concatenate([update[name].ravel() for name in sorted(update)])


def trained(plan, weights, examples, noise="noise", sampling="sampling", public_n=PUBLIC_N):
    streams = stream(noise), stream(sampling)
    return flat(train_locally(task, plan, public_n, weights, examples, streams))


class Coins(KeyStream):
    """A sampling stream that gives the numbers it was told to."""

    def __init__(self, numbers):
        super().__init__(bytes(32))
        multiples = (np.array(numbers) * 2.0**53).astype(np.uint64)
        self._given = (multiples - np.uint64(1)) << np.uint64(11)

    def words(self, count):
        assert count == len(self._given)
        return self._given


# One step


@hypothesis_settings(max_examples=60)
@given(st.sampled_from(sorted(MODELS)), st.integers(0, 10**6), st.integers(1, 9), st.data())
def test_one_customer_moves_a_step_by_at_most_rate_times_clip_over_the_public_number(
    plan_of, model, seed, count, data
):
    clip = data.draw(st.sampled_from([0.1, 1.0, 5.0]))
    plan = plan_of(model, rate=0.5, l2_clip_norm=clip)
    scale = data.draw(st.sampled_from([1.0, 30.0, 1e3]))
    weights = {name: scale * value for name, value in weights_of(plan, seed=seed).items()}
    examples = customers(count, seed)
    whole = trained(plan, weights, examples)
    rest = trained(plan, weights, without(examples, data.draw(st.integers(0, count - 1))))
    # Weights of 1e3 lose the last bits of an update: that rounding depends on nobody's rows.
    assert np.linalg.norm(whole - rest) <= 0.5 * clip / PUBLIC_N + 1e-12 * scale


def crafted_weights(inputs, width):
    """Weights of at most 1e3 in whose layers sums cancel to a rounding error, which later ones blow
    up until it decides the sign of every gradient."""
    rng = np.random.default_rng(0)
    half = rng.uniform(-1, 1, size=width // 2) * 1000
    cancelling = np.concatenate([half, -half[rng.permutation(width // 2)]])
    layers = [
        np.tile(rng.uniform(-1, 1, size=inputs), (width, 1)),
        np.tile(cancelling, (width, 1)),
        np.full((width, width), 1000.0),
        np.full((width, width), 1000.0),
        np.full((1, width), 1000.0),
    ]
    weights = {f"{2 * place}.weight": layer for place, layer in enumerate(layers)}
    return weights | {f"{2 * i}.bias": np.zeros(len(layer)) for i, layer in enumerate(layers)}


def test_crafted_weights_cannot_make_one_customers_absence_move_the_gradients_of_others(plan):
    width, inputs = 64, 5
    spec = ModelSpec(kind="mlp", hidden=(width,) * 4)
    crafted = plan.model_copy(
        update={"model": spec, "algorithm": Algorithm(local_learning_rate=float(PUBLIC_N))}
    )
    weights = crafted_weights(inputs, width)
    assert max(np.abs(value).max() for value in weights.values()) <= crafted.max_abs_weight
    everyone = customers(24, inputs=inputs)
    for count in range(2, 24):
        some = Examples(everyone.features[:count], everyone.labels[:count])
        whole = trained(crafted, weights, some)
        for place in (0, count // 2, count - 1):
            moved = np.linalg.norm(whole - trained(crafted, weights, without(some, place)))
            assert moved <= 1 + 1e-9


@pytest.mark.parametrize("model", MODELS)
def test_an_examples_gradient_is_the_same_to_the_last_bit_whoever_stands_beside_it(
    plan_of, model, monkeypatch
):
    seen = []

    class Watched(BookKeepingOptimizer):
        def clip_and_accumulate(self):
            seen.append(self._books.parts().detach().numpy())
            super().clip_and_accumulate()

    monkeypatch.setattr(engines, "BookKeepingOptimizer", Watched)
    plan = plan_of(model)
    weights, everyone = weights_of(plan, seed=1), customers(600)
    trained(plan, weights, everyone, public_n=1000)
    together = np.concatenate(seen)
    assert [len(batch) for batch in seen] == [544, 56]
    for place in (0, 1, 100, 543, 544, 599):
        seen.clear()
        alone = Examples(everyone.features[place : place + 1], everyone.labels[place : place + 1])
        trained(plan, weights, alone, public_n=1000)
        assert np.array_equal(seen[0][0], together[place])


def test_the_shape_of_a_batch_is_a_public_number():
    found = [training.batch_rows(expected, 256) for expected in (0.5, 9, 48, 64, 200, 256, 1e9)]
    assert found == [16, 16, 64, 80, 240, 144, 256]


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 600])
def test_a_step_is_the_sum_over_all_customers_plus_noise_once(plan_of, count):
    plan = plan_of(l2_clip_norm=100.0, noise_multiplier=0.01)
    examples = customers(count)
    residual = 0.5 - examples.labels
    gradient = np.concatenate([[residual.sum()], residual @ examples.features])
    noise = stream("noise").normals(5)  # weight first, as the module holds its parameters
    expected = -0.5 * (gradient + np.concatenate([noise[4:], noise[:4]])) / PUBLIC_N
    assert trained(plan, weights_of(plan), examples) == pytest.approx(expected, abs=1e-12)


# What becomes of the noised sums


class Silent(KeyStream):
    """A noise stream without noise."""

    def normals(self, count, *_turn):
        return np.zeros(count)


OPTIMIZERS = {
    "plain": None,
    "momentum": Momentum(kind="momentum", momentum=0.8),
    "adam": Adam(kind="adam", beta1=0.8, beta2=0.95, stabiliser=1e-3),
}


def stepping(plan, local, weight=None, proximal=None):
    algorithm = Algorithm(
        local_learning_rate=0.3, positive_weight=weight, local_optimizer=local, proximal=proximal
    )
    return plan.model_copy(update={"algorithm": algorithm})


def by_torch(module, local, weight, examples, steps, proximal=0.0):
    """Train without privacy, in torch's own words."""
    first = [value.detach().clone() for value in module.parameters()]
    momentum = 0.8 if isinstance(local, Momentum) else 0.0
    optimizer: torch.optim.Optimizer = torch.optim.SGD(
        module.parameters(), lr=0.3, momentum=momentum
    )
    if isinstance(local, Adam):
        optimizer = torch.optim.Adam(module.parameters(), lr=0.3, betas=(0.8, 0.95), eps=1e-3)
    loss = torch.nn.BCEWithLogitsLoss(reduction="sum", pos_weight=torch.tensor(weight or 1.0))
    for _ in range(steps):
        optimizer.zero_grad()
        found = module(torch.from_numpy(examples.features)).squeeze(1)
        mean = loss(found, torch.from_numpy(examples.labels)) / PUBLIC_N
        moved = [(p - q).square().sum() for p, q in zip(module.parameters(), first, strict=True)]
        (mean + proximal / 2 * sum(moved)).backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("weight", "proximal"), [(None, None), (7.0, None), (0.25, None), (None, 2.0)]
)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_without_noise_and_with_a_wide_clip_training_is_torchs_own(
    plan_of, model, name, weight, proximal
):
    local, examples = OPTIMIZERS[name], customers(40)
    plan = stepping(plan_of(model, l2_clip_norm=1e4, local_steps=6), local, weight, proximal)
    weights = weights_of(plan, seed=3)
    streams = Silent(bytes(32)), stream("sampling")
    update = train_locally(task, plan, PUBLIC_N, weights, examples, streams)
    module = task.build(plan.model, 4)
    load_into(module, weights)
    by_torch(module, local, weight, examples, 6, proximal or 0.0)
    for key, value in module.named_parameters():
        after = value.detach().numpy()
        assert update[key] + weights[key] == pytest.approx(after, rel=1e-5, abs=1e-8)


def by_numpy(local, weight, examples, noise, clip, sigma, *, proximal=0.0):
    """Train a logistic model from zero in numpy, (weight, bias) in one vector; one line of noise a
    step."""
    model, mean, square = np.zeros(5), np.zeros(5), np.zeros(5)
    rows = np.hstack([examples.features, np.ones((len(examples.labels), 1))])
    for step, drawn in enumerate(noise, start=1):
        residual = 1 / (1 + np.exp(-rows @ model)) - examples.labels
        gradients = rows * (residual * np.where(examples.labels > 0, weight, 1.0))[:, None]
        norms = np.linalg.norm(gradients, axis=1, keepdims=True)
        total = (gradients * np.minimum(1, clip / norms)).sum(axis=0)
        noised = (total + sigma * clip * drawn) / PUBLIC_N + proximal * model
        if local is None:
            model = model - 0.3 * noised
        elif isinstance(local, Momentum):
            mean = 0.8 * mean + noised
            model = model - 0.3 * mean
        else:
            mean, square = 0.8 * mean + 0.2 * noised, 0.95 * square + 0.05 * noised**2
            root = np.sqrt(square / (1 - 0.95**step))
            model = model - 0.3 * mean / (1 - 0.8**step) / (root + 1e-3)
    return model


@pytest.mark.parametrize("proximal", [None, 2.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_works_on_the_noised_clipped_sums_of_weighted_losses(plan_of, name, proximal):
    local, examples = OPTIMIZERS[name], customers(40)
    terms = {"l2_clip_norm": 0.5, "noise_multiplier": 2.0, "local_steps": 5}
    plan = stepping(plan_of(**terms), local, 3.0, proximal)
    noise = stream("noise")
    drawn = [noise.normals(5) for _ in range(5)]
    expected = by_numpy(local, 3.0, examples, drawn, 0.5, 2.0, proximal=proximal or 0.0)
    update = trained(plan, weights_of(plan), examples)  # bias first
    assert np.roll(update, -1) == pytest.approx(expected, rel=1e-4)


class WithoutSlopes:
    """The task, of whose losses nothing is known but what they are."""

    spec, build, scores = task.spec, task.build, task.scores

    def losses(self, outputs, labels):
        return task.losses(outputs, labels)


@pytest.mark.parametrize("weight", [None, 7.0])
@pytest.mark.parametrize("model", MODELS)
def test_slopes_that_a_task_knows_train_as_those_that_autograd_finds(plan_of, model, weight):
    plan = stepping(plan_of(model, local_steps=3), None, weight)
    weights, examples = weights_of(plan, seed=1), customers(40)
    known, found = (
        flat(train_locally(kind, plan, PUBLIC_N, weights, examples, (stream(1), stream(2))))
        for kind in (task, WithoutSlopes())
    )
    assert np.array_equal(known, found)


def test_examples_are_held_once_and_batches_are_filled_up_with_zeros(plan_of, monkeypatch):
    seen = []

    class Watched(BookKeeping):
        def backward(self, inputs, losses, count):
            seen.append((inputs.numpy(), count))
            super().backward(inputs, losses, count)

    monkeypatch.setattr(engines, "BookKeeping", Watched)
    plan, examples = plan_of(), customers(70)
    trained(plan, weights_of(plan), examples)
    batches = seen[-2:]  # before it, what tries out the machine
    assert [(len(rows), count) for rows, count in batches] == [(64, 64), (64, 6)]
    assert np.array_equal(np.concatenate([rows for rows, _ in batches])[:70], examples.features)
    assert not batches[1][0][6:].any()
    held = training._by_customer(examples)
    for values, own in zip(held, (examples.features, examples.labels), strict=True):
        assert np.shares_memory(np.asarray(values), own)


@pytest.mark.parametrize("weight", [1e-3, 1e3])
def test_one_customer_counts_for_no_more_than_the_clip_whatever_the_loss_weight(plan_of, weight):
    plan = stepping(plan_of(l2_clip_norm=0.1), None, weight)
    weights, examples = weights_of(plan, seed=1), customers(12)
    whole = trained(plan, weights, examples)
    for place in range(12):
        moved = np.linalg.norm(whole - trained(plan, weights, without(examples, place)))
        assert moved <= 0.3 * 0.1 / PUBLIC_N + 1e-12


def test_an_optimiser_keeps_nothing_from_one_round_to_the_next(plan_of):
    plan = stepping(plan_of(local_steps=3), OPTIMIZERS["adam"])
    first, second = (trained(plan, weights_of(plan), customers(9)) for _ in range(2))
    assert np.array_equal(first, second)


# Public constants


def test_a_unit_without_customers_answers_with_noise_like_any_other(plan_of):
    for model in MODELS:
        plan = plan_of(model)
        update = trained(plan, weights_of(plan, seed=2), NOBODY)
        assert update.shape == trained(plan, weights_of(plan, seed=2), customers(9)).shape
        assert np.isfinite(update).all()
        assert np.count_nonzero(update) == len(update)


@pytest.mark.parametrize("public_n", [24, 48, 96])
def test_the_divisor_is_rate_times_public_number_whatever_the_rows(plan_of, public_n):
    for rate in (0.25, 1.0):
        plan = plan_of(sampling_rate=rate)
        noise = stream("noise").normals(5)
        expected = -0.5 * 8.0 * np.concatenate([noise[4:], noise[:4]]) / (rate * public_n)
        weights = weights_of(plan)
        assert trained(plan, weights, NOBODY, public_n=public_n) == pytest.approx(expected)


def test_the_number_of_steps_is_the_plans(plan_of):
    asked = []

    class Counted(KeyStream):
        def normals(self, count, *turn):
            asked.append(count)
            return super().normals(count, *turn)

    plan = plan_of(local_steps=5, sampling_rate=0.01)
    for examples in (NOBODY, customers(3), customers(700)):
        asked.clear()
        streams = Counted(bytes(32)), stream("sampling")
        train_locally(task, plan, PUBLIC_N, weights_of(plan), examples, streams)
        assert asked == [5] * 5


def noise_of(plan, count):
    """Return the noise in so many updates of a unit without customers, in standard deviations."""
    terms, scale = plan.privacy, 0.5 / PUBLIC_N
    expected = scale * terms.noise_multiplier * terms.l2_clip_norm
    weights = weights_of(plan)
    draws = [trained(plan, weights, NOBODY, noise=f"noise {number}") for number in range(count)]
    return np.concatenate(draws) / expected


def test_noise_of_an_update_has_the_plans_scale_and_a_wrong_one_would_be_noticed(plan_of):
    found = noise_of(plan_of(noise_multiplier=3.0, l2_clip_norm=0.7), 400)
    assert stats.kstest(found, "norm").pvalue > 1e-5
    for wrong in (2 / 3, 3 / 2):
        assert stats.kstest(found * wrong, "norm").pvalue < 1e-9


# Sampling


def picks(examples, plan, coins):
    """Return which customers a sampling of these coins takes, from their prints in the update."""
    streams = stream("noise"), Coins(coins)
    return flat(train_locally(task, plan, PUBLIC_N, weights_of(plan), examples, streams))


def test_a_full_rate_takes_everybody_whatever_the_coins(plan_of):
    plan, examples = plan_of(), customers(6)
    expected = trained(plan, weights_of(plan), examples)
    for coins in ([2.0**-53] * 6, [1.0] * 6):
        assert np.array_equal(picks(examples, plan, coins), expected)


def test_each_customer_is_taken_by_its_own_coin(plan_of):
    plan, examples = plan_of(sampling_rate=0.25), customers(3)
    for taken in itertools.product([False, True], repeat=3):
        coins = [0.25 if one else 0.25 + 2.0**-53 for one in taken]
        kept = Examples(examples.features[list(taken)], examples.labels[list(taken)])
        alone = picks(kept, plan, [0.1] * len(kept.labels))
        assert picks(examples, plan, coins) == pytest.approx(alone, abs=1e-15)
        assert any(taken) == (not np.allclose(alone, picks(NOBODY, plan, []), rtol=0, atol=1e-9))


def test_sampling_is_poisson_in_size_and_in_pairs():
    """A shuffled sample of fixed size would have no variance, and too few pairs."""
    count, rate, draws = 40, 0.15, 20_000
    source = stream("poisson")
    taken = np.zeros((draws, count))
    for draw in range(draws):
        taken[draw, training.poisson_sample(count, rate, source).numpy()] = 1
    sizes = taken.sum(axis=1)
    mean, variance = count * rate, count * rate * (1 - rate)
    assert abs(sizes.mean() - mean) < 5 * np.sqrt(variance / draws)
    assert abs(sizes.var() - variance) < 5 * variance * np.sqrt(2.2 / draws)
    expected = stats.binom.pmf(np.arange(count + 1), count, rate) * draws
    observed = np.bincount(sizes.astype(int), minlength=count + 1)
    few = expected < 5
    observed = np.append(observed[~few], observed[few].sum())
    expected = np.append(expected[~few], expected[few].sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-5
    pairs = (taken.T @ taken) / draws
    off = pairs[~np.eye(count, dtype=bool)]
    spread = np.sqrt(rate**2 * (1 - rate**2) / draws)
    assert np.abs(off - rate**2).max() < 6 * spread
    assert abs(off.mean() - rate**2) < 5 * spread / np.sqrt(count)
    assert np.abs(np.diag(pairs) - rate).max() < 6 * np.sqrt(rate / draws)


def test_sample_sizes_vary_as_those_of_independent_coins():
    source = stream("sizes")
    sizes = [len(training.poisson_sample(50, 0.3, source)) for _ in range(2000)]
    assert np.mean(sizes) == pytest.approx(15, abs=0.4)
    assert np.var(sizes) == pytest.approx(10.5, rel=0.2)


# Determinism


def test_one_pair_of_streams_gives_one_update_and_another_gives_another(plan_of):
    plan = plan_of("mlp", sampling_rate=0.5, local_steps=3)
    weights, examples = weights_of(plan, seed=1), customers(20)
    first = trained(plan, weights, examples)
    torch.manual_seed(99)  # the library's own generator plays no part
    assert np.array_equal(trained(plan, weights, examples), first)
    assert not np.array_equal(trained(plan, weights, examples, noise="other"), first)
    assert not np.array_equal(trained(plan, weights, examples, sampling="other"), first)


def test_weights_and_examples_are_left_as_they_were(plan_of):
    plan = plan_of("mlp", local_steps=2)
    weights, examples = weights_of(plan, seed=1), customers(20)
    before = [value.copy() for value in (*weights.values(), examples.features, examples.labels)]
    trained(plan, weights, examples)
    after = (*weights.values(), examples.features, examples.labels)
    assert all(np.array_equal(x, y) for x, y in zip(before, after, strict=True))


def test_training_learns_when_noise_is_small(plan_of):
    plan = plan_of(rate=20.0, noise_multiplier=1e-6, local_steps=50)
    features = customers(200).features
    labels = (features[:, 0] > 0).astype(float)
    update = trained(plan, weights_of(plan), Examples(features, labels), public_n=200)
    scores = features @ update[1:] + update[0]
    assert ((scores > 0) == (labels > 0)).mean() > 0.95
