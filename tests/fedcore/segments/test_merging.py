"""Ward's merging keeps what it must keep, and stops where costs rise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.cluster.hierarchy import linkage

from fedcore.errors import InvalidRecordError
from fedcore.segments.merging import Bounds, Weighted, choose_count, merge_path, merged

MOST = 9


@st.composite
def weighted(draw, least=1):
    count = draw(st.integers(least, MOST))
    centres = draw(arrays.arrays(np.float64, (count, 3), elements=st.floats(-1, 1)))
    weights = draw(arrays.arrays(np.float64, count, elements=st.floats(0.5, 5000)))
    return Weighted(centres, weights, np.zeros(count))


def scatter(whole, middle):
    return float(whole.weights @ np.square(whole.centres - middle).sum(axis=1))


@given(weighted(), st.integers(1, MOST))
def test_merging_keeps_the_weight_and_the_weighted_mean(whole, count):
    left = merged(whole, count)
    assert len(left) == min(count, len(whole))
    assert left.weights.sum() == pytest.approx(whole.weights.sum())
    assert np.allclose(left.weights @ left.centres, whole.weights @ whole.centres, atol=1e-8)


@given(weighted(least=3), st.data())
def test_merging_in_two_goes_is_merging_at_once(whole, data):
    first = data.draw(st.integers(2, len(whole)))
    second = data.draw(st.integers(1, first))
    at_once, in_two = merged(whole, second), merged(merged(whole, first), second)
    assert np.array_equal(at_once.centres, in_two.centres)
    assert np.array_equal(at_once.weights, in_two.weights)


@given(weighted())
def test_costs_add_up_to_the_scatter_around_the_mean(whole):
    middle = whole.weights @ whole.centres / whole.weights.sum()
    costs = [merge.cost for merge in merge_path(whole)]
    assert all(cost >= 0 for cost in costs)
    assert sum(costs) == pytest.approx(scatter(whole, middle), abs=1e-6)


@settings(max_examples=40)
@given(st.integers(3, MOST), st.integers(0, 10**6), st.data())
def test_the_order_of_centres_decides_nothing_but_the_order_of_results(count, key, data):
    chance = np.random.default_rng(key)
    whole = Weighted(
        chance.uniform(-1, 1, (count, 2)), chance.uniform(1, 9, count), np.zeros(count)
    )
    order = np.array(data.draw(st.permutations(range(count))))
    other = Weighted(whole.centres[order], whole.weights[order], whole.errors)
    for left in range(1, count + 1):
        one, two = merged(whole, left), merged(other, left)
        found = np.abs(one.centres[:, None] - two.centres[None]).sum(axis=2).argmin(axis=1)
        assert sorted(found.tolist()) == list(range(left))
        assert np.allclose(one.centres, two.centres[found])
        assert np.allclose(one.weights, two.weights[found])


@given(st.integers(2, MOST), st.integers(0, 10**6))
def test_with_equal_weights_costs_are_those_of_scipy(count, key):
    centres = np.random.default_rng(key).uniform(-1, 1, (count, 3))
    path = merge_path(Weighted(centres, np.ones(count), np.zeros(count)))
    heights = linkage(centres, "ward")[:, 2]
    assert np.allclose([merge.cost for merge in path], heights**2 / 2)


def test_what_noise_adds_to_a_distance_is_taken_off():
    chance = np.random.default_rng(5)
    costs = []
    for _ in range(300):
        centres = chance.normal(0, 0.1, (2, 4))
        whole = Weighted(centres, np.array([10.0, 10.0]), np.full(2, 4 * 0.01))
        costs.append(merge_path(whole)[0].cost)
    # Two equal centres, whose noise alone would cost 5 * 0.08 on average.
    assert np.median(costs) < 0.02
    left = merged(Weighted(np.zeros((2, 1)), np.array([3.0, 1.0]), np.array([0.1, 0.4])), 1)
    assert left.errors[0] == pytest.approx(0.75**2 * 0.1 + 0.25**2 * 0.4)


# How many to keep


@pytest.mark.parametrize("features", [2, 3, 6])
@pytest.mark.parametrize("kept", [2, 3, 4, 7])
def test_as_many_are_kept_as_stand_apart(features, kept):
    chance = np.random.default_rng([features, kept])
    angles = 2 * np.pi * np.arange(kept) / kept
    middles = np.zeros((kept, features))
    middles[:, 0], middles[:, 1] = 8 * np.cos(angles), 8 * np.sin(angles)
    rows = np.concatenate([middle + chance.normal(size=(200, features)) for middle in middles])
    # Four pieces of each segment, as many centres leave them.
    near = np.square(rows[:, None] - rows[None, :: 200 // 4]).sum(axis=2).argmin(axis=1)
    pieces = [rows[near == place] for place in range(4 * kept)]
    centres = np.array([piece.mean(axis=0) for piece in pieces])
    scatter = sum(float(np.square(p - p.mean(axis=0)).sum()) for p in pieces)
    sizes = np.array([float(len(piece)) for piece in pieces])
    path = merge_path(Weighted(centres, sizes, np.zeros(len(pieces))))
    costs = [merge.cost for merge in path]
    assert choose_count(costs, scatter, features, Bounds(2, 10)) == kept
    assert choose_count(costs, scatter, features, Bounds(kept + 1, 10)) > kept


COSTS = st.lists(st.floats(0, 1e6), max_size=12)


@given(COSTS, st.floats(0, 1e6), st.integers(1, 9), st.integers(1, 6), st.integers(0, 6))
def test_the_number_is_within_its_bounds_and_of_no_unit(costs, scatter, features, least, more):
    bounds, there = Bounds(least, least + more), len(costs) + 1
    found = choose_count(costs, scatter, features, bounds)
    assert min(least, there) <= found <= min(least + more, there)
    scaled = [cost * 4.0 for cost in costs]
    assert choose_count(scaled, scatter * 4.0, features, bounds) == found


def test_equal_bounds_declare_the_number():
    costs = [0.1, 0.2, 0.3, 5.0, 6.0, 7.0]
    found = [choose_count(costs, 0.5, 2, Bounds(count, count)) for count in (*range(1, 8), 12)]
    assert found == [1, 2, 3, 4, 5, 6, 7, 7]


@pytest.mark.parametrize(("least", "most"), [(0, 3), (4, 3)])
def test_impossible_bounds_are_refused(least, most):
    with pytest.raises(InvalidRecordError) as refusal:
        Bounds(least, most)
    assert refusal.value.code == "clustering.count_invalid"
    assert Bounds(3, 3).most == 3


def test_no_segment_at_all_is_refused():
    whole = Weighted(np.eye(2), np.ones(2), np.zeros(2))
    with pytest.raises(InvalidRecordError) as refusal:
        merged(whole, 0)
    assert refusal.value.code == "clustering.count_invalid"
    assert len(merged(whole, 1)) == 1
