"""Losses that are weighed and penalised by group are clipped like any other, and are right."""

import hashlib
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.attributes import groups_of
from clients.checking import check_locally
from clients.data import Examples, Inputs, load_examples
from clients.evaluating import tables_of
from clients.mitigating import Mitigated, mitigated_labels
from clients.sources import Source
from clients.training import train_locally
from fedcore.contracts import RowsRule
from fedcore.errors import InvalidRecordError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_tables import TableLayout
from fedcore.learning_rules import Algorithm
from fedcore.mitigation import CovariancePenalty, GroupPenalty, GroupWeight, Reweighing
from fedcore.plans import ModelSpec
from fedcore.privacy import engines
from fedcore.privacy.engines import BookKeeping, PerExample
from fedcore.privacy.noise import KeyStream
from fedcore.rounds import GAIN_SCALE
from fedcore.score_tables import DEFAULT_BINS
from fedcore.tasks.churn import task
from fedcore.tasks.task import load_into, shapes_of

PUBLIC_N, INPUTS, RATE = 48, 4, 0.5
MODELS = {
    "logistic": ModelSpec(kind="logistic"),
    "mlp": ModelSpec(kind="mlp", hidden=(7, 5)),
}
SEX = SensitiveAttribute(name="gender", groups=("f", "m"))
WEIGHED = Reweighing(
    kind="reweighing",
    attribute=SEX,
    weights=(
        GroupWeight(group="f", positive=True, weight=2.5),
        GroupWeight(group="f", positive=False, weight=0.5),
        GroupWeight(group="m", positive=True, weight=0.25),
    ),
)
PENALISED = CovariancePenalty(
    kind="covariance",
    attribute=SEX,
    penalties=(
        GroupPenalty(group="f", share=0.25, strength=0.75),
        GroupPenalty(group="m", share=0.5, strength=-0.5),
    ),
)
LARGEST = {
    "reweighing": Reweighing(
        kind="reweighing",
        attribute=SEX,
        weights=(GroupWeight(group="f", positive=True, weight=1e3),),
    ),
    "covariance": CovariancePenalty(
        kind="covariance",
        attribute=SEX,
        penalties=(GroupPenalty(group="f", share=0.01, strength=100.0),),
    ),
}
BOTH = pytest.mark.parametrize("mitigation", [WEIGHED, PENALISED], ids=lambda one: one.kind)
QUIET = hypothesis_settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Silent(KeyStream):
    """A noise stream without noise."""

    def normals(self, count, *_turn):
        return np.zeros(count)


@pytest.fixture(scope="session")
def plan_of(plan):
    """The plan with a mitigation, another model and clip."""

    def of(mitigation, model="logistic", clip=1.0, weight=None):
        return plan.model_copy(
            update={
                "model": MODELS[model],
                "algorithm": Algorithm(local_learning_rate=RATE, positive_weight=weight),
                "privacy": plan.privacy.model_copy(update={"l2_clip_norm": clip}),
                "mitigation": mitigation,
            }
        )

    return of


def customers(count, seed=0, most=1):
    """Customers of both groups, of none that is named, and of whom it is not known."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, most + 1, size=count)
    rows = int(counts.sum())
    labels = (rng.uniform(size=rows) < 0.4).astype(float)
    cells = [("f", "m", "x", None)[draw] for draw in rng.integers(0, 4, size=rows)]
    return Examples(
        rng.uniform(-1, 1, size=(rows, INPUTS)),
        labels,
        counts=None if most == 1 else counts,
        most=most,
        groups=pl.DataFrame({"gender": cells}, schema={"gender": pl.String}),
    )


def without(examples, place):
    return Examples(
        np.delete(examples.features, place, axis=0),
        np.delete(examples.labels, place),
        groups=examples.groups.filter(pl.Series(np.arange(len(examples.labels)) != place)),
    )


def weights_of(plan, scale=1.0, seed=2):
    rng = np.random.default_rng(seed)
    shapes = shapes_of(task.build(plan.model, INPUTS))
    return {name: scale * rng.normal(size=shape) for name, shape in shapes.items()}


def flat(values):
    return np.concatenate([values[name].ravel() for name in sorted(values)])


def trained(plan, weights, examples):
    streams = Silent(bytes(32)), KeyStream(hashlib.sha256(b"sampling").digest())
    return flat(train_locally(task, plan, PUBLIC_N, weights, examples, streams))


def slow_gradients(plan, weights, examples):
    """The clipped gradient of each customer, a row at a time in torch's own words."""
    module = task.build(plan.model, INPUTS)
    load_into(module, weights)
    names, parameters = zip(*module.named_parameters(), strict=True)
    counts = [1] * len(examples.labels) if examples.counts is None else examples.counts.tolist()
    found, first, clip = [], 0, plan.privacy.l2_clip_norm
    for count in counts:
        group = examples.groups["gender"][first] or "unknown"
        rows = []
        for place in range(first, first + count):
            label = examples.labels[place]
            logit = module(torch.from_numpy(examples.features[place])).squeeze()
            loss = torch.nn.functional.softplus(-logit if label > 0 else logit)
            loss = loss * plan.mitigation.weight(group, positive=bool(label > 0))
            loss = loss * (plan.algorithm.positive_weight or 1.0 if label > 0 else 1.0)
            pull = 0.0
            if isinstance(plan.mitigation, CovariancePenalty) and group in SEX.groups:
                for each in plan.mitigation.penalties:
                    pull += each.strength * ((group == each.group) - each.share)
            gradients = torch.autograd.grad(loss + pull * logit, parameters)
            rows.append(flat({n: g.numpy() for n, g in zip(names, gradients, strict=True)}))
        mean, first = np.mean(rows, axis=0), first + count
        found.append(mean * min(1.0, clip / np.linalg.norm(mean)))
    return np.array(found)


