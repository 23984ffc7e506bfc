"""What the simulator alone can measure: models on a test part that no unit holds, and baselines.

Nodes send no metrics; nothing here exists in a deployment. Where customers have several rows, each
row is scored, and a customer's together count as one: in the AUC, and in what baselines learn.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
)
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from clients.data import Examples, Inputs, load_examples
from clients.pseudonyms import KEY_BYTES, Pseudonymiser
from clients.sources import Source
from clients.splits import EVERYTHING, Extent
from fedcore.contracts import Contract
from fedcore.plans import Feature, TrainingPlan
from fedcore.tasks.task import load_into, load_scorer, shapes_of
from fedcore.weights import decode_weights
from simulations.population import Population

# What is computed exactly, by the names that a federated evaluation gives it.
EXACT = ("roc_auc", "average_precision", "log_loss", "brier", "prevalence")
_GRID = {"logisticregression__C": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]}
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Baselines:
    """Test AUC without federation: pooled and not private, and each unit alone and not private.

    `pooled_candidates` are the two feature maps; `pooled` is the one with the better inner
    cross-validation (`inner_scores`), never the better test.
    """

    pooled: float
    pooled_candidates: dict[str, float]
    inner_scores: dict[str, float]
    alone: dict[str, float]


class HeldOut:
    """The encoded test part of a population."""

    def __init__(
        self, population: Population, plan: TrainingPlan, contract: Contract, scratch: Path
    ) -> None:
        self._plan = plan
        self._examples = encoded(population.test, plan, contract, scratch)

    def auc(self, model: bytes) -> float:
        """Return the ROC AUC of a model (safetensors) on the test part."""
        return _auc(self._examples, row_scores(self._plan, self._examples, model))

    def figures(self, model: bytes) -> dict[str, float]:
        """Return the exact numbers of a model (safetensors) on the test part."""
        scores = row_scores(self._plan, self._examples, model)
        return figures(*by_customer(self._examples, scores))

    def auc_of(self, fitted: Pipeline) -> float:
        """Return the ROC AUC of a fitted pipeline on the encoded test part."""
        return _auc(self._examples, fitted.decision_function(self._examples.features))


def row_scores(plan: TrainingPlan, examples: Examples, model: bytes) -> Matrix:
    """Return a model's score of each row, shape (rows,)."""
    task = load_scorer(plan.task)
    module = task.build(plan.model, examples.features.shape[1])
    load_into(module, decode_weights(model, shapes_of(module), 1e300))
    with torch.no_grad():
        scores: Matrix = task.scores(module(torch.from_numpy(examples.features))).numpy()
    return scores


def by_customer(examples: Examples, scores: Matrix) -> tuple[Matrix, Matrix]:
    """Return label and score of each customer as a unit counts them: of several rows the first
    one's label, and the scores' mean.
    """
    if examples.counts is None:
        return examples.labels, scores
    starts = np.cumsum(examples.counts) - examples.counts
    return examples.labels[starts], np.add.reduceat(scores, starts) / examples.counts


def figures(labels: Matrix, scores: Matrix) -> dict[str, float]:
    """Return the numbers of `EXACT`; none where all labels are of one kind."""
    if len(set(labels)) < 2:
        return {}
    found = (
        roc_auc_score(labels, scores),
        average_precision_score(labels, scores),
        log_loss(labels, scores),
        brier_score_loss(labels, scores),
        labels.mean(),
    )
    return dict(zip(EXACT, map(float, found), strict=True))


def encoded(
    rows: pl.DataFrame,
    plan: TrainingPlan,
    contract: Contract,
    scratch: Path,
    extent: Extent = EVERYTHING,
) -> Examples:
    """Return rows through the nodes' own reader and feature map, nobody excluded."""
    scratch.parent.mkdir(parents=True, exist_ok=True)
    rows.write_csv(scratch)
    pseudonymiser = Pseudonymiser(bytes(KEY_BYTES), contract.subject)
    today = datetime.now(UTC).date()
    source, nobody = Source(scratch), frozenset[str]()
    inputs = Inputs(plan.features, extent=extent)
    return load_examples(source, contract, inputs, pseudonymiser, nobody.__contains__, today)


