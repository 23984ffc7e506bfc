"""A customer with several rows trains as one: by the mean of the rows' losses, clipped once."""

import hashlib
from datetime import date

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.data import Examples, Inputs, load_examples
from clients.padding import PaddedRows, PaddedTargets, mean_of_rows
from clients.sources import Source
from clients.training import take_step, train_locally
from fedcore.contracts import RowsRule
from fedcore.errors import InvalidRecordError
from fedcore.learning_rules import Algorithm
from fedcore.plans import ModelSpec
from fedcore.privacy import engines
from fedcore.privacy.engines import BookKeeping, PerExample, Terms
from fedcore.privacy.mechanisms import BookKeepingOptimizer
from fedcore.privacy.noise import KeyStream
from fedcore.tasks.churn import task
from fedcore.tasks.task import load_into, shapes_of

PUBLIC_N, INPUTS, RATE = 48, 4, 0.5
MODELS = {
    "logistic": ModelSpec(kind="logistic"),
    "mlp": ModelSpec(kind="mlp", hidden=(7, 5)),
}
ENGINES = [BookKeeping, PerExample]
QUIET = hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Silent(KeyStream):
    """A noise stream without noise."""

    def normals(self, count, *_turn):
        return np.zeros(count)


def streams():
    return Silent(bytes(32)), KeyStream(hashlib.sha256(b"sampling").digest())


@pytest.fixture(scope="session")
def plan_of(plan):
    """The plan with another model, clip and weight of positive labels."""

    def of(model="logistic", clip=1.0, weight=None):
        return plan.model_copy(
            update={
                "model": MODELS[model],
                "algorithm": Algorithm(local_learning_rate=RATE, positive_weight=weight),
                "privacy": plan.privacy.model_copy(update={"l2_clip_norm": clip}),
            }
        )

    return of


def weights_of(plan, inputs=INPUTS, scale=1.0):
    rng = np.random.default_rng(2)
    shapes = shapes_of(task.build(plan.model, inputs))
    return {name: scale * rng.normal(size=shape) for name, shape in shapes.items()}


def customers(counts, most, seed=0):
    """Customers with so many rows each."""
    rng, rows = np.random.default_rng(seed), int(sum(counts))
    labels = (rng.uniform(size=rows) < 0.4).astype(float)
    features = rng.uniform(-1, 1, size=(rows, INPUTS))
    return Examples(features, labels, counts=np.array(counts, dtype=np.int64), most=most)


def flat(values):
    return np.concatenate([values[name].ravel() for name in sorted(values)])


def trained(plan, weights, examples, public_n=PUBLIC_N):
    return flat(train_locally(task, plan, public_n, weights, examples, streams()))


def clipped_mean_gradients(plan, weights, examples, weight):
    """The clipped mean gradient of each customer, in torch's own words, a row at a time."""
    module = task.build(plan.model, INPUTS)
    load_into(module, weights)
    clip, found, first = plan.privacy.l2_clip_norm, [], 0
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight or 1.0))
    for count in examples.counts:
        rows = []
        for place in range(first, first + count):
            output = module(torch.from_numpy(examples.features[place : place + 1])).squeeze(1)
            of_row = loss(output, torch.from_numpy(examples.labels[place : place + 1]))
            names, parameters = zip(*module.named_parameters(), strict=True)
            gradients = torch.autograd.grad(of_row, parameters)
            rows.append(flat({n: g.numpy() for n, g in zip(names, gradients, strict=True)}))
        mean = np.mean(rows, axis=0)
        found.append(mean * min(1.0, clip * (1 - 2.0**-20) / np.linalg.norm(mean)))
        first += count
    return np.array(found)


@pytest.mark.parametrize("weight", [None, 3.0])
@pytest.mark.parametrize("clip", [0.05, 100.0])
@pytest.mark.parametrize("model", MODELS)
def test_a_step_is_the_sum_of_the_clipped_means_of_the_rows_gradients(plan_of, model, clip, weight):
    plan, examples = plan_of(model, clip, weight), customers([1, 3, 8, 5, 2, 8, 1], most=8)
    weights = weights_of(plan)
    expected = clipped_mean_gradients(plan, weights, examples, weight).sum(axis=0)
    found = trained(plan, weights, examples)
    assert found == pytest.approx(-RATE * expected / PUBLIC_N, abs=1e-9)
    wrong = clipped_mean_gradients(plan, weights, customers([28], most=28), weight)[0]
    assert np.abs(found + RATE * wrong / PUBLIC_N).max() > 1e-4


