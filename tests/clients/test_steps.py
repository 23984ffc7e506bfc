"""One step of a node, by each engine: what one customer may do to it, whoever the others are."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from clients.training import batch_rows, take_step
from fedcore.errors import InvalidRecordError
from fedcore.privacy.engines import (
    BookKeeping,
    PerExample,
    Terms,
    engine_for,
    require_separate_examples,
)
from fedcore.privacy.noise import KeyStream

ENGINES = [BookKeeping, PerExample]
CLIP, INPUTS, ROWS = 0.7, 3, 16
NO_NOISE = 1e-30
EXTREMES = [0.0, 5e-324, 1e-160, 1.0, 1e3, 1e38, 3e38, 1e154, 1e200, 1.7e308]


class OfRows(nn.Module):
    """Several rows of a customer, (n, rows, inputs): the mean of what each of them gives."""

    def __init__(self, width=4):
        super().__init__()
        self.inner = nn.Linear(INPUTS, width, dtype=torch.float64)
        self.norm = nn.LayerNorm(width, dtype=torch.float64)
        self.out = nn.Linear(width, 1, dtype=torch.float64)

    def forward(self, rows):
        return self.out(torch.tanh(self.norm(self.inner(rows)))).mean(dim=1)


def table(*widths):
    layers = []
    for inputs, outputs in zip((INPUTS, *widths), (*widths, 1), strict=True):
        layers += [nn.Linear(inputs, outputs, dtype=torch.float64), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def losses(outputs, labels):
    return nn.functional.binary_cross_entropy_with_logits(
        outputs.squeeze(1), labels, reduction="none"
    )


def terms(noise=NO_NOISE):
    return Terms(
        learning_rate=1.0,
        noise_multiplier=noise,
        l2_clip_norm=CLIP,
        divisor=1.0,
        noise=KeyStream(hashlib.sha256(b"noise").digest()),
    )


def stepped(kind, module, features, labels, rows=ROWS, noise=NO_NOISE):
    """Return what a step adds to the weights, read before these swallow its last bits."""
    engine = kind(module, terms(noise))
    data = torch.from_numpy(features), torch.from_numpy(labels)
    take_step(engine, losses, data, torch.arange(len(labels)), rows)
    trained = [p for p in module.parameters() if p.requires_grad]
    return torch.cat([p.grad.flatten() for p in trained]).numpy()


def filled(module, values):
    with torch.no_grad():
        for place, parameter in enumerate(module.parameters()):
            signs = torch.sin(torch.arange(1.0, parameter.numel() + 1, dtype=torch.float64))
            parameter.copy_((signs * values[place % len(values)]).view_as(parameter))
    return module


def customers(count, *shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, *shape)), (rng.uniform(size=count) < 0.4).astype(float)


def without(place, *arrays):
    return [np.delete(array, place, axis=0) for array in arrays]


@pytest.mark.parametrize("kind", ENGINES)
@hypothesis_settings(max_examples=60)
@given(st.lists(st.sampled_from(EXTREMES), min_size=1, max_size=4), st.integers(1, 40), st.data())
def test_one_customer_moves_a_sum_by_at_most_the_clip_norm_whatever_weights_and_rows(
    kind, values, count, data
):
    build = data.draw(st.sampled_from([OfRows, lambda: table(5), table]))
    shape = (50, INPUTS) if build is OfRows else (INPUTS,)
    features, labels = customers(count, *shape)
    place = data.draw(st.integers(0, count - 1))
    features[place] = data.draw(st.sampled_from([1.0, -1e38, 1e308, np.inf, np.nan]))
    whole = stepped(kind, filled(build(), values), features, labels)
    rest = stepped(kind, filled(build(), values), *without(place, features, labels))
    assert np.isfinite(whole).all()
    assert np.linalg.norm(whole - rest) <= CLIP


@pytest.mark.parametrize("kind", ENGINES)
def test_fifty_rows_of_one_customer_weigh_as_much_as_one(kind):
    features, labels = customers(1, 1, INPUTS)
    one = stepped(kind, filled(OfRows(), [2.0]), features, 1 - labels)
    assert np.linalg.norm(one) == pytest.approx(CLIP, rel=1e-4)
    fifty = stepped(kind, filled(OfRows(), [2.0]), np.repeat(features, 50, axis=1), 1 - labels)
    assert fifty == pytest.approx(one, abs=1e-4)


@pytest.mark.parametrize("count", [0, 1, 16, 17, 40])
def test_both_engines_take_the_same_step_and_an_empty_sample_is_noise(count):
    features, labels = customers(count, INPUTS)
    steps = [
        stepped(kind, filled(table(5), [1.0]), features, labels, noise=1.0) for kind in ENGINES
    ]
    assert steps[0] == pytest.approx(steps[1], abs=1e-12)
    noise = CLIP * terms().noise.normals(len(steps[0]))
    if not count:
        assert steps[0] == pytest.approx(noise, rel=1e-12)
    assert np.linalg.norm(steps[0] - noise) <= count * CLIP


@pytest.mark.parametrize("kind", ENGINES)
def test_frozen_and_unused_layers_stay_as_they_are_and_the_others_learn(kind):
    module = table(5)
    module[0].requires_grad_(requires_grad=False)
    module.register_module("unused", nn.Linear(2, 2, dtype=torch.float64))
    module.forward = lambda rows: module[2](module[1](module[0](rows)))
    before = {name: value.clone() for name, value in filled(module, [1.0]).named_parameters()}
    stepped(kind, module, *customers(9, INPUTS))
    moved = {name for name, value in module.named_parameters() if not value.equal(before[name])}
    assert moved == {"2.weight", "2.bias"}


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_proximal_term_adds_the_same_whoever_the_customers_are(kind, count):
    found = []
    for proximal in (0.0, 3.0):
        module = filled(table(5), [1.0])
        module[0].bias.requires_grad_(requires_grad=False)
        trained = [p for p in module.parameters() if p.requires_grad]
        engine = kind(module, replace(terms(noise=1.0), proximal=proximal))
        with torch.no_grad():
            for place, parameter in enumerate(trained):
                parameter.add_(place + 0.5)
        data = [torch.from_numpy(values) for values in customers(count, INPUTS)]
        take_step(engine, losses, (data[0], data[1]), torch.arange(count), ROWS)
        assert module[0].bias.grad is None
        found.append([p.grad for p in trained])
    for place, (plain, pulled) in enumerate(zip(*found, strict=True)):
        assert (pulled - plain).numpy() == pytest.approx(3.0 * (place + 0.5), rel=1e-12)


def test_small_batches_are_the_slow_engines_and_batches_of_most_samples_fit_evenly():
    unknown = nn.Sequential(nn.Conv1d(1, 1, 1).double())
    assert isinstance(engine_for(table(5), terms()), BookKeeping)
    assert isinstance(engine_for(unknown, terms()), PerExample)
    assert batch_rows(4096, PerExample.max_rows) <= 256
    assert batch_rows(4096, BookKeeping.max_rows) == 848


# Examples that depend on each other


class Centred(nn.Linear):
    """Subtracts the batch's mean."""

    def forward(self, rows):
        return super().forward(rows - rows.mean(dim=0))