@BOTH
@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("engine", [BookKeeping, PerExample])
@pytest.mark.parametrize("most", [1, 3])
def test_a_step_is_the_clipped_sum_of_what_each_customer_alone_asks_for(
    plan_of, monkeypatch, mitigation, model, engine, most
):
    monkeypatch.setattr(engines, "engine_for", engine)
    monkeypatch.setattr("clients.training.engine_for", engine)
    plan, examples = plan_of(mitigation, model, clip=0.4, weight=1.5), customers(23, most=most)
    weights = weights_of(plan)
    expected = slow_gradients(plan, weights, examples).sum(axis=0) * (-RATE / PUBLIC_N)
    assert trained(plan, weights, examples) == pytest.approx(expected, rel=1e-4, abs=1e-9)


@QUIET
@given(
    st.sampled_from(sorted(LARGEST)),
    st.sampled_from(sorted(MODELS)),
    st.integers(0, 10**6),
    st.sampled_from([1.0, 1e3]),
)
def test_the_largest_weights_and_strengths_move_a_step_by_no_more_than_the_clip(
    plan_of, kind, model, seed, scale
):
    plan, examples = plan_of(LARGEST[kind], model, clip=0.7), customers(6, seed)
    weights = weights_of(plan, scale, seed)
    whole = trained(plan, weights, examples)
    for place in range(6):
        moved = np.linalg.norm(whole - trained(plan, weights, without(examples, place)))
        assert moved <= RATE * 0.7 / PUBLIC_N + 1e-12 * scale


def test_weights_of_one_and_no_strength_train_to_the_same_bits_as_without(plan_of):
    examples = customers(40)
    for none in (
        WEIGHED.model_copy(update={"weights": (GroupWeight(group="f", positive=True, weight=1),)}),
        PENALISED.model_copy(
            update={"penalties": (GroupPenalty(group="f", share=0.5, strength=0.0),)}
        ),
    ):
        plan = plan_of(none, "mlp", weight=1.5)
        plain = plan.model_copy(update={"mitigation": None})
        weights = weights_of(plan)
        assert np.array_equal(trained(plan, weights, examples), trained(plain, weights, examples))


@BOTH
def test_what_a_customer_asks_for_depends_on_no_other_customer(mitigation):
    examples = customers(12)
    whole = mitigated_labels(examples, mitigation)
    for place in range(12):
        rest = mitigated_labels(without(examples, place), mitigation)
        assert np.array_equal(np.delete(whole, place, axis=0), rest)


def test_the_slope_is_autograds(plan_of):
    examples = customers(30)
    for mitigation in (WEIGHED, PENALISED):
        targets = torch.from_numpy(mitigated_labels(examples, mitigation))
        outputs = torch.linspace(-8, 8, 30, dtype=torch.float64)[:, None].requires_grad_()
        losses = Mitigated(task.losses)
        slopes = losses.slopes(outputs.detach(), targets)
        assert slopes is not None
        (expected,) = torch.autograd.grad(losses(outputs, targets).sum(), outputs)
        assert torch.allclose(slopes, expected, atol=1e-15)