def test_one_row_each_is_what_it_is_without_the_contracts_word(plan_of):
    for model in MODELS:
        plan, several = plan_of(model, clip=0.3), customers([1] * 20, most=4)
        one_each = Examples(several.features, several.labels)
        weights = weights_of(plan)
        assert trained(plan, weights, several) == pytest.approx(
            trained(plan, weights, one_each), abs=1e-9
        )


@QUIET
@given(
    st.sampled_from(sorted(MODELS)),
    st.lists(st.integers(1, 64), min_size=1, max_size=6),
    st.sampled_from([1e-3, 1.0, 1e3]),
    st.data(),
)
def test_with_or_without_a_customer_a_sum_moves_by_at_most_the_clip(
    plan_of, model, counts, scale, data
):
    clip = data.draw(st.sampled_from([0.05, 1.0]))
    plan = plan_of(model, clip, weight=1e3)
    weights = weights_of(plan, scale=scale)
    examples = customers(counts, 64, seed=len(counts))
    place = data.draw(st.integers(0, len(counts) - 1))
    first = sum(counts[:place])
    own = slice(first, first + counts[place])
    rest = Examples(
        np.delete(examples.features, own, axis=0),
        np.delete(examples.labels, own),
        counts=np.delete(examples.counts, place),
        most=64,
    )
    moved = np.linalg.norm(trained(plan, weights, examples) - trained(plan, weights, rest))
    assert moved <= RATE * clip / PUBLIC_N + 1e-12 * scale


@pytest.fixture(scope="session")
def step_on(written, contract, features, pseudonymiser, plan_of):
    """What a step makes of rows in a file, under a contract of at most 64 rows of a customer."""
    rule = {"rows_per_customer": RowsRule(most=64, rule="drawn/1")}
    plan, under, inputs = plan_of(clip=0.1), contract.model_copy(update=rule), Inputs(features)

    def of(found):
        nobody, today = frozenset().__contains__, date(2026, 3, 2)
        source = Source(written(found))
        examples = load_examples(source, under, inputs, pseudonymiser, nobody, today)
        return trained(plan, weights_of(plan, inputs=7), examples)

    return of


@QUIET
@given(st.integers(1, 50), st.sampled_from(["Yes", "No"]), st.integers(0, 5))
def test_fifty_rows_of_one_customer_in_a_file_move_the_sum_by_at_most_the_clip(
    rows, step_on, count, label, others
):
    """The real path: rows in a file, the reader, a step; with the customer added, and removed."""
    own = [{**rows[0], "tenure": str(n), "churn": label} for n in range(count)]
    without, alone = step_on(rows[1 : others + 1]), step_on(own)
    moved = np.linalg.norm(step_on(rows[1 : others + 1] + own) - without)
    limit = RATE * 0.1 / PUBLIC_N
    assert moved <= limit
    assert np.linalg.norm(alone) == pytest.approx(moved, abs=1e-12)


# Padding


def terms():
    return Terms(1.0, 1e-30, 0.7, 1.0, KeyStream(bytes(32)))


def stepped(kind, module, data, count):
    take_step(kind(module, terms()), mean_of_rows(task.losses), data, torch.arange(count), rows=16)
    return torch.cat([p.grad.flatten() for p in module.parameters()])


@pytest.mark.parametrize("kind", ENGINES)
def test_what_stands_in_padding_rows_is_exactly_without_effect(plan_of, kind):
    plan, examples = plan_of("mlp"), customers([1, 3, 4, 2], most=4)
    counts = torch.from_numpy(examples.counts)
    parts = [torch.from_numpy(v) for v in (examples.features, examples.labels)]
    everybody = torch.arange(4)
    rows, targets = (
        made(part, counts, 4).index_select(0, everybody)
        for made, part in zip((PaddedRows, PaddedTargets), parts, strict=True)
    )
    is_padding = targets[..., 1] == 0
    assert is_padding.sum(dim=1).tolist() == [3, 1, 0, 2]
    found = []
    for filling in (None, 0.0, -0.9, 1e6):
        module = task.build(plan.model, INPUTS)
        load_into(module, weights_of(plan))
        padded = rows.clone()
        if filling is not None:
            padded[is_padding] = filling
        found.append(stepped(kind, module, (padded, targets), 4))
    assert all(one.equal(found[0]) for one in found)


