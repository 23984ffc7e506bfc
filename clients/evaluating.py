"""Local evaluation: scores of the rows that were set aside, counted with exact noise.

Guarantees: what is returned depends on customers only through tables of counts, in each of which a
    customer counts once, with discrete Laplace noise; their number and sizes are constants of the
    plan. Whatever the weights are, a customer without a finite score counts in a fixed bin. A
    customer's score is the same to the last bit whoever else is read: scores near a bin's edge
    would else move others (ADR 0046). Hence all batches have one shape, as in training, and each
    evaluation tries out that a row's place in them does not matter.

A customer with several rows has the mean of their scores, and the label of the first of them by the
contract's rule.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clients.attributes import groups_of
from clients.data import Examples
from clients.training import filled_up
from fedcore.errors import InvalidRecordError
from fedcore.evaluations import EvaluationPlan
from fedcore.fairness_tables import TableLayout, count_outcomes
from fedcore.plans import TrainingPlan
from fedcore.privacy.discrete import discrete_laplace
from fedcore.privacy.noise import KeyStream
from fedcore.score_tables import BINS, score_table
from fedcore.tasks.task import Scorer, load_into, load_scorer
from fedcore.weights import Weights

_BATCH = 1024
Counts = NDArray[np.int64]
Model = tuple[TrainingPlan, Weights]
Scores = NDArray[np.float64]


def evaluate_locally(
    plan: EvaluationPlan, models: Sequence[Model], examples: Examples, stream: KeyStream
) -> tuple[tuple[int, ...], ...]:
    """Return the plan's tables with noise, in its order.

    Args: `models` are in the plan's order.
    Raises: InvalidRecordError `privacy.examples_mixed` on a machine that rounds a row by its place
        in a batch.
    """
    return noised(plan, tables_of(plan, models, examples), stream)


def noised(
    plan: EvaluationPlan, tables: Sequence[Counts], stream: KeyStream
) -> tuple[tuple[int, ...], ...]:
    """Return the plan's tables with discrete Laplace noise, each with its part of epsilon."""
    # An epsilon is read as it is written: no table gets more than its exact part.
    epsilon = Fraction(repr(plan.epsilon)) / plan.tables
    found = (table + discrete_laplace(len(table), epsilon, stream) for table in tables)
    return tuple(tuple(table.tolist()) for table in found)


def tables_of(plan: EvaluationPlan, models: Sequence[Model], examples: Examples) -> list[Counts]:
    """Return the plan's tables without noise: they must not leave the unit. That of groups is of
    the first model.
    """
    inputs = [examples.features, examples.challenger]
    labels = _of_customers(examples, examples.labels, _first)
    scores = [
        _of_customers(examples, scores_of(load_scorer(one.task), one, weights, features), _mean)
        for (one, weights), features in zip(models, inputs, strict=False)
        if features is not None
    ]
    tables = [score_table(labels, each, BINS[plan.bins]) for each in scores]
    if plan.fairness is not None:
        tables.append(_group_table(plan.fairness, examples, labels, scores[0]))
    return tables


def _group_table(layout: TableLayout, examples: Examples, labels: Scores, scores: Scores) -> Counts:
    """Return the table of outcomes by group; of several rows of a customer the first one tells."""
    groups = [groups_of(examples, attribute) for attribute in layout.attributes]
    # Each Example is one customer, whatever they are called.
    customers = [str(place) for place in range(examples.customers)]
    return np.array(count_outcomes(layout, customers, groups, labels, scores), dtype=np.int64)


def scores_of(task: Scorer, plan: TrainingPlan, weights: Weights, features: Scores) -> Scores:
    """Return a model's score of each row, shape (rows,).

    Raises: InvalidRecordError `privacy.examples_mixed`.
    """
    inputs = features.shape[1]
    require_separate_rows(task, lambda: task.build(plan.model, inputs), inputs)
    module = task.build(plan.model, inputs)
    load_into(module, weights)
    found = np.empty(len(features))
    for start in range(0, len(features), _BATCH):
        rows = torch.from_numpy(features[start : start + _BATCH])
        scores = _scores(task, module, filled_up(rows, _BATCH))
        found[start : start + len(rows)] = scores[: len(rows)].numpy()
    return found


def require_separate_rows(task: Scorer, build: Callable[[], nn.Module], inputs: int) -> None:
    """Refuse a model whose score of a row depends on its place in a batch, or on who else is there.

    Guarantees: a function of the model's kind, of public weights and rows whose sums have to be
        rounded, and of this machine's arithmetic.
    Raises: InvalidRecordError `privacy.examples_mixed`.
    """
    module = build()
    with torch.no_grad():
        for parameter in module.parameters():
            waves = torch.sin(torch.arange(1, parameter.numel() + 1, dtype=parameter.dtype))
            parameter.copy_(waves.view_as(parameter))
    row = torch.sin(torch.arange(1, inputs + 1, dtype=torch.float64))
    same = row.expand(_BATCH, inputs).clone()
    alone = torch.zeros_like(same)
    alone[0] = row
    beside = same.clone()
    beside[-1] = row.flip(0)
    everywhere = _scores(task, module, same)
    first = everywhere[:1].expand(_BATCH)
    if not (
        torch.equal(everywhere, first)
        and torch.equal(_scores(task, module, beside)[:-1], first[:-1])
        and torch.equal(_scores(task, module, alone)[:1], first[:1])
    ):
        raise InvalidRecordError(
            "privacy.examples_mixed",
            "a row's score depends on the others in its batch, or on its place there",
        )


def _scores(task: Scorer, module: nn.Module, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return task.scores(module(rows))


def _of_customers(
    examples: Examples, values: Scores, one_of: Callable[[Scores, Counts], Scores]
) -> Scores:
    """Return one value for each customer, from those of rows."""
    if examples.counts is None:
        return values
    padded = np.zeros((len(examples.counts), examples.most))
    padded[np.arange(examples.most) < examples.counts[:, None]] = values
    return one_of(padded, examples.counts)


def _first(padded: Scores, _counts: Counts) -> Scores:
    return padded[:, 0]


def _mean(padded: Scores, counts: Counts) -> Scores:
    # Added up row by row, and not by numpy's sum, whose order is its own affair.
    total = np.zeros(len(padded))
    for column in padded.T:
        total = total + column
    return total / counts