def baselines(
    population: Population, plan: TrainingPlan, contract: Contract, scratch: Path, test: HeldOut
) -> Baselines:
    """Return what pooled training and each unit alone reach, without privacy."""
    train = encoded(population.train, plan, contract, scratch)
    public = _searched(make_pipeline(LogisticRegression(max_iter=2000)), train)
    plain_train, plain_test = _plain(population, plan, contract, scratch)
    plain = _searched(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)), plain_train
    )
    candidates = {
        "public_bounds": test.auc_of(public.best_estimator_),
        "plain": _auc(plain_test, plain.decision_function(plain_test.features)),
    }
    inner = {"public_bounds": float(public.best_score_), "plain": float(plain.best_score_)}
    best = max(inner, key=lambda name: inner[name])
    alone = {
        unit: _alone(encoded(population.rows_of(unit), plan, contract, scratch), test)
        for unit in population.units
    }
    return Baselines(
        pooled=candidates[best], pooled_candidates=candidates, inner_scores=inner, alone=alone
    )


def _alone(own: Examples, test: HeldOut) -> float:
    if len(set(own.labels)) < 2:
        return 0.5
    fitted = make_pipeline(LogisticRegression(max_iter=2000)).fit(
        own.features, own.labels, logisticregression__sample_weight=own.shares
    )
    return test.auc_of(fitted)


def _auc(examples: Examples, scores: Matrix) -> float:
    return float(roc_auc_score(examples.labels, scores, sample_weight=examples.shares))


def _searched(pipeline: Pipeline, train: Examples) -> GridSearchCV:
    counts = train.counts
    whose = None if counts is None else np.repeat(np.arange(len(counts)), counts)
    folds = 5 if whose is None else StratifiedGroupKFold(5)
    search = GridSearchCV(pipeline, _GRID, scoring="roc_auc", cv=folds)
    return search.fit(
        train.features,
        train.labels,
        groups=whose,
        logisticregression__sample_weight=train.shares,
    )


def _plain(
    population: Population, plan: TrainingPlan, contract: Contract, scratch: Path
) -> tuple[Examples, Examples]:
    """Return all contract fields, one-hot or as they are, of both parts, with the labels.

    Of customers with several rows it is the reader that says which rows count.
    """
    if contract.rows_per_customer is None:
        train, test = _plain_features(population, contract)
        return (
            Examples(train, _labels(population.train, contract)),
            Examples(test, _labels(population.test, contract)),
        )
    features = tuple(
        Feature(
            field=field.name,
            encoding="onehot" if field.categories else "scale",
            levels=field.categories,
            absent=None if field.availability is None else "leave_out",
        )
        for field in contract.fields
    )
    wide = plan.model_copy(update={"features": features})
    return (
        encoded(population.train, wide, contract, scratch),
        encoded(population.test, wide, contract, scratch),
    )


def _labels(rows: pl.DataFrame, contract: Contract) -> Matrix:
    positive = rows[contract.label.name] == contract.label.positive
    return positive.to_numpy().astype(np.float64)


def _plain_features(population: Population, contract: Contract) -> tuple[Matrix, Matrix]:
    """Return all contract fields, one-hot or as they are, of both parts."""
    both = pl.concat([population.train, population.test])
    columns = []
    for field in contract.fields:
        if field.kind == "numeric":
            values = both[field.name].cast(pl.Float64, strict=False).fill_null(0.0)
            columns.append(values.to_numpy()[:, None])
        else:
            levels = np.array(field.categories, dtype=object)
            columns.append((both[field.name].to_numpy()[:, None] == levels).astype(np.float64))
    matrix = np.concatenate(columns, axis=1)
    cut = population.train.height
    return matrix[:cut], matrix[cut:]
