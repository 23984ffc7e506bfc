import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from fedcore.errors import InvalidRecordError
from fedcore.privacy.bookkeeping import Books, is_supported
from fedcore.privacy.mechanisms import BookKeepingOptimizer, Descent, clip_factors, joined
from fedcore.privacy.noise import KeyStream

CLIP = 0.7


class Sequence(nn.Module):
    """Indices (n, t) to one number each: embedding, layer norm, a layer used twice, positions."""

    def __init__(self, words, width, shared, padding, frozen):
        super().__init__()
        self.words = nn.Embedding(words, width, padding_idx=padding, dtype=torch.float64)
        self.norm = nn.LayerNorm(width, dtype=torch.float64)
        self.inner = nn.Linear(width, width, bias=not shared, dtype=torch.float64)
        self.out = nn.Linear(width, 1, dtype=torch.float64)
        self.shared = shared
        for name, parameter in self.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)

    def forward(self, indices):
        hidden = torch.tanh(self.inner(self.norm(self.words(indices))))
        if self.shared:
            hidden = torch.tanh(self.inner(hidden))
        return self.out(hidden).sum(dim=1)


class Table(nn.Module):
    """Numbers (n, d) to one number each."""

    def __init__(self, inputs, widths, norm):
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers.append(nn.Linear(inputs, width, bias=not norm, dtype=torch.float64))
            if norm:
                layers.append(nn.LayerNorm(width, dtype=torch.float64))
            layers.append(nn.Tanh())
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, 1, dtype=torch.float64))

    def forward(self, rows):
        return self.layers(rows)


def randomised(module, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(scale * draw)
    return module


def losses(outputs):
    return torch.nn.functional.softplus(outputs.squeeze(1))


def one_by_one(module, rows):
    """Return each example's gradient, shape (n, parameters), by a backward pass of its own."""
    trained = [p for p in module.parameters() if p.requires_grad]
    found = []
    for row in rows:
        gradients = torch.autograd.grad(
            losses(module(row[None])).sum(), trained, materialize_grads=True
        )
        found.append(torch.cat([g.flatten() for g in gradients]))
    return torch.stack(found) if found else torch.zeros(0, sum(p.numel() for p in trained)).double()


def booked(module, rows, factors=None, count=None):
    """Return bounds of norms and the weighted sum; by default clipped."""
    books = Books(module)
    books.backward(losses(module(rows)), len(rows) if count is None else count)
    norms = books.norms()
    trained = [p for p in module.parameters() if p.requires_grad]
    sums = {p: torch.zeros_like(p, requires_grad=False) for p in trained}
    books.add_sums(clip_factors(norms, CLIP) if factors is None else factors, sums)
    return norms, torch.cat([sums[p].flatten() for p in trained])


@st.composite
def networks(draw):
    """Draw a supported module and rows for it, none included."""
    seed, count = draw(st.integers(0, 10**6)), draw(st.integers(0, 6))
    generator = torch.Generator().manual_seed(seed)
    if draw(st.booleans()):
        inputs = draw(st.integers(1, 6))
        widths = draw(st.lists(st.integers(1, 9), max_size=3))
        rows = 2 * torch.rand((count, inputs), generator=generator, dtype=torch.float64) - 1
        return randomised(Table(inputs, widths, draw(st.booleans())), seed), rows
    words, positions = draw(st.integers(2, 5)), draw(st.integers(1, 4))
    names = ["words.weight", "norm.weight", "norm.bias", "inner.weight", "out.bias"]
    frozen = draw(st.sets(st.sampled_from(names), max_size=3))
    padding = draw(st.sampled_from([None, 0]))
    module = Sequence(words, draw(st.integers(2, 5)), draw(st.booleans()), padding, frozen)
    rows = torch.randint(words, (count, positions), generator=generator)
    return randomised(module, seed), rows


@hypothesis_settings(max_examples=150)
@given(networks())
def test_norms_and_clipped_sums_are_those_of_gradients_taken_one_by_one(network):
    module, rows = network
    assert is_supported(module)
    gradients = one_by_one(module, rows)
    norms, total = booked(module, rows)
    exact = gradients.norm(dim=1)
    assert torch.allclose(norms, exact, rtol=1e-5, atol=1e-5)
    assert (norms >= exact * (1 - 1e-12)).all()
    expected = (gradients * clip_factors(norms, CLIP)[:, None]).sum(dim=0)
    assert torch.allclose(total, expected, rtol=1e-9, atol=1e-9)
    nearly = (gradients * clip_factors(exact, CLIP)[:, None]).sum(dim=0)
    assert torch.allclose(total, nearly, rtol=1e-5, atol=1e-5)


@hypothesis_settings(max_examples=60)
@given(networks(), st.integers(0, 5))
def test_rows_after_the_count_are_not_looked_at(network, count):
    module, rows = network
    count = min(count, len(rows))
    _, some = booked(module, rows, count=count)
    _, alone = booked(module, rows[:count])
    assert torch.allclose(some, alone, rtol=1e-9, atol=1e-12)


EXTREMES = [0.0, 5e-324, 1e-160, 1.0, 1e3, 1e38, 1e154, 1e200, 1.7e308]


@hypothesis_settings(max_examples=200)
@given(networks(), st.lists(st.sampled_from(EXTREMES), min_size=1, max_size=5), st.data())
def test_whatever_the_weights_an_example_adds_at_most_the_clip_norm(network, scales, data):
    module, rows = network
    with torch.no_grad():
        for place, parameter in enumerate(module.parameters()):
            parameter.mul_(scales[place % len(scales)]).nan_to_num_(1e308, 1e308, -1e308)
    for row in range(len(rows)):
        norms, part = booked(module, rows[row : row + 1])
        assert part.isfinite().all()
        assert np.linalg.norm(part.numpy()) <= CLIP
        if not norms.isfinite().all():
            assert not part.any()
    _, total = booked(module, rows)
    assert np.linalg.norm(total.numpy()) <= CLIP * len(rows)


def test_parts_that_cancel_are_bounded_by_more_than_rounding():
    """Two positions with opposite gradients of 1e8: their difference is rounding, or a customer."""
    layer = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    books = Books(layer)
    rows = torch.tensor([[[1.0, 1.0], [1.0, 1.0 + 2e-9]]], dtype=torch.float64)
    signs = torch.tensor([1e8, -1e8], dtype=torch.float64)
    books.backward((layer(rows).squeeze(2) * signs).sum(dim=1), 1)
    norms = books.norms()
    part = torch.zeros(1, 2, dtype=torch.float64)
    books.add_sums(clip_factors(norms, CLIP), {layer.get_parameter("weight"): part})
    assert norms[0] > 1e8 * 2.0**-15
    assert part.norm() <= CLIP


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1.7e308])
@pytest.mark.parametrize("norm", [False, True])
def test_a_row_without_a_finite_gradient_leaves_the_others_as_they_are(bad, norm):
    module = randomised(Table(3, [4], norm=norm), 1)
    rows = torch.tensor([[0.1, 0.2, 0.3], [bad, 0.0, 0.0], [0.5, -0.5, 1.0]], dtype=torch.float64)
    norms, total = booked(module, rows)
    assert norms.isfinite().tolist() == [True, False, True]
    _, others = booked(module, rows[[0, 2]])
    assert torch.allclose(total, others, rtol=1e-12)