def test_padding_repeats_the_customers_own_last_row_and_is_no_number_only_with_it():
    rows = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    counts = torch.tensor([2, 1])
    padded = PaddedRows(rows, counts, 3).index_select(0, torch.tensor([1, 0, 0]))
    assert padded[..., 0].tolist() == [[3, 3, 3], [1, 2, 2], [1, 2, 2]]
    shares = PaddedTargets(rows[:, 0], counts, 3).index_select(0, torch.tensor([1, 0]))[..., 1]
    assert shares.tolist() == [[1, 0, 0], [0.5, 0.5, 0]]


# What a batch says


def test_no_shape_and_no_last_bit_says_how_many_rows_others_have(plan_of, monkeypatch):
    seen, shapes = [], set()

    class Watched(BookKeepingOptimizer):
        def clip_and_accumulate(self):
            seen.append(self._books.parts().numpy())
            super().clip_and_accumulate()

    class Shaped(BookKeeping):
        def backward(self, inputs, losses, count):
            shapes.add(tuple(inputs.shape))
            super().backward(inputs, losses, count)

    monkeypatch.setattr(engines, "BookKeepingOptimizer", Watched)
    monkeypatch.setattr(engines, "BookKeeping", Shaped)
    plan = plan_of("mlp")
    weights, everyone = weights_of(plan), customers([2, 5, 1, 8] * 60, most=8)
    trained(plan, weights, everyone, public_n=200)
    together = np.concatenate(seen)
    starts = np.cumsum(everyone.counts) - everyone.counts
    for place in (0, 1, 2, 111, 112, 239):
        own = slice(starts[place], starts[place] + everyone.counts[place])
        alone = Examples(
            everyone.features[own],
            everyone.labels[own],
            counts=everyone.counts[place : place + 1],
            most=8,
        )
        seen.clear()
        trained(plan, weights, alone, public_n=200)
        assert np.array_equal(seen[0][0], together[place])
    assert shapes == {(128, 8, INPUTS)}


def test_a_machine_that_rounds_by_how_many_customers_there_are_is_refused(plan_of, monkeypatch):
    class Counting(BookKeeping):
        """Norms are found for the customers without the padding: nobody may notice."""

        def parts(self):
            found = super().parts()
            return found * (1 + 2.0**-50 * len(found))

    plan, some = plan_of("mlp"), customers([2, 5], most=8)
    trained(plan, weights_of(plan), some)
    monkeypatch.setattr(engines, "BookKeeping", Counting)
    with pytest.raises(InvalidRecordError) as error:
        trained(plan, weights_of(plan), some)
    assert error.value.code == "privacy.examples_mixed"


def test_a_unit_without_customers_answers_with_noise_like_any_other(plan_of):
    plan, most = plan_of("mlp"), 8
    nobody = Examples(
        np.zeros((0, INPUTS)), np.zeros(0), counts=np.zeros(0, dtype=np.int64), most=most
    )
    noise, sampling = KeyStream(bytes(32)), streams()[1]
    weights = weights_of(plan)
    update = flat(train_locally(task, plan, PUBLIC_N, weights, nobody, (noise, sampling)))
    assert np.isfinite(update).all()
    assert np.count_nonzero(update) == len(update)


def test_customers_are_sampled_whatever_their_rows(plan_of):
    """One coin for each customer, not for each row."""
    asked = []

    class Coins(KeyStream):
        def below(self, count, rate):
            asked.append(count)
            return super().below(count, rate)

    plan = plan_of()
    for counts in ([3, 1, 8], [8, 8, 8]):
        examples = customers(counts, most=8)
        both = Silent(bytes(32)), Coins(bytes(32))
        train_locally(task, plan, PUBLIC_N, weights_of(plan), examples, both)
    assert asked == [3, 3]
