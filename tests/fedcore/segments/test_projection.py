"""The map of centres keeps what lies farthest apart, and says how much that is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcore.errors import InvalidRecordError
from fedcore.segments.projection import project

POINTS = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.floats(-1, 1, width=32),
)


def distances(places):
    return np.linalg.norm(places[:, None, :] - places[None, :, :], axis=2)


@given(POINTS, st.integers(0, 3))
def test_nothing_is_farther_apart_on_the_map_than_it_is(points, heavy):
    weights = np.ones(len(points))
    weights[: heavy % len(points)] = 50
    found = project(points, weights)
    assert found.places.shape == (len(points), 2)
    assert (distances(found.places) <= distances(points) + 1e-9).all()
    assert 0 <= found.shown <= 1
    lengths = np.linalg.norm(found.directions, axis=1)
    assert all(min(abs(length), abs(length - 1)) < 1e-9 for length in lengths)


@given(POINTS)
def test_of_two_features_the_map_shows_all(points):
    flat = points[:, :2]
    found = project(flat, np.ones(len(flat)))
    assert distances(found.places) == pytest.approx(distances(flat), abs=1e-7)
    assert found.shown == pytest.approx(1)


def test_the_map_shows_the_features_that_part_the_points_and_how_much_of_it():
    points = np.array([[0.0, -0.9, 0.1], [0.0, 0.9, 0.1], [0.3, 0.0, 0.1], [-0.3, 0.0, 0.1]])
    found = project(points, np.ones(4))
    assert found.directions == pytest.approx(np.array([[0, 1, 0], [1, 0, 0]]), abs=1e-9)
    assert found.places[:, 0] == pytest.approx([-0.9, 0.9, 0, 0], abs=1e-9)
    third = np.array([*points, [0, 0, 0.5], [0, 0, -0.3]])
    shown = (1.62 + 0.32) / (1.62 + 0.32 + 0.18)
    assert project(third, np.ones(6)).shown == pytest.approx(shown)


def test_points_without_weight_do_not_move_the_map():
    points = np.array([[0.0, 0.0], [0.5, 0.0], [0.2, 0.9]])
    found = project(points, np.array([1.0, 1.0, 0.0]))
    assert found.directions[0] == pytest.approx([1, 0])
    assert found.places[:2, 0] == pytest.approx([-0.25, 0.25])


def test_one_point_is_in_the_middle_of_a_map_without_directions():
    found = project(np.array([[0.3, 0.4]]), np.zeros(1))
    assert (found.places.tolist(), found.shown) == ([[0, 0]], 1)
    assert not found.directions.any()


@pytest.mark.parametrize("weights", [np.ones(1), np.array([1.0, -1.0]), np.array([1.0, np.nan])])
def test_other_weights_are_refused(weights):
    project(np.zeros((2, 2)), np.ones(2))
    with pytest.raises(InvalidRecordError) as refusal:
        project(np.zeros((2, 2)), weights)
    assert refusal.value.code == "segments.points_invalid"
