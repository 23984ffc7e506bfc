import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opacus import GradSampleModule

from fedcore.errors import InvalidRecordError
from fedcore.plans import ModelSpec
from fedcore.privacy.mechanisms import BoundedSumOptimizer, bounded_sum, clip_factors
from fedcore.privacy.noise import KeyStream
from fedcore.tasks.churn import task
from fedcore.tasks.task import load_into

MODELS = {
    "logistic": ModelSpec(kind="logistic"),
    "mlp": ModelSpec(kind="mlp", hidden=(6,)),
    "deep": ModelSpec(kind="mlp", hidden=(4, 5)),
}
INPUTS = 3
# All batches have one shape, as the mechanism asks of its caller: in batches of another length a
# row is rounded differently, which the weights of `cases` turn into another gradient.
ROWS = 32
EXTREMES = [0.0, 5e-324, 1e-308, 1e-160, 1.0, 1e3, 1e38, 3e38, 1e154, 1e200, 1.7e308]


def batched(model, weights, features, labels, clip=1.0, noise=None):
    """Return the module and its optimiser after a batch went backward."""
    module = task.build(model, features.shape[1])
    if weights is not None:
        load_into(module, weights)
    wrapped = GradSampleModule(module, loss_reduction="sum")
    optimizer = BoundedSumOptimizer(
        torch.optim.SGD(module.parameters(), lr=1.0),
        noise_multiplier=2.0,
        max_grad_norm=clip,
        expected_batch_size=8.0,
        noise=KeyStream(noise or bytes(32)),
    )
    optimizer.zero_grad()
    rows = torch.zeros((ROWS, features.shape[1]), dtype=torch.float64)
    targets = torch.zeros(ROWS, dtype=torch.float64)
    rows[: len(labels)], targets[: len(labels)] = (
        torch.from_numpy(features),
        torch.from_numpy(labels),
    )
    task.losses(wrapped(rows.requires_grad_()), targets).sum().backward()
    for parameter in module.parameters():
        vars(parameter)["grad_sample"] = vars(parameter)["grad_sample"][: len(labels)]
    return module, optimizer


def flat(values):
    return np.concatenate([np.asarray(value.detach()).ravel() for value in values])


def clipped_sum(model, weights, features, labels, clip=1.0):
    module, optimizer = batched(model, weights, features, labels, clip)
    optimizer.clip_and_accumulate()
    return flat(p.summed_grad for p in module.parameters())


def without(place, *arrays):
    return [np.delete(array, place, axis=0) for array in arrays]


@st.composite
def cases(draw):
    """Draw a model, any finite weights, examples in the feature map's range, and one to leave."""
    model = MODELS[draw(st.sampled_from(sorted(MODELS)))]
    shapes = {n: tuple(p.shape) for n, p in task.build(model, INPUTS).named_parameters()}
    entries = st.one_of(
        st.sampled_from(EXTREMES),
        st.floats(allow_nan=False, allow_infinity=False),
        st.floats(-3, 3),
    )
    weights = {}
    for name, shape in shapes.items():
        pool = draw(st.lists(entries, min_size=1, max_size=4))
        signs = draw(st.lists(st.sampled_from([-1, 1]), min_size=1, max_size=5))
        values = [pool[i % len(pool)] * signs[i % len(signs)] for i in range(int(np.prod(shape)))]
        weights[name] = np.array(values).reshape(shape)
    count = draw(st.integers(1, 6))
    cell = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1))
    features = draw(
        st.lists(st.lists(cell, min_size=3, max_size=3), min_size=count, max_size=count)
    )
    labels = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=count, max_size=count))
    clip = draw(st.sampled_from([1e-100, 1e-3, 0.4, 1.0, 50.0, 1e100]))
    place = draw(st.integers(0, count - 1))
    return model, weights, np.array(features), np.array(labels), clip, place


@hypothesis_settings(max_examples=300)
@given(cases())
def test_whatever_the_weights_one_example_moves_the_sum_by_at_most_the_clip_norm(case):
    model, weights, features, labels, clip, place = case
    whole = clipped_sum(model, weights, features, labels, clip)
    rest = clipped_sum(model, weights, *without(place, features, labels), clip=clip)  # type: ignore[misc]
    assert np.isfinite(whole).all()
    assert np.isfinite(rest).all()
    # Scaled by the clip norm, so that squares neither vanish nor overflow.
    assert np.linalg.norm((whole - rest) / clip) <= 1


@hypothesis_settings(max_examples=100)
@given(
    st.lists(st.lists(st.floats(), min_size=2, max_size=2), max_size=5),
    st.sampled_from([1e-100, 1.0, 1e100]),
)
def test_gradients_of_any_floats_sum_to_at_most_the_clip_norm_each(rows, clip):
    gradients = torch.tensor(rows, dtype=torch.float64).reshape(-1, 2)
    norms = gradients.square().sum(dim=1).sqrt()
    factors = clip_factors(norms, clip)
    assert ((factors >= 0) & (factors <= 1)).all()
    total = bounded_sum(gradients, factors).numpy()
    alone = [
        bounded_sum(gradients[i : i + 1], factors[i : i + 1]).numpy() for i in range(len(rows))
    ]
    assert all(np.linalg.norm(one / clip) <= 1 for one in alone)
    assert np.isfinite(total).all()
    assert total == pytest.approx(sum(alone, np.zeros(2)), rel=1e-9, abs=1e-9 * clip)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e200])
