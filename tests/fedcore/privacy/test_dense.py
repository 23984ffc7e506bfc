"""A chain that is gone through by hand: what autograd finds, and nothing but plain chains."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from fedcore.privacy.bookkeeping import Books
from fedcore.privacy.dense import Dense, is_plain
from fedcore.privacy.engines import BookKeeping, Terms, engine_for
from fedcore.privacy.noise import KeyStream

SCALES = [0.0, 5e-324, 1e-160, 1.0, 30.0, 1e154, 1.7e308]


def dense(inputs, outputs):
    return nn.Linear(inputs, outputs, dtype=torch.float64)


def losses(outputs):
    return nn.functional.softplus(outputs).square().sum(dim=1)


@st.composite
def chains(draw):
    """Draw layers in any order, some in a chain of their own, some frozen, of any weights."""
    width = draw(st.integers(1, 9))
    inputs, layers = width, []
    for kind in draw(st.lists(st.sampled_from(["linear", "tanh"]), max_size=6)):
        after = draw(st.integers(1, 9)) if kind == "linear" else width
        layers.append(dense(width, after) if kind == "linear" else nn.Tanh())
        if kind == "linear" and draw(st.booleans()):
            layers[-1].requires_grad_(requires_grad=False)
        width = after
    layers.insert(draw(st.integers(0, len(layers))), nn.Sequential())
    last = nn.Linear(width, 2, bias=draw(st.booleans()), dtype=torch.float64)
    module = nn.Sequential(nn.Sequential(*layers), last, *draw(st.sampled_from([[], [nn.Tanh()]])))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    scales = draw(st.lists(st.sampled_from(SCALES), min_size=1, max_size=4))
    with torch.no_grad():
        for place, parameter in enumerate(module.parameters()):
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_((drawn * scales[place % len(scales)]).nan_to_num_())
    count = draw(st.integers(1, 6))
    return module, torch.randn((count, inputs), generator=generator, dtype=torch.float64)


@hypothesis_settings(max_examples=150)
@given(chains(), st.integers(1, 6))
def test_what_is_found_is_what_autograd_finds_to_the_last_bit(chain, count):
    module, rows = chain
    count = min(count, len(rows))
    assert is_plain(module)
    found = Dense(module).go_through(rows, losses)
    by_hand, by_autograd = Books(module), Books(module)
    by_hand.take(found, count)
    by_autograd.backward(losses(module(rows)), count)
    ours, theirs = by_hand.parts(), by_autograd.parts()
    assert torch.equal(ours.nan_to_num(7.0), theirs.nan_to_num(7.0))
    assert not any(tensor.requires_grad for pair in found.values() for tensor in pair)


class Sloped:
    """Losses of a module's first output that say their gradients, or that they do not know them."""

    def __init__(self, knows):
        self.knows, self.asked = knows, []

    def __call__(self, outputs):
        self.asked.append("losses")
        return outputs[:, 0].square()

    def slopes(self, outputs):
        self.asked.append("slopes")
        first = torch.zeros_like(outputs)
        first[:, 0] = 2 * outputs[:, 0]
        return first if self.knows else None


@pytest.mark.parametrize(("knows", "asked"), [(True, ["slopes"]), (False, ["slopes", "losses"])])
def test_gradients_at_the_outputs_are_asked_of_losses_that_know_them_and_else_of_autograd(
    knows, asked
):
    module, rows = nn.Sequential(dense(3, 4), nn.Tanh(), dense(4, 2)), torch.ones(5, 3).double()
    found, losses_that_say = Dense(module), Sloped(knows)
    said = found.go_through(rows, losses_that_say)
    derived = found.go_through(rows, lambda outputs: outputs[:, 0].square())
    assert losses_that_say.asked == asked
    for layer, pair in derived.items():
        assert all(map(torch.equal, said[layer], pair))
        assert not any(tensor.requires_grad for tensor in said[layer])


class Doubled(nn.Linear):
    """Computes something else than its kind."""

    def forward(self, rows):
        return 2 * super().forward(rows)


class Backwards(nn.Sequential):
    """Takes its layers in another order."""

    def forward(self, rows):
        return self[0](self[1](rows))


def hooked(place, kind):
    module = nn.Sequential(nn.Sequential(dense(2, 2)), nn.Tanh())
    getattr([module, *module.modules()][place], kind)(lambda *_: None)
    return module


def overridden():
    module = nn.Sequential(dense(2, 2), nn.Tanh())
    vars(module)["forward"] = module[0].forward
    return module


def twice():
    layer = dense(2, 2)
    return nn.Sequential(layer, nn.Tanh(), layer)


OTHERS = {
    "subclass": lambda: nn.Sequential(Doubled(2, 1).double()),
    "other order": lambda: Backwards(dense(2, 2), nn.Tanh()),
    "other layer": lambda: nn.Sequential(dense(2, 2), nn.ReLU(inplace=True)),
    "dropout": lambda: nn.Sequential(dense(2, 2), nn.Dropout(0.5)),
    "layer norm": lambda: nn.Sequential(dense(2, 2), nn.LayerNorm(2).double()),
    "made weight": lambda: nn.Sequential(nn.utils.spectral_norm(dense(2, 2))),
    "parametrised": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(dense(2, 2))),
    "forward of its own": overridden,
    "twice": twice,
    "nothing trained": lambda: nn.Sequential(dense(2, 2)).requires_grad_(requires_grad=False),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_module_is_no_plain_chain(name):
    assert is_plain(nn.Sequential(dense(2, 2), nn.Tanh()))
    assert is_plain(dense(2, 2))
    assert not is_plain(OTHERS[name]())


@pytest.mark.parametrize("place", [0, 2, 3, 4])
@pytest.mark.parametrize(
    "kind",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_a_chain_with_a_hook_anywhere_is_no_plain_one(place, kind):
    assert not is_plain(hooked(place, kind))


@pytest.mark.parametrize("shape", [(5, 3), (5, 4, 3)])
def test_the_engine_takes_the_same_gradients_of_rows_and_of_several_rows_each(shape):
    module = nn.Sequential(dense(3, 4), nn.Tanh(), dense(4, 1))
    rows = torch.sin(torch.arange(1.0, 1.0 + torch.Size(shape).numel()).double()).reshape(shape)
    engine = engine_for(module, Terms(1.0, 1.0, 1.0, 1.0, KeyStream(bytes(32))))
    assert isinstance(engine, BookKeeping)
    engine.backward(rows, lambda outputs: outputs.flatten(1).square().sum(dim=1), 4)
    for row, found in zip(rows, engine.parts()[:, -1], strict=False):
        loss = module(row[None]).square().sum()
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        exact = torch.cat([g.flatten() for g in gradients])
        assert found.item() == pytest.approx(exact.norm().item(), rel=1e-4)
    assert len(engine.parts()) == 4


def test_what_is_stepped_on_is_the_modules_own_weights():
    first, last = dense(3, 4), dense(4, 1)
    module = nn.Sequential(first, nn.Tanh(), last)
    first.get_parameter("bias").requires_grad_(requires_grad=False)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    engine = engine_for(module, Terms(0.5, 1.0, 1.0, 1.0, KeyStream(bytes(32))))
    assert all(map(torch.equal, module.parameters(), before))
    engine.backward(torch.zeros(0, 3).double(), losses, 0)
    engine.optimizer.step()
    for parameter, value in zip(module.parameters(), before, strict=True):
        moved = torch.zeros_like(value) if parameter.grad is None else -0.5 * parameter.grad
        assert torch.equal(parameter, value + moved)
        assert parameter.requires_grad == bool(moved.all())
