from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedcore.plans import ModelSpec
from fedcore.privacy.dense import is_plain
from fedcore.tasks.autoencoder import ReconstructionLosses
from fedcore.tasks.segmentation import task

DEEP = ModelSpec(kind="autoencoder", hidden=(8, 4), embedding=2)
FLAT = ModelSpec(kind="autoencoder", embedding=2)
losses = ReconstructionLosses()


@pytest.mark.parametrize(
    ("model", "widths"),
    [(DEEP, [5, 8, 4, 2, 4, 8, 5]), (FLAT, [5, 2, 5])],
    ids=["deep", "flat"],
)
def test_the_decoder_has_the_encoders_widths_backwards(model, widths):
    module = task.build(model, 5)
    weights = [tuple(p.shape) for p in module.parameters() if p.ndim == 2]
    assert weights == [(gives, given) for given, gives in pairwise(widths)]
    assert {p.dtype for p in module.parameters()} == {torch.float64}
    assert module(torch.zeros(7, 5, dtype=torch.float64)).shape == (7, 5)


def test_an_autoencoder_is_a_plain_chain_for_the_fast_engine():
    assert is_plain(task.build(DEEP, 5))


def test_a_loss_is_each_examples_own_mean_square():
    outputs = torch.tensor([[0.0, 1.0], [0.5, -0.5]], dtype=torch.float64)
    targets = torch.tensor([[1.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    assert losses(outputs, targets).tolist() == [0.5, 0.5]
    assert losses(outputs[1:], targets[1:]).tolist() == [0.5]


@given(st.integers(1, 9), st.data())
def test_slopes_of_losses_are_autograds_to_the_last_bit_whatever_the_outputs(width, data):
    rows = st.lists(st.lists(st.floats(), min_size=width, max_size=width), min_size=1, max_size=4)
    given_ = torch.tensor(data.draw(rows), dtype=torch.float64)
    targets = torch.rand(given_.shape, dtype=torch.float64) * 2 - 1
    outputs = given_.clone().requires_grad_()
    found = losses(outputs, targets)
    (expected,) = torch.autograd.grad(found, outputs, torch.ones_like(found))
    slopes = losses.slopes(given_, targets)
    assert slopes.shape == outputs.shape
    assert torch.equal(slopes.nan_to_num(7.0), expected.nan_to_num(7.0))


def test_only_an_autoencoder_has_an_embedding_and_it_needs_one():
    ModelSpec(kind="autoencoder", hidden=(8,), embedding=2)
    ModelSpec(kind="mlp", hidden=(8,))
    for wrong in (
        {"kind": "autoencoder", "hidden": (8,)},
        {"kind": "mlp", "hidden": (8,), "embedding": 2},
        {"kind": "logistic", "embedding": 2},
        {"kind": "autoencoder", "embedding": 1},
        {"kind": "autoencoder", "embedding": 65},
    ):
        with pytest.raises(ValidationError):
            ModelSpec(**wrong)