class Placed(nn.Linear):
    """Adds a little that depends on the place."""

    def forward(self, rows):
        return super().forward(rows) * (1 + 2.0**-50 * torch.arange(len(rows)).double()[:, None])


def frozen_norm():
    norm = nn.BatchNorm1d(INPUTS, dtype=torch.float64).requires_grad_(requires_grad=False)
    return nn.Sequential(norm, table(5))


ROW = torch.tensor([0.3, -0.7, 0.9], dtype=torch.float64)


@pytest.mark.parametrize(
    "build",
    [
        frozen_norm,
        lambda: nn.Sequential(table(5), Centred(1, 1).double()),
        lambda: nn.Sequential(Placed(INPUTS, 1).double()),
        lambda: nn.Sequential(table(5), nn.Dropout(0.5)),
    ],
    ids=["batch norm", "centred", "placed", "random"],
)
def test_a_model_that_mixes_examples_is_refused(build):
    require_separate_examples(lambda: nn.Sequential(table(5)), ROW, ROWS)
    with pytest.raises(InvalidRecordError) as error:
        require_separate_examples(build, ROW, ROWS)
    assert error.value.code == "privacy.examples_mixed"


@pytest.mark.parametrize("widths", [(), (7,), (64, 64), (256, 128, 64)])
def test_this_machine_rounds_a_row_the_same_wherever_it_stands(widths):
    for rows in (16, 80, 288, 848):
        require_separate_examples(lambda: table(*widths), ROW, rows)


def test_a_layer_whose_input_or_output_is_changed_in_place_is_not_computed_with():
    for change in (nn.Tanh(), nn.ReLU(inplace=True)):
        module = nn.Sequential(table(5), change, nn.Linear(1, 1, dtype=torch.float64))
        if isinstance(change, nn.Tanh):
            stepped(BookKeeping, module, *customers(3, INPUTS))
        else:
            with pytest.raises(RuntimeError, match="in place"):
                stepped(BookKeeping, module, *customers(3, INPUTS))
