"""What pooled customers without privacy reach: logistic regression, and boosting."""

from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedcore.contracts import Contract
from fedcore.plans import TrainingPlan
from simulations.population import Population
from simulations.scoring import HeldOut, baselines


def searched_logistic(split: Any, plan: TrainingPlan) -> float:
    """Return the AUC of a report's own reference: two feature maps, seven penalties, by inner
    cross-validation.
    """
    population, contract = split.population, split.scenario.contract
    scratch = split.scratch
    test = HeldOut(population, plan, contract, scratch)
    return baselines(population, plan, contract, scratch, test).pooled


def pooled(
    population: Population, contract: Contract, encoded: tuple[Any, Any, Any, Any]
) -> dict[str, float]:
    """Return test AUCs with scikit-learn's defaults.

    `logistic` is the better, by inner cross-validation, of standardised fields and the plan's
    inputs, which are `encoded` as training features and labels, then those of the test.
    """
    train, labels, test, test_labels = encoded
    plain_train, plain_test = (
        _plain(rows, contract) for rows in (population.train, population.test)
    )
    plain_labels, plain_test_labels = (
        (rows[contract.label.name] == contract.label.positive).to_numpy().astype(float)
        for rows in (population.train, population.test)
    )
    plain = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    on_inputs = LogisticRegression(max_iter=2000)
    inner = [
        cross_val_score(model, *data, scoring="roc_auc", cv=3).mean()
        for model, data in ((plain, (plain_train, plain_labels)), (on_inputs, (train, labels)))
    ]
    found = {
        "logistic_plain": _auc(plain.fit(plain_train, plain_labels), plain_test, plain_test_labels),
        "logistic_inputs": _auc(on_inputs.fit(train, labels), test, test_labels),
    }
    best = "logistic_plain" if inner[0] > inner[1] else "logistic_inputs"
    boosting = HistGradientBoostingClassifier(random_state=0).fit(plain_train, plain_labels)
    return {
        **found,
        "logistic": found[best],
        "boosting": _auc(boosting, plain_test, plain_test_labels),
    }


def _auc(fitted: Any, features: np.ndarray, labels: np.ndarray) -> float:
    return float(roc_auc_score(labels, fitted.predict_proba(features)[:, 1]))


def _plain(rows: pl.DataFrame, contract: Contract) -> np.ndarray:
    """Return every field that may be an input, as it is or one-hot."""
    columns = []
    for field in contract.fields:
        if field.sensitivity != "none":
            continue
        if field.kind == "numeric":
            values = (
                rows[field.name].cast(pl.Float64, strict=False).fill_null(field.missing_value or 0)
            )
            columns.append(values.to_numpy()[:, None])
        else:
            levels = np.array(field.categories, dtype=object)
            columns.append((rows[field.name].to_numpy()[:, None] == levels).astype(np.float64))
    return np.concatenate(columns, axis=1)
