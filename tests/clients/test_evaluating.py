"""What an evaluation counts: each customer once in each table, whatever weights and rows are."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from clients import evaluating
from clients.data import Examples
from clients.evaluating import scores_of
from clients.measuring import require_separate_rows
from fedcore.errors import InvalidRecordError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.plans import ModelSpec
from fedcore.privacy.noise import KeyStream
from fedcore.score_tables import DEFAULT_BINS
from fedcore.tasks.task import initial_weights, load_scorer

TASK, INPUTS, MOST = load_scorer("churn"), 4, 5
FINITE = st.floats(-3e38, 3e38, allow_nan=False)


@pytest.fixture(scope="module")
def logistic(plan):
    return plan.model_copy(update={"model": ModelSpec(kind="logistic")})


@pytest.fixture(scope="module")
def mlp(plan):
    return plan.model_copy(update={"model": ModelSpec(kind="mlp", hidden=(8, 5))})


@pytest.fixture(scope="module")
def evaluation(plan, digest):
    def of(models=1, epsilon=1.0):
        named = [EvaluatedModel(artifact=digest(str(n)), plan=plan.digest) for n in range(models)]
        values = {"title": "A test", "models": tuple(named), "epsilon": epsilon, "delta": 1e-5}
        return EvaluationPlan(**values, rows="holdout", minimum_units=2)

    return of


def weights_of(plan, seed=0, scale=1.0):
    draw = np.random.default_rng(seed)
    first = initial_weights(TASK, plan.model, INPUTS)
    return {name: draw.normal(0, scale, array.shape) for name, array in first.items()}


def several(counts, seed=0):
    """Customers with so many rows each."""
    draw, rows = np.random.default_rng(seed), sum(counts)
    return Examples(
        features=draw.uniform(-1, 1, (rows, INPUTS)),
        labels=(draw.uniform(size=rows) < 0.3).astype(float),
        identifiers=tuple(f"C{number}" for number in range(len(counts))),
        counts=np.array(counts, dtype=np.int64),
        most=MOST,
        challenger=draw.uniform(-1, 1, (rows, INPUTS)),
    )


def tables_of(plan, training, weights, examples):
    models = list(zip(training, weights, strict=True))
    return evaluating.tables_of(plan, models, examples)


def evaluate_locally(plan, training, weights, examples, stream):
    models = list(zip(training, weights, strict=True))
    return evaluating.evaluate_locally(plan, models, examples, stream)


def one_each(count, seed=0):
    draw = np.random.default_rng(seed)
    return Examples(
        features=draw.uniform(-1, 1, (count, INPUTS)),
        labels=(draw.uniform(size=count) < 0.3).astype(float),
    )


def without(examples, customer):
    """The same customers but one."""
    if examples.counts is None:
        rows, counts = np.arange(len(examples.labels)) != customer, None
    else:
        rows = np.repeat(np.arange(len(examples.counts)), examples.counts) != customer
        counts = np.delete(examples.counts, customer)
    other = examples.challenger
    return Examples(
        features=examples.features[rows],
        labels=examples.labels[rows],
        counts=counts,
        most=examples.most,
        challenger=None if other is None else other[rows],
    )


def test_a_table_holds_each_customer_by_label_and_bin_of_the_models_score(evaluation, logistic):
    examples, weights = one_each(300), weights_of(logistic)
    (table,) = tables_of(evaluation(), [logistic], [weights], examples)
    name, bias = sorted(weights, key=lambda one: -weights[one].size)
    logits = examples.features @ weights[name][0] + weights[bias][0]
    expected = np.zeros(DEFAULT_BINS.size, dtype=np.int64)
    for logit, label in zip(logits, examples.labels, strict=True):
        score = 1 / (1 + math.exp(-logit))
        place = sum(edge <= score for edge in DEFAULT_BINS.edges[1:-1])
        expected[int(label) * DEFAULT_BINS.count + place] += 1
    assert table.tolist() == expected.tolist()


def test_of_a_customer_with_several_rows_the_mean_score_and_the_first_label_count(
    evaluation, logistic
):
    examples, weights = several([1, 3, MOST, 2]), weights_of(logistic)
    scores = scores_of(TASK, logistic, weights, examples.features)
    (table,) = tables_of(evaluation(), [logistic], [weights], examples)
    expected = np.zeros(DEFAULT_BINS.size, dtype=np.int64)
    for first, count in ((0, 1), (1, 3), (4, MOST), (4 + MOST, 2)):
        place = DEFAULT_BINS.bin_of(np.mean(scores[first : first + count]))
        expected[int(examples.labels[first]) * DEFAULT_BINS.count + int(place)] += 1
    assert table.tolist() == expected.tolist()


def test_two_models_are_counted_on_the_same_customers_each_by_its_own_inputs(
    evaluation, logistic, mlp
):
    examples, weights = several([2] * 60), [weights_of(logistic), weights_of(mlp, 1)]
    first, second = tables_of(evaluation(2), [logistic, mlp], weights, examples)
    swapped = Examples(
        features=examples.challenger,
        labels=examples.labels,
        counts=examples.counts,
        most=MOST,
        challenger=examples.features,
    )
    assert [
        t.tolist() for t in tables_of(evaluation(2), [mlp, logistic], weights[::-1], swapped)
    ] == [
        second.tolist(),
        first.tolist(),
    ]
    assert first.sum() == second.sum() == 60
    assert first.tolist() != second.tolist()


@settings(max_examples=25)
@given(
    counts=st.lists(st.integers(1, MOST), min_size=1, max_size=12),
    large=st.lists(FINITE, min_size=8, max_size=8),
    gone=st.integers(0, 11),
    seed=st.integers(0, 99),
)
def test_without_one_customer_one_count_of_each_table_is_less_by_one_whatever_the_weights_are(
    evaluation, mlp, counts, large, gone, seed
):
    examples, plan = several(counts, seed), evaluation(2)
    weights = [weights_of(mlp, seed), weights_of(mlp, seed + 1, 1e150)]
    weights[0][min(weights[0])].flat[: len(large)] = large
    both = [
        tables_of(plan, [mlp, mlp], weights, one)
        for one in (examples, without(examples, gone % len(counts)))
    ]
    for table, less in zip(*both, strict=True):
        change = table - less
        assert sorted(change[change != 0]) == [1]


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 3000])
def test_a_score_is_the_same_to_the_last_bit_whoever_else_is_read(mlp, count):
    features, weights = one_each(count).features, weights_of(mlp, 3, 2.0)
    scores = scores_of(TASK, mlp, weights, features)
    assert scores.shape == (count,)
    for place in {0, count // 2, count - 1}:
        assert scores_of(TASK, mlp, weights, features[place:])[0] == scores[place]
        assert scores_of(TASK, mlp, weights, features[: place + 1])[-1] == scores[place]


def test_a_score_that_is_no_number_counts_in_the_lowest_bin(evaluation, logistic):
    examples, weights = one_each(40), weights_of(logistic)
    for name in weights:
        weights[name][...] = np.nan
    (table,) = tables_of(evaluation(), [logistic], [weights], examples)
    positive = int(examples.labels.sum())
    assert (table[0], table[DEFAULT_BINS.count]) == (40 - positive, positive)
    assert table.sum() == 40


def test_a_unit_without_customers_answers_by_noise_alone(evaluation, logistic):
    nobody, weights = one_each(0), weights_of(logistic)
    (table,) = tables_of(evaluation(), [logistic], [weights], nobody)
    assert not table.any()
    (noised,) = evaluate_locally(evaluation(), [logistic], [weights], nobody, KeyStream(bytes(32)))
    assert len(noised) == DEFAULT_BINS.size
    assert any(noised)


def test_with_one_noise_stream_the_noised_tables_differ_as_the_counts_do(evaluation, logistic):
    examples, weights, plan = one_each(50), weights_of(logistic), evaluation(epsilon=0.5)
    noised = [
        evaluate_locally(plan, [logistic], [weights], one, KeyStream(bytes(range(32))))[0]
        for one in (examples, without(examples, 7))
    ]
    change = np.array(noised[0]) - np.array(noised[1])
    assert sorted(change[change != 0]) == [1]


@pytest.mark.parametrize("models", [1, 2])
def test_epsilon_is_divided_among_the_tables(evaluation, mlp, models):
    """The noise has the scale that the event says; at 2/3 and 3/2 of it the same test fails."""
    plan, weights = evaluation(models, epsilon=0.5), [weights_of(mlp)] * models
    nobody = several([])
    found: list[tuple[int, ...]] = []
    for number in range(60):
        stream = KeyStream(bytes([number]) * 32)
        found += evaluate_locally(plan, [mlp] * models, weights, nobody, stream)
    sizes = np.abs(np.array(found)).ravel()
    event = plan.exchange_event()
    assert event.noise_multiplier == models / 0.5
    assert event.steps == models

    def is_of(scale):
        ratio = math.exp(-1 / scale)
        mean = 2 * ratio / (1 - ratio) / (1 + ratio)
        spread = sizes.std() / len(sizes) ** 0.5
        return abs(sizes.mean() - mean) < 5 * spread

    assert [is_of(event.noise_multiplier * by) for by in (2 / 3, 1, 3 / 2)] == [False, True, False]


class Mixing(nn.Module):
    """A model in which a row's score depends on the others'."""

    def __init__(self, kind):
        super().__init__()
        self._kind = kind
        self.weight = nn.Parameter(torch.ones(INPUTS, dtype=torch.float64))

    def forward(self, rows):
        scores = (rows * self.weight).sum(dim=1)
        if self._kind == "sum":
            return scores + scores.sum()
        if self._kind == "place":
            return scores + torch.arange(len(scores))
        return scores


@pytest.mark.parametrize("kind", ["sum", "place"])
def test_a_model_that_mixes_rows_is_refused(kind):
    def measure(module, rows):
        return module(rows)

    with pytest.raises(InvalidRecordError) as error:
        require_separate_rows(measure, lambda: Mixing(kind), INPUTS)
    assert error.value.code == "privacy.examples_mixed"
    require_separate_rows(measure, lambda: Mixing("none"), INPUTS)