def test_an_example_without_a_finite_norm_contributes_nothing(bad):
    gradients = torch.tensor([[0.3, 0.4], [bad, 0.0], [3.0, 4.0]], dtype=torch.float64)
    norms = gradients.square().sum(dim=1).sqrt()
    assert not norms[1].isfinite()
    factors = clip_factors(norms, 1.0)
    assert factors[1] == 0
    assert bounded_sum(gradients, factors).numpy() == pytest.approx([0.9, 1.2], rel=1e-5)
    assert torch.equal(
        bounded_sum(gradients, factors), bounded_sum(gradients[[0, 2]], factors[[0, 2]])
    )


def test_small_gradients_pass_unchanged_and_large_ones_end_just_below_the_clip_norm():
    factors = clip_factors(torch.tensor([0.0, 0.5, 2.0, 1e9], dtype=torch.float64), 1.0)
    assert factors[:2].tolist() == [1.0, 1.0]
    assert (factors[2:] * torch.tensor([2.0, 1e9])).tolist() == pytest.approx([1 - 2.0**-20] * 2)
    assert (factors[2:] * torch.tensor([2.0, 1e9]) < 1).all()


@pytest.mark.parametrize("name", MODELS)
def test_clipped_sums_are_those_of_gradients_taken_one_by_one(name):
    rng = np.random.default_rng(7)
    model, clip = MODELS[name], 0.4
    module = task.build(model, INPUTS)
    weights = {n: rng.normal(size=tuple(p.shape)) for n, p in module.named_parameters()}
    features = rng.uniform(-1, 1, size=(ROWS, INPUTS))
    labels = (rng.uniform(size=ROWS) < 0.3).astype(float)
    load_into(module, weights)
    expected = 0.0
    for row, label in zip(features, labels, strict=True):
        module.zero_grad()
        task.losses(module(torch.from_numpy(row[None])), torch.tensor([label])).sum().backward()
        gradient = flat(p.grad for p in module.parameters())
        expected = expected + gradient * min(1, clip * (1 - 2.0**-20) / np.linalg.norm(gradient))
    found = clipped_sum(model, weights, features, labels, clip)
    assert np.abs(found - expected).max() < 1e-9


# A whole step


def stepped(features, labels):
    """Return the negative step (learning rate 1) of a logistic model at zero."""
    module, optimizer = batched(MODELS["logistic"], ZERO, features, labels)
    optimizer.step()
    return -flat(module.parameters())


ZERO = {"0.weight": np.zeros((1, INPUTS)), "0.bias": np.zeros(1)}


def test_a_step_is_clipped_sum_plus_noise_over_the_public_constant():
    features, labels = np.array([[1.0, 0.5, -1.0], [0.0, 0.2, 1.0]]), np.array([1.0, 0.0])
    noise = 2.0 * KeyStream(bytes(32)).normals(INPUTS + 1)
    expected = (clipped_sum(MODELS["logistic"], ZERO, features, labels) + noise) / 8.0
    assert stepped(features, labels) == pytest.approx(expected, rel=1e-12)


def test_a_step_over_several_batches_is_one_step_with_noise_once():
    rng = np.random.default_rng(3)
    features, labels = rng.uniform(-1, 1, (7, INPUTS)), (rng.uniform(size=7) < 0.5).astype(float)
    module, optimizer = batched(MODELS["logistic"], ZERO, features[:3], labels[:3])
    optimizer.signal_skip_step(do_skip=True)
    optimizer.step()
    optimizer.zero_grad()
    other, _ = batched(MODELS["logistic"], ZERO, features[3:], labels[3:])
    for mine, its in zip(module.parameters(), other.parameters(), strict=True):
        mine.grad_sample = its.grad_sample
    optimizer.step()
    assert -flat(module.parameters()) == pytest.approx(stepped(features, labels), rel=1e-12)


def test_an_empty_batch_adds_noise_and_nothing_else():
    noise = 2.0 * KeyStream(bytes(32)).normals(INPUTS + 1)
    assert stepped(np.zeros((0, INPUTS)), np.zeros(0)) == pytest.approx(noise / 8.0, rel=1e-12)


@pytest.mark.parametrize("count", [1, 5, 30])
def test_the_divisor_is_constant_whatever_the_batch(count):
    labels, features = np.ones(count), np.zeros((count, INPUTS))
    noise = 2.0 * KeyStream(bytes(32)).normals(INPUTS + 1)
    # Each example's gradient is -1/2 in the bias, below the clip norm.
    expected = (noise + np.array([0, 0, 0, -count / 2])) / 8.0
    assert stepped(features, labels) == pytest.approx(expected, rel=1e-12)


def test_noise_comes_from_one_stream_over_all_parameters_in_order():
    for seed in (b"a", b"b"):
        key = hashlib.sha256(seed).digest()
        module, optimizer = batched(
            MODELS["mlp"], None, np.zeros((1, INPUTS)), np.zeros(1), clip=3.0, noise=key
        )
        optimizer.clip_and_accumulate()
        before = flat(p.summed_grad for p in module.parameters())
        optimizer.add_noise()
        noise = flat(p.grad for p in module.parameters()) - before
        assert noise == pytest.approx(6.0 * KeyStream(key).normals(len(noise)), rel=1e-12)
        assert {p.grad.dtype for p in module.parameters()} == {torch.float64}


@pytest.mark.parametrize("clip", [0.0, 1e-101, float("nan")])
def test_a_clip_norm_whose_squares_would_vanish_is_refused(clip):
    batched(MODELS["logistic"], ZERO, np.zeros((1, INPUTS)), np.zeros(1), clip=1e-100)
    with pytest.raises(InvalidRecordError) as error:
        batched(MODELS["logistic"], ZERO, np.zeros((1, INPUTS)), np.zeros(1), clip=clip)
    assert error.value.code == "privacy.clip_norm_invalid"
