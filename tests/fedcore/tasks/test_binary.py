import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.plans import ModelSpec
from fedcore.tasks.churn import task

LOGISTIC, MLP = ModelSpec(kind="logistic"), ModelSpec(kind="mlp", hidden=(8, 4))


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        (LOGISTIC, [(1, 3), (1,)]),
        (MLP, [(8, 3), (8,), (4, 8), (4,), (1, 4), (1,)]),
    ],
    ids=["logistic", "mlp"],
)
def test_a_model_is_float64_with_the_declared_widths(model, shapes):
    module = task.build(model, 3)
    assert [tuple(p.shape) for p in module.parameters()] == shapes
    assert {p.dtype for p in module.parameters()} == {torch.float64}
    assert module(torch.zeros(5, 3, dtype=torch.float64)).shape == (5, 1)


def test_hidden_activations_are_bounded_whatever_the_weights():
    first, bounded, *_ = task.build(MLP, 3).children()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.fill_(1e300)
    hidden = bounded(first(torch.ones(1, 3, dtype=torch.float64)))
    assert hidden.abs().max() <= 1


def test_a_loss_is_each_examples_own_log_loss():
    logits = torch.tensor([[0.0], [2.0], [-3.0]], dtype=torch.float64)
    labels = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    expected = [math.log(2), math.log(1 + math.e**2), math.log(1 + math.e**-3)]
    assert task.losses(logits, labels).tolist() == pytest.approx(expected)
    assert task.losses(logits[1:2], labels[1:2]).tolist() == pytest.approx(expected[1:2])


@given(st.lists(st.tuples(st.floats(), st.sampled_from([0.0, 1.0])), min_size=1, max_size=70))
def test_slopes_of_losses_are_autograds_to_the_last_bit_whatever_the_logits(examples):
    logits, labels = (
        torch.tensor(values, dtype=torch.float64) for values in zip(*examples, strict=True)
    )
    outputs = logits[:, None].requires_grad_()
    losses = task.losses(outputs, labels)
    (expected,) = torch.autograd.grad(losses, outputs, torch.ones_like(losses))
    found = task.losses.slopes(outputs.detach(), labels)
    assert found.shape == outputs.shape
    assert torch.equal(found.nan_to_num(7.0), expected.nan_to_num(7.0))


def test_scores_are_probabilities_of_the_positive_label():
    logits = torch.tensor([[0.0], [-800.0], [800.0], [1.0]], dtype=torch.float64)
    expected = [0.5, 0.0, 1.0, 1 / (1 + math.e**-1)]
    assert task.scores(logits).tolist() == pytest.approx(expected)