def test_a_field_that_was_not_read_is_refused(plan_of):
    examples, plan = customers(5), plan_of(WEIGHED)
    for groups in (None, pl.DataFrame({"other": ["f"] * 5})):
        with pytest.raises(InvalidRecordError, match=r"fairness\.table_invalid"):
            trained(plan, weights_of(plan), replace(examples, groups=groups))
    assert len(trained(plan, weights_of(plan), examples)) == INPUTS + 1


# From a source


COLUMNS = ("customer_id", "tenure", "charges", "plan", "gender", "churn")
CHARGES = SensitiveAttribute(name="charges", groups=("low", "high", "unknown"), edges=(50.0,))


def row(customer, number):
    charges = "" if number % 7 == 0 else str(number % 100)
    label, gender = "Yes" if number % 2 else "No", "female" if number % 3 else "male"
    cells = (customer, str(number % 72), charges, "basic", gender, label)
    return dict(zip(COLUMNS, cells, strict=True))


@pytest.fixture
def examples(features, contract, pseudonymiser, written, today):
    """Customers with one to three rows, of whose charges the groups are told by."""
    rows = [row(f"C{n % 20:03d}", n * 13) for n in range(50)]
    rule = RowsRule.model_validate({"most": 3, "rule": "drawn/1"})
    under = contract.model_copy(update={"rows_per_customer": rule})
    inputs = Inputs(lean(features), groups=("charges",))
    source = Source(written(rows, COLUMNS))
    return load_examples(source, under, inputs, pseudonymiser, lambda *_: False, today)


def lean(features):
    return tuple(feature for feature in features if feature.field == "tenure")


def test_several_rows_have_the_group_that_the_audit_counts_the_customer_in(
    plan, features, examples, digest
):
    groups = groups_of(examples, CHARGES)
    assert set(groups) == set(CHARGES.groups)
    assert examples.counts.max() > 1
    pulls = CovariancePenalty(
        kind="covariance",
        attribute=CHARGES,
        penalties=(GroupPenalty(group="high", share=0.5, strength=1.0),),
    )
    targets = mitigated_labels(examples, pulls)
    assert np.array_equal(targets[:, 0], examples.labels)
    assert np.array_equal(
        targets[:, 2], np.repeat([pulls.pull(group) for group in groups], examples.counts)
    )
    asked = EvaluationPlan(
        title="t",
        models=(EvaluatedModel(artifact=digest("model"), plan=digest("plan")),),
        rows="holdout",
        epsilon=1.0,
        delta=1e-5,
        minimum_units=2,
        fairness=TableLayout(attributes=(CHARGES,), threshold=0.5),
    )
    small = plan.model_copy(update={"features": lean(features), "model": MODELS["logistic"]})
    weights = {"0.weight": np.ones((1, examples.features.shape[1])), "0.bias": np.zeros(1)}
    scores, table = tables_of(asked, [(small, weights)], examples)
    assert scores.shape == (DEFAULT_BINS.size,)
    counted = table.reshape(3, -1).sum(axis=1)
    assert counted.tolist() == [groups.count(group) for group in CHARGES.groups]


def mitigated_losses(plan, weights, examples):
    """The loss of each customer by the plan, a row each, in numpy."""
    logits = examples.features @ weights["0.weight"][0] + weights["0.bias"][0]
    found = []
    for logit, label, cell in zip(logits, examples.labels, examples.groups["gender"], strict=True):
        group, mitigation = cell or "unknown", plan.mitigation
        loss = np.logaddexp(0, -logit if label > 0 else logit)
        loss *= mitigation.weight(group, positive=bool(label > 0)) * (1.5 if label > 0 else 1.0)
        found.append(loss + mitigation.pull(group) * logit)
    return np.array(found)


@BOTH
def test_a_check_counts_the_loss_that_the_plan_trains_by(plan_of, mitigation):
    plan = plan_of(mitigation, weight=1.5)
    terms = plan.privacy.model_copy(update={"sampling_rate": 1.0, "local_steps": 1})
    plan, examples = plan.model_copy(update={"privacy": terms}), customers(40)
    models = weights_of(plan, 0.3, 1), weights_of(plan, 0.3, 2)
    before, after = (mitigated_losses(plan, each, examples) for each in models)
    streams = Silent(bytes(32)), KeyStream(bytes(32))
    found = check_locally(task, plan, models, examples, streams)
    assert found == pytest.approx(np.clip(before - after, -1, 1).sum() * GAIN_SCALE, abs=40)
    plain = plan.model_copy(update={"mitigation": None})
    assert abs(check_locally(task, plain, models, examples, streams) - found) > 1000
