"""What leaves a unit when it clusters: bounded, noised, and never a shape that rows decide."""

import hashlib
import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError
from scipy import stats

from fedcore.errors import InvalidRecordError
from fedcore.privacy.accounting import decide_within, renyi_epsilon
from fedcore.privacy.clustering import (
    MAX_CENTRES,
    NOWHERE,
    Placement,
    ReleaseTerms,
    clipped_sums,
    diameter,
    nearest,
    noise_for_releases,
    release,
)
from fedcore.privacy.noise import KeyStream

QUIET = ReleaseTerms(noise_multiplier=0.0)
CENTRES = np.array([[-0.5, 0.0], [0.5, 0.0], [0.5, 1.0]])
# Corners, middles, ties, and what a broken feature could hand over.
VALUES = (-1.0, 0.0, 0.25, 1e300, math.nan, -math.inf)
CELLS = [np.array(cell) for cell in itertools.product(VALUES, repeat=2)]


def stream(name):
    return KeyStream(hashlib.sha256(name.encode()).digest())


def table(rows):
    return np.array(rows, dtype=np.float64).reshape(len(rows), 2)


# Sensitivity


@pytest.mark.parametrize("radius", [0.001, 0.3, 1.0, diameter(2)])
@pytest.mark.parametrize("weights", [(0.4, 0.4), (0.01, 10.0), (10.0, 0.01), (1.0, 1.0)])
def test_no_customer_of_a_tiny_domain_moves_a_release_by_more_than_its_sensitivity(radius, weights):
    terms = ReleaseTerms(0.0, *weights)
    placement = Placement(CENTRES, radius)
    farthest = 0.0
    for others in ((), (0,), (7, 7), (3, 20, 35)):
        without = clipped_sums(table([CELLS[i] for i in others]), placement, terms)
        for cell in CELLS:
            for at in range(len(others) + 1):
                rows = [CELLS[i] for i in others]
                rows.insert(at, cell)
                moved = clipped_sums(table(rows), placement, terms) - without
                farthest = max(farthest, float(np.linalg.norm(moved)))
    assert farthest <= terms.l2_sensitivity
    if radius < 0.1:
        # One axis takes the whole offset: no smaller bound would hold.
        assert farthest > terms.l2_sensitivity * (1 - 1e-5)


@given(
    arrays.arrays(np.float64, st.tuples(st.integers(1, 8), st.just(3))),
    arrays.arrays(np.float64, (4, 3), elements=st.floats(-1, 1)),
    st.floats(0.001, diameter(3)),
    st.data(),
)
def test_whatever_rows_and_centres_a_customer_moves_a_release_within_its_sensitivity(
    rows, centres, radius, data
):
    gone = data.draw(st.integers(0, len(rows) - 1))
    placement = Placement(centres, radius)
    there = clipped_sums(rows, placement, QUIET)
    without = clipped_sums(np.delete(rows, gone, axis=0), placement, QUIET)
    assert np.linalg.norm(there - without) <= QUIET.l2_sensitivity
    assert np.isfinite(there).all()
    # One block at most has changed: a customer is at one centre.
    assert (there != without).any(axis=1).sum() <= 1


@given(st.integers(1, 400), st.integers(0, 10**6))
def test_what_a_customer_adds_is_the_same_to_the_last_grain_whoever_else_is_there(count, key):
    others = 2 * stream(str(key)).uniforms(3 * count).reshape(count, 3) - 1
    placement = Placement(np.array([[0.0, 0.0, 0.0], [0.3, 0.1, -0.2]]), 0.5)
    me = np.array([[0.21, 0.07, -0.3]])
    alone = clipped_sums(me, placement, QUIET)
    among = clipped_sums(np.concatenate([others, me]), placement, QUIET)
    added = among - clipped_sums(others, placement, QUIET)
    grains = added[:, :3] * 2.0**30
    assert np.array_equal(grains, np.rint(grains))
    assert np.array_equal(added[:, :3], alone[:, :3])
    assert np.allclose(added, alone, atol=1e-10, rtol=0)
    backwards = np.concatenate([me, others[::-1]])
    assert np.array_equal(clipped_sums(backwards, placement, QUIET), among)


