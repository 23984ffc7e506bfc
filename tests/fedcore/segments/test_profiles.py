"""Profiles hold the population's means, and names say what stands out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.errors import InvalidRecordError
from fedcore.privacy.clustering import Placement, ReleaseTerms, clipped_sums
from fedcore.segments.estimates import Estimate
from fedcore.segments.noised import combine
from fedcore.segments.profiles import FeatureScale, overall, profiles, suggest_names

MIDDLES = [[-0.6, 0.0], [0.6, 0.5], [0.6, -0.5]]
FEATURES = [FeatureScale("recency", 0, 300), FeatureScale("spend", 0, 1000)]


@pytest.mark.parametrize("noise", [0.0, 2.0, 8.0])
def test_profile_intervals_hold_the_population_mean_at_least_at_their_rate(blobs, noised, noise):
    held = []
    for draw in range(300):
        rows, _ = blobs(MIDDLES, [900, 500, 300], name=f"rows {draw}")
        sums = noised([rows], MIDDLES, noise, name=f"noise {draw}", radius=0.6)
        held += [
            middle in estimate.interval()
            for profile, means in zip(profiles(sums), MIDDLES, strict=True)
            if profile
            for estimate, middle in zip(profile, means, strict=True)
        ]
    assert len(held) > 1000
    # Squares are noised too; their noise is added to the error, so that it is never too small.
    assert 0.93 < np.mean(held) < (0.965 if noise == 0 else 1.0)


def test_noise_in_counts_moves_the_mean_of_a_segment_that_is_off_its_centre(blobs, noised):
    rows, _ = blobs([[0.3, 0.0]], [900], width=0.01)
    told = [profiles(noised([rows], [[0.0, 0.0]], 8.0, f"{n}", radius=0.6)) for n in range(300)]
    firsts = [profile[0] for (profile,) in told if profile]
    assert len(firsts) == 300
    stated = float(np.median([estimate.scale for estimate in firsts]))
    assert 0.8 * stated < np.std([estimate.value for estimate in firsts]) < 1.05 * stated


def test_more_noise_makes_a_profile_less_certain_and_none_of_what_is_not_found(blobs, noised):
    rows, _ = blobs(MIDDLES, [900, 500, 3])
    quiet, loud = (profiles(noised([rows], MIDDLES, noise, radius=0.6)) for noise in (1.0, 6.0))
    assert loud[0]
    assert quiet[0]
    assert loud[0][0].scale > quiet[0][0].scale > 0
    assert loud[2] is None


def test_means_are_told_in_the_feature_s_own_unit():
    spend = FEATURES[1].in_own_unit(Estimate(0.5, 0.01))
    assert (spend.value, spend.scale) == pytest.approx((750, 5))
    turned = FeatureScale("days since", 100, 0).in_own_unit(Estimate(1.0, 0.1))
    assert (turned.value, turned.scale) == pytest.approx((0, 5))


@pytest.mark.parametrize("value", [-10.0, -9.5, 0.0, 40.0, 190.0])
def test_means_of_logarithms_are_told_as_the_value_that_has_this_logarithm(value):
    scale = FeatureScale("charges", -10, 190, is_log=True)
    code = 2 * np.log1p(value + 10) / np.log1p(200) - 1
    found = scale.in_own_unit(Estimate(float(code), 1e-4))
    assert found.value == scale.own(code) == pytest.approx(value)
    moved = (scale.own(code + 1e-4) - scale.own(code - 1e-4)) / 2
    assert found.scale == pytest.approx(moved, rel=1e-3)


def test_all_customers_have_the_mean_and_deviation_of_pooled_rows(blobs, noised):
    rows, _ = blobs(MIDDLES, [900, 500, 300])
    means, deviations = overall(noised([rows], MIDDLES))
    assert means == pytest.approx(rows.mean(axis=0).tolist(), abs=1e-5)
    assert deviations == pytest.approx(rows.std(axis=0).tolist(), abs=1e-5)


def test_names_say_what_stands_out_most_first(blobs, noised):
    rows, _ = blobs(MIDDLES, [600, 500, 500])
    for noise in (0.0, 2.0):
        names = suggest_names(noised([rows], MIDDLES, noise, radius=0.6), FEATURES)
        assert names == ["low recency", "high spend, high recency", "low spend, high recency"]


def test_a_difference_that_noise_explains_is_not_named(blobs, noised):
    middles = [[-0.1, 0.0], [0.1, 0.0]]
    rows, _ = blobs(middles, [300, 300], width=0.01)
    assert suggest_names(noised([rows], middles), FEATURES) == ["low recency", "high recency"]
    loud = noised([rows], middles, 30.0, name="loud", radius=2.0)
    assert not any("recency" in name for name in suggest_names(loud, FEATURES))


THREE = [FeatureScale(name) for name in ("a", "b", "c")]


def test_a_small_segment_is_not_named_for_what_its_noise_says(blobs, noised):
    middles = [[-0.5, 0.0], [0.5, 0.0]]
    rows, _ = blobs(middles, [2000, 300], width=0.02)
    named = 0
    for draw in range(100):
        names = suggest_names(noised([rows], middles, 10.0, f"{draw}", radius=1.0), FEATURES)
        named += "spend" in names[1]
    # What an interval at 95 % misses, and not each time that the scatter is lost in the noise.
    assert named < 15


def test_segments_called_alike_are_told_apart_by_more_features(blobs, noised):
    middles = [
        [0.7, 0.7, 0.2],
        [0.7, 0.7, -0.2],
        [-0.7, -0.7, 0.5],
        [-0.7, -0.7, -0.5],
        [-0.7, 0, 0],
    ]
    rows, _ = blobs(middles, [400] * 5, width=0.02)
    assert suggest_names(noised([rows], middles), THREE) == [
        "high a, high b, high c",
        "high a, high b, low c",
        "high c, low b",
        "low c, low b",
        "low a",
    ]


def test_segments_that_nothing_tells_apart_are_numbered(blobs, noised):
    middles = [[0.70, 0.0, 0.0], [0.72, 0.0, 0.0], [-0.7, 0.0, 0.0]]
    rows, _ = blobs(middles, [400] * 3, width=0.002)
    assert suggest_names(noised([rows], middles), THREE) == ["high a", "high a (2)", "low a"]


def test_a_segment_like_all_others_is_near_the_average(blobs, noised):
    middles = [[-0.8, -0.8], [0.0, 0.0], [0.8, 0.8]]
    rows, _ = blobs(middles, [400] * 3)
    names = suggest_names(noised([rows], middles), FEATURES)
    assert names[1] == "near the average"


@settings(max_examples=30)
@given(st.integers(1, 7), st.integers(0, 10**6))
def test_no_two_segments_have_one_name_and_the_same_sums_have_the_same_names(count, key):
    chance = np.random.default_rng(key)
    placement = Placement(chance.uniform(-1, 1, (count, 2)), 1.0)
    terms = ReleaseTerms(1.0)
    sums = clipped_sums(chance.uniform(-1, 1, (200, 2)), placement, terms).reshape(-1)
    noised = combine([sums], placement, terms)
    tricky = [FeatureScale("x"), FeatureScale("x (2)")]
    names = suggest_names(noised, tricky)
    assert len(set(names)) == count
    assert suggest_names(noised, tricky) == names


def test_a_name_for_each_feature_is_asked_for(blobs, noised):
    rows, _ = blobs(MIDDLES, [50] * 3)
    with pytest.raises(InvalidRecordError) as refusal:
        suggest_names(noised([rows], MIDDLES), FEATURES[:1])
    assert refusal.value.code == "segments.features_invalid"
    assert len(suggest_names(noised([rows], MIDDLES), FEATURES)) == 3
