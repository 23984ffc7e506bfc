"""A customer without a label is one point, that customer's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.clustering import customers_of
from clients.data import Examples


def customers(counts, most=4, seed=0):
    features = np.random.default_rng(seed).uniform(-1, 1, (sum(counts), 3))
    return Examples(features, np.zeros(len(features)), counts=np.array(counts), most=most)


def rows_of(examples):
    return np.split(examples.features, examples.counts.cumsum()[:-1])


def test_with_one_row_each_the_rows_are_the_points():
    features = np.random.default_rng(0).uniform(-1, 1, (5, 3))
    assert customers_of(Examples(features, np.zeros(5))) is features


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30))
def test_a_point_is_the_mean_of_the_customers_rows(counts):
    examples = customers(counts)
    means = np.array([rows.mean(axis=0) for rows in rows_of(examples)])
    assert customers_of(examples) == pytest.approx(means, abs=1e-15)


@given(st.lists(st.integers(1, 4), min_size=2, max_size=30), st.data())
def test_a_point_is_the_same_to_the_last_bit_whoever_the_others_are(counts, data):
    examples = customers(counts)
    gone = data.draw(st.integers(0, len(counts) - 1))
    kept = [rows for place, rows in enumerate(rows_of(examples)) if place != gone]
    rest = Examples(
        np.concatenate(kept),
        np.zeros(sum(map(len, kept))),
        counts=np.delete(examples.counts, gone),
        most=4,
    )
    assert np.array_equal(np.delete(customers_of(examples), gone, axis=0), customers_of(rest))


def test_equal_rows_at_the_edge_have_a_point_within_the_bounds():
    counts = np.array([3, 3])
    features = np.repeat([[1.0, -1.0], [0.1, 1.0]], 3, axis=0)
    points = customers_of(Examples(features, np.zeros(6), counts=counts, most=3))
    assert np.abs(points).max() <= 1