def test_a_row_with_a_number_that_is_not_finite_counts_nowhere():
    placement = Placement(CENTRES, 1.0)
    sound = table([[0.1, 0.2], [-0.9, 0.4]])
    for broken in (math.nan, math.inf, -math.inf):
        rows = np.concatenate([sound, [[broken, 0.0], [0.0, broken]]])
        assert np.array_equal(
            clipped_sums(rows, placement, QUIET), clipped_sums(sound, placement, QUIET)
        )
        assert nearest(rows, CENTRES)[2:].tolist() == [NOWHERE, NOWHERE]
    mended = np.concatenate([sound, [[0.0, 0.0]]])
    counts = clipped_sums(mended, placement, QUIET)[:, 2] / QUIET.count_weight
    assert counts.sum() == pytest.approx(3)


def test_sums_counts_and_squares_are_what_they_are_called():
    placement = Placement(CENTRES, 0.5)
    terms = ReleaseTerms(0.0, 0.25, 0.75)
    blocks = clipped_sums(table([[-0.25, 0.1], [-0.5, -0.2], [0.5, 0.8]]), placement, terms)
    expected: list[list[float]] = [
        [0.5, -0.2, 0.5, 0.75 * 0.25, 0.75 * (0.04 + 0.16)],
        [0, 0, 0, 0, 0],
        [0, -0.4, 0.25, 0, 0.75 * 0.16],
    ]
    assert np.allclose(blocks, expected, atol=1e-8)


def test_a_far_row_pulls_in_its_direction_with_length_one():
    placement = Placement(np.zeros((1, 2)), 0.1)
    pull = clipped_sums(table([[0.6, -0.8]]), placement, QUIET)[0, :2]
    assert np.allclose(pull, [0.6, -0.8], atol=1e-5)


@given(st.integers(0, 10**6))
def test_a_clipped_offset_leaves_room_for_what_rounding_adds(key):
    angle = 2 * math.pi * stream(str(key)).uniforms(1)[0]
    placement = Placement(np.zeros((1, 2)), 0.001)
    pull = clipped_sums(table([[math.cos(angle), math.sin(angle)]]), placement, QUIET)[0, :2]
    assert 1 - 2.0**-19 < np.linalg.norm(pull) < 1 - 2.0**-21


# Nearest centres


def test_rows_are_at_their_nearest_centre_and_the_first_one_of_a_tie():
    rows = table([[-0.6, 0.1], [0.0, 0.0], [0.5, 0.5], [40.0, 40.0], [0.4, 0.1]])
    assert nearest(rows, CENTRES).tolist() == [0, 0, 1, 2, 1]


def test_many_rows_are_placed_as_each_of_them_alone():
    rows = 2 * stream("many").uniforms(2 * 9_001).reshape(-1, 2) - 1
    centres = 2 * stream("centres").uniforms(2 * MAX_CENTRES).reshape(-1, 2) - 1
    found = nearest(rows, centres)
    # Around where one chunk ends, and the next begins.
    some = [0, 1, 4_095, 4_096, 8_191, 8_192, 9_000]
    assert [nearest(rows[[i]], centres)[0] for i in some] == found[some].tolist()
    distances = np.square(rows[:, None, :] - centres[None]).sum(axis=2)
    assert np.array_equal(found, distances.argmin(axis=1))


def test_memory_does_not_grow_with_centres_times_rows():
    rows, centres = np.zeros((12_000, 1)), np.zeros((MAX_CENTRES, 1))
    tracemalloc.start()
    nearest(rows, centres)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Half of what one table of all distances and its two intermediate ones would take.
    assert peak < 1.5 * rows.size * centres.size * 8


def test_no_rows_have_no_places():
    assert nearest(np.zeros((0, 2)), CENTRES).shape == (0,)


# Noise


def is_of_scale(numbers, scale):
    """A sound stream fails once in a million."""
    return stats.kstest(numbers / scale, "norm").pvalue > 1e-6


@pytest.mark.parametrize("count", [0, 1, 50])
def test_noise_has_the_right_scale_whatever_rows_there_are(count):
    terms = ReleaseTerms(noise_multiplier=3.0, count_weight=0.5, square_weight=0.3)
    features, centres = 40, 200
    rows = 2 * stream("rows").uniforms(count * features).reshape(count, features) - 1
    places = 2 * stream("places").uniforms(centres * features).reshape(centres, features) - 1
    placement = Placement(places, 2.0)
    sent = release(rows, placement, terms, stream(f"noise {count}"))
    noise = sent - clipped_sums(rows, placement, terms).reshape(-1)
    scale = 3.0 * math.sqrt(1 + 0.25 + 0.09)
    assert sent.shape == (centres * (2 * features + 1),)
    assert is_of_scale(noise, scale)
    assert not is_of_scale(noise, scale * 2 / 3)
    assert not is_of_scale(noise, scale * 3 / 2)
    # In sums, counts and squares alike.
    for part in np.split(noise.reshape(centres, -1), [features, features + 1], axis=1):
        assert is_of_scale(part.reshape(-1), scale)