# What is not supported


class Doubled(nn.Linear):
    """Computes something else than its kind."""

    def forward(self, rows):
        return 2 * super().forward(rows)


def tied():
    module = nn.Sequential(nn.Linear(2, 2, dtype=torch.float64), nn.Linear(2, 2).double())
    module[1].weight = module[0].weight
    return module


UNKNOWN = {
    "batch norm": nn.BatchNorm1d(2).double(),
    "convolution": nn.Conv1d(1, 1, 1).double(),
    "subclass": Doubled(2, 1).double(),
    "single precision": nn.Linear(2, 1),
    "tied weights": tied(),
    "made weight": nn.utils.spectral_norm(nn.Linear(2, 2).double()),
    "renormed embedding": nn.Embedding(2, 2, max_norm=1.0).double(),
    "scaled embedding": nn.Embedding(2, 2, scale_grad_by_freq=True).double(),
    "two axes": nn.LayerNorm((2, 2)).double(),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_layers_are_not_supported_and_are_once_they_are_frozen(name):
    assert not is_supported(UNKNOWN[name])
    frozen = UNKNOWN[name].requires_grad_(requires_grad=False)
    assert is_supported(nn.Sequential(frozen, nn.Linear(2, 1).double()))


# The optimiser


def optimizer_of(module, clip=CLIP, noise=0.0001):
    trained = list(module.parameters())
    return BookKeepingOptimizer(
        torch.optim.SGD([joined(trained)], lr=1.0),
        Books(module),
        trained,
        noise_multiplier=noise,
        max_grad_norm=clip,
        expected_batch_size=4.0,
        noise=KeyStream(bytes(32)),
    )


@pytest.mark.parametrize("rate", [0.3, 7.0])
def test_plain_descent_is_torchs_own_to_the_last_bit(rate):
    start, gradients = torch.randn(50).double(), torch.randn(4, 50).double()
    found = []
    for kind in (lambda whole: Descent(whole, rate), lambda whole: torch.optim.SGD([whole], rate)):
        whole = nn.Parameter(start.clone())
        optimizer = kind(whole)
        optimizer.step()  # without a gradient, nothing
        assert torch.equal(whole, start)
        for gradient in gradients:
            whole.grad = gradient
            optimizer.step()
        found.append(whole.detach())
    assert torch.equal(*found)
    assert not torch.equal(found[0], start)


@pytest.mark.parametrize("clip", [5e-4, 0.0, float("nan")])
def test_a_clip_norm_below_what_products_can_tell_is_refused(clip):
    module = Table(2, [], norm=False)
    optimizer_of(module, clip=1e-3)
    with pytest.raises(InvalidRecordError) as error:
        optimizer_of(module, clip=clip)
    assert error.value.code == "privacy.clip_norm_invalid"
