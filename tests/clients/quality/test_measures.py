"""Every measure against another way to compute it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, entropy
from scipy.stats.contingency import association
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score, roc_auc_score

from clients.quality import logistic
from clients.quality.measures import (
    auc_of_counts,
    auc_with_error,
    chance,
    cramers_v,
    excess,
    shared_information,
    table_of,
)

TABLES = st.tuples(st.integers(2, 5), st.integers(2, 4)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(0, 60), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


def pairs(table):
    """The table as one pair of codes for each row that it counts."""
    left, right = np.nonzero(table)
    counts = table[left, right].astype(int)
    return np.repeat(left, counts), np.repeat(right, counts)


@hypothesis_settings(max_examples=60)
@given(TABLES)
def test_measures_agree_with_independent_formulas_on_any_table(cells):
    table = np.array(cells, dtype=np.float64)
    left, right = pairs(table)
    assert np.array_equal(
        table_of(left, right), table[: left.max(initial=-1) + 1][:, : right.max(initial=-1) + 1]
    )
    full = table[table.any(axis=1)][:, table.any(axis=0)]
    r, c, n = *full.shape, full.sum()
    if min(r, c) < 2:
        assert cramers_v(table) is shared_information(table) is None
        return
    plain = association(full.astype(int), method="cramer", correction=False)
    phi = plain**2 * (min(r, c) - 1) - (r - 1) * (c - 1) / (n - 1)
    assert excess(table) == pytest.approx(phi, abs=1e-9)
    sides = [side - (side - 1) ** 2 / (n - 1) for side in (r, c)]
    if min(sides) <= 1:
        assert cramers_v(table) is None
    else:
        expected = min(1.0, math.sqrt(max(0, phi) / (min(sides) - 1)))
        assert cramers_v(table) == pytest.approx(expected, abs=1e-6)
    bias = (np.count_nonzero(full) - r - c + 1) / (2 * n)
    least = min(
        entropy(full.sum(axis=axis)) + (side - 1) / (2 * n) for axis, side in ((1, r), (0, c))
    )
    shared = min(1, max(0, (mutual_info_score(left, right) - bias) / least))
    assert shared_information(table) == pytest.approx(shared, abs=1e-9)


def test_independence_is_about_nothing_and_identity_is_one():
    draw = np.random.default_rng(5)
    noise = table_of(draw.integers(0, 20, 2000), draw.integers(0, 5, 2000))
    uncorrected = math.sqrt(chi2_contingency(noise)[0] / 2000 / 4)
    assert 0 < (cramers_v(noise) or 1) < 0.06
    assert uncorrected > 0.09
    assert (
        (shared_information(noise) or 0)
        < 0.005
        < mutual_info_score(*pairs(noise)) / entropy([1] * 5)
    )
    assert abs(excess(noise)) < 3 * chance(noise)
    same = draw.integers(0, 5, 2000)
    assert cramers_v(table_of(same, same)) == pytest.approx(1, abs=1e-3)
    assert shared_information(table_of(same, same)) == pytest.approx(1, abs=1e-2)


def test_the_deviation_by_chance_is_the_one_that_is_seen():
    draw = np.random.default_rng(6)
    tables = [table_of(draw.integers(0, 6, 500), draw.integers(0, 3, 500)) for _ in range(400)]
    found = [excess(table) for table in tables]
    assert np.std(found) == pytest.approx(chance(tables[0]), rel=0.15)
    assert abs(np.mean(found)) < 4 * chance(tables[0]) / 20


@hypothesis_settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=8, max_size=60))
def test_the_area_and_its_error_are_those_of_the_pairs(rows):
    scores = np.array([float(score) for score, _ in rows])
    positive = np.array([kind for _, kind in rows])
    if min(positive.sum(), (~positive).sum()) < 2:
        return
    counts = [
        np.array([(scores[kind] == v).sum() for v in range(7)], float)
        for kind in (positive, ~positive)
    ]
    kernel = np.sign(scores[positive][:, None] - scores[~positive]) / 2 + 0.5
    error = math.sqrt(
        kernel.mean(axis=1).var(ddof=1) / positive.sum()
        + kernel.mean(axis=0).var(ddof=1) / (~positive).sum()
    )
    area = roc_auc_score(positive, scores)
    assert auc_of_counts(*counts) == pytest.approx(area)
    assert auc_with_error(scores, positive) == pytest.approx((area, error), abs=1e-9)


def test_one_kind_alone_has_no_area():
    assert auc_of_counts(np.array([1.0]), np.array([0.0])) is None


def test_the_small_model_is_the_ridge_regression_of_the_rows_that_count():
    draw = np.random.default_rng(7)
    rows = draw.uniform(-1, 1, (600, 6))
    answers = (draw.uniform(size=600) < 1 / (1 + np.exp(-2 * rows[:, 0] + rows[:, 1]))).astype(
        float
    )
    counts = np.arange(600) % 3 > 0
    found = logistic.Classifier(rows).fit(answers, counts)
    plain = LogisticRegression(C=1 / logistic.RIDGE, tol=1e-8).fit(rows[counts], answers[counts])
    assert found[:-1] == pytest.approx(plain.coef_[0], abs=0.01)
    assert found[-1] == pytest.approx(plain.intercept_[0], abs=0.01)
    assert logistic.scores(found, rows) == pytest.approx(plain.decision_function(rows), abs=0.03)