def test_a_release_differs_with_and_without_a_customer_by_what_the_noise_is_scaled_to():
    placement = Placement(CENTRES, 0.2)
    terms = ReleaseTerms(noise_multiplier=2.0)
    rows = 2 * stream("rows").uniforms(60).reshape(30, 2) - 1
    with_all = release(rows, placement, terms, stream("one"))
    for gone in range(30):
        without = release(np.delete(rows, gone, axis=0), placement, terms, stream("one"))
        assert without.shape == with_all.shape
        assert np.linalg.norm(with_all - without) <= terms.noise_scale / 2.0


@pytest.mark.parametrize(
    "rows", [np.zeros((0, 2)), np.full((3, 2), math.nan), np.full((3, 2), 1e308)]
)
def test_a_release_is_finite_and_of_one_shape_whatever_the_rows(rows):
    sent = release(rows, Placement(CENTRES, 0.001), ReleaseTerms(1.0), stream("any"))
    assert sent.shape == (15,)
    assert np.isfinite(sent).all()


# The budget


@pytest.mark.parametrize(("epsilon", "releases"), [(1.0, 7), (3.0, 7), (3.0, 1)])
def test_noise_for_so_many_releases_claims_the_epsilon_and_a_ledger_takes_the_event(
    epsilon, releases
):
    noise = noise_for_releases(epsilon, 1e-5, releases)
    event = ReleaseTerms(noise).event(releases)
    assert decide_within([], [event], epsilon, 1e-5)
    assert renyi_epsilon([event], 1e-5) > epsilon * 0.999
    assert not decide_within([], [ReleaseTerms(noise).event(releases + 1)], epsilon, 1e-5)
    assert (event.mechanism, event.sampling_rate, event.steps) == ("gaussian", 1.0, releases)
    assert event.l2_sensitivity == ReleaseTerms(noise).l2_sensitivity


def test_a_release_without_noise_is_no_event():
    with pytest.raises(ValidationError):
        QUIET.event(1)
    assert ReleaseTerms(0.01).event(1).noise_multiplier == 0.01


# Refusals


@pytest.mark.parametrize(
    "numbers",
    [(-1.0,), (math.nan,), (1e7,), (1.0, 0.0), (1.0, math.nan), (1.0, 0.4, 11.0)],
)
def test_terms_outside_their_range_are_refused(numbers):
    with pytest.raises(InvalidRecordError) as refusal:
        ReleaseTerms(*numbers)
    assert refusal.value.code == "clustering.terms_invalid"
    assert ReleaseTerms(1.0, 0.01, 10.0).l2_sensitivity == pytest.approx(math.sqrt(101.0001))


@pytest.mark.parametrize(
    ("centres", "radius"),
    [
        (np.zeros((0, 2)), 1.0),
        (np.zeros((2, 0)), 1.0),
        (np.zeros(2), 1.0),
        (np.zeros((1025, 1)), 1.0),
        (np.array([[0.0, math.nan]]), 1.0),
        (np.array([[0.0, 1.01]]), 1.0),
        (np.zeros((1, 2)), 0.0),
        (np.zeros((1, 2)), math.nan),
        (np.zeros((1, 2)), 2.9),
    ],
)
def test_a_server_cannot_ask_around_anything_else_than_public_bounds(centres, radius):
    with pytest.raises(InvalidRecordError) as refusal:
        Placement(centres, radius)
    assert refusal.value.code == "clustering.placement_invalid"
    assert Placement(np.ones((1024, 2)), diameter(2)).shape == (1024, 2)


def test_centres_cannot_be_changed_after_they_were_looked_at():
    mine = CENTRES.copy()
    placement = Placement(mine, 1.0)
    mine[0, 0] = 1e38
    assert placement.centres[0, 0] == -0.5
    with pytest.raises(ValueError, match="read-only"):
        placement.centres[0, 0] = 1e38


@pytest.mark.parametrize("rows", [np.zeros((3, 1)), np.zeros((3, 3)), np.zeros(2)])
def test_rows_of_another_width_are_refused(rows):
    with pytest.raises(InvalidRecordError) as refusal:
        clipped_sums(rows, Placement(CENTRES, 1.0), QUIET)
    assert refusal.value.code == "clustering.rows_invalid"
    assert clipped_sums(np.zeros((3, 2)), Placement(CENTRES, 1.0), QUIET).shape == (3, 5)
