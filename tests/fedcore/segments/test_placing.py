"""Where a release looks follows from public numbers and noised sums."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.privacy.clustering import MIN_RADIUS, Placement, ReleaseTerms, diameter, release
from fedcore.segments.noised import combine
from fedcore.segments.placing import (
    even_points,
    respread,
    settled,
    spread_placement,
    weighted,
    whole_placement,
    within_radius,
)
from simulations.noise import SeededNoise


@given(st.integers(1, 60), st.integers(1, 12))
def test_even_points_are_distinct_and_within_the_cube(count, features):
    points = even_points(count, features)
    assert points.shape == (count, features)
    assert np.abs(points).max() <= 1
    assert len({tuple(point) for point in points}) == count


@pytest.mark.parametrize("features", [1, 2, 5])
def test_even_points_leave_no_half_of_the_cube_out(features):
    points = even_points(64, features)
    above = (points > 0).mean(axis=0)
    assert np.abs(above - 0.5).max() < 0.1
    assert np.abs(points.mean(axis=0)).max() < 0.1


def test_the_first_placement_knows_only_how_many_features_there_are():
    first = whole_placement(3)
    assert first.centres.tolist() == [[0, 0, 0]]
    assert first.radius == pytest.approx(math.sqrt(3))


def test_centres_are_spread_where_the_rows_are(blobs, noised):
    rows, _ = blobs([[-0.7, 0.5], [-0.5, 0.5]], [500, 500], width=0.05)
    placement = spread_placement(noised([rows], whole_placement(2).centres), 32)
    assert placement.shape == (32, 2)
    inside = np.abs(placement.centres - [-0.6, 0.5]) <= [0.3, 0.1]
    assert inside.all()


MIDDLES = [[-0.5, -0.5], [0.5, 0.5], [0.5, -0.5]]


def test_two_segments_at_one_centre_are_parted_in_one_step(blobs, noised):
    rows, _ = blobs([[0.3, -0.5], [0.3, 0.5], [-0.8, 0.0]], [400, 400, 400], width=0.05)
    sums = noised([rows], [[0.3, 0.0], [-0.8, 0.0], [-1.0, 1.0]], radius=2.0)
    assert sums.is_found.tolist() == [True, True, False]
    centres = respread(sums, 3)
    for middle in ([0.3, -0.5], [0.3, 0.5], [-0.8, 0.0]):
        assert np.linalg.norm(centres - middle, axis=1).min() < 0.15


def test_a_centre_that_is_not_found_is_given_up(blobs, noised):
    rows, _ = blobs(MIDDLES, [600, 600, 600])
    sums = noised([rows], [*MIDDLES, [-1.0, 1.0]], noise_multiplier=3.0, radius=0.5)
    assert not sums.is_found[3]
    centres = respread(sums, 3)
    assert np.linalg.norm(centres[:, None] - np.array(MIDDLES)[None], axis=2).min(0).max() < 0.1


def test_scatter_that_could_be_noise_is_not_halved(blobs, noised):
    rows, _ = blobs(MIDDLES, [600, 600, 600], width=0.001)
    assert len(respread(noised([rows], MIDDLES, 3.0, radius=0.5), 20)) == 3
    assert len(respread(noised([rows], MIDDLES, radius=0.5), 20)) > 3


def test_a_centre_is_not_halved_into_halves_that_would_not_be_found(blobs, noised):
    rows, _ = blobs([[-0.9, 0.0], [0.9, 0.0]], [160, 160], width=0.01)
    outcomes = set()
    for draw in range(40):
        sums = noised([rows], [[0.0, 0.0]], 20.0, name=f"draw {draw}", radius=1.0)
        is_large = bool(sums.sizes[0] >= 2 * sums.least_size)
        assert is_large or len(respread(sums, 9)) == 1
        outcomes.add((is_large, len(respread(sums, 9)) > 1))
    assert outcomes >= {(False, False), (True, True)}


def test_where_nothing_is_found_all_stays_as_it_was(noised):
    sums = noised([np.zeros((0, 2))], MIDDLES, 3.0)
    assert not sums.is_found.any()
    assert np.array_equal(respread(sums, 9), np.array(MIDDLES))
    assert np.array_equal(settled(sums), np.array(MIDDLES))
    assert len(weighted(sums)) == 1


@given(st.integers(1, 4), st.integers(4, 40), st.integers(0, 200))
def test_never_more_centres_than_asked_for_and_all_within_bounds(middles, count, key):
    chance = np.random.default_rng(key)
    rows = chance.uniform(-1, 1, (300, 3))
    placement = Placement(chance.uniform(-1, 1, (middles, 3)), 1.0)
    terms = ReleaseTerms(float(chance.uniform(0, 5)))
    stream = SeededNoise(key).stream("unit", "order", "noise")
    sums = combine([release(rows, placement, terms, stream)], placement, terms)
    centres = respread(sums, count)
    assert 1 <= len(centres) <= count
    assert np.abs(centres).max() <= 1


def test_a_centre_that_is_not_found_stays_while_segments_are_refined(blobs, noised):
    rows, _ = blobs(MIDDLES[:2], [600, 600])
    sums = noised([rows], [*MIDDLES[:2], [-1.0, 1.0]], 3.0, radius=0.5)
    moved = settled(sums)
    assert moved[2].tolist() == [-1.0, 1.0]
    assert 0 < np.abs(moved[:2] - MIDDLES[:2]).max() < 0.1


def test_the_radius_follows_the_width_of_segments_and_stays_in_bounds(blobs, noised):
    widths = [0.02, 0.1, 0.3]
    radii = [
        within_radius(noised([blobs(MIDDLES, [500] * 3, width)[0]], MIDDLES), 1.0)
        for width in widths
    ]
    assert radii[1] == pytest.approx(0.1 * math.sqrt(2), rel=0.1)
    assert radii == sorted(radii)
    empty = noised([np.zeros((0, 2))], MIDDLES)
    assert MIN_RADIUS <= within_radius(empty) < diameter(2) / 20
    assert within_radius(empty, added=1e12) == diameter(2) / 2
