"""Local evaluation: scores of the rows that were set aside, counted with exact noise.

Guarantees: what is returned depends on customers only through tables of counts, in each of which a
    customer counts once, with discrete Laplace noise; their number and sizes are constants of the
    plan. Whatever the weights are, a customer without a finite score counts in a fixed bin, and
    its score is the same whoever else is read.

A customer with several rows has the mean of their scores, and the label of the first of them by the
contract's rule.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from torch import Tensor, nn

from clients.attributes import groups_of
from clients.data import Examples
from clients.measuring import Counts, Numbers, first_of, mean_of, measured, of_customers
from fedcore.evaluations import EvaluationPlan
from fedcore.fairness_tables import TableLayout, count_outcomes
from fedcore.plans import TrainingPlan
from fedcore.privacy.discrete import discrete_laplace
from fedcore.privacy.noise import KeyStream
from fedcore.score_tables import BINS, score_table
from fedcore.tasks.task import Scorer, load_scorer
from fedcore.weights import Weights

Model = tuple[TrainingPlan, Weights]


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
    labels = of_customers(examples, examples.labels, first_of)
    scores = [
        of_customers(examples, scores_of(load_scorer(one.task), one, weights, features), mean_of)
        for (one, weights), features in zip(models, inputs, strict=False)
        if features is not None
    ]
    tables = [score_table(labels, each, BINS[plan.bins]) for each in scores]
    if plan.fairness is not None:
        tables.append(_group_table(plan.fairness, examples, labels, scores[0]))
    return tables


def _group_table(
    layout: TableLayout, examples: Examples, labels: Numbers, scores: Numbers
) -> Counts:
    """Return the table of outcomes by group; of several rows of a customer the first one tells."""
    groups = [groups_of(examples, attribute) for attribute in layout.attributes]
    # Each Example is one customer, whatever they are called.
    customers = [str(place) for place in range(examples.customers)]
    return np.array(count_outcomes(layout, customers, groups, labels, scores), dtype=np.int64)


def scores_of(task: Scorer, plan: TrainingPlan, weights: Weights, features: Numbers) -> Numbers:
    """Return a model's score of each row, shape (rows,).

    Raises: InvalidRecordError `privacy.examples_mixed`.
    """
    inputs = features.shape[1]

    def measure(module: nn.Module, rows: Tensor) -> Tensor:
        return task.scores(module(rows))

    return measured(measure, lambda: task.build(plan.model, inputs), weights, features)
