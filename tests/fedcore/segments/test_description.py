"""What is told of segments belongs together, by id, whatever the order of centres."""

import pytest

from fedcore.errors import InvalidRecordError
from fedcore.segments.description import describe
from fedcore.segments.estimates import Interval
from fedcore.segments.identities import identify
from fedcore.segments.profiles import FeatureScale

MIDDLES = [[-0.6, 0.0], [0.6, 0.5], [0.6, -0.5]]
FEATURES = [FeatureScale("recency", 0, 300), FeatureScale("spend", 0, 1000)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_each_segment_is_told_under_its_id(blobs, noised, order):
    rows, _ = blobs(MIDDLES, [900, 500, 200], width=0.05)
    centres = [MIDDLES[place] for place in order]
    sums = noised([rows], centres, 1.0, radius=0.5)
    found = describe(sums, identify(sums.placement.centres, {}, 0.5).ids, FEATURES, (100, 400, 700))
    assert [segment.id for segment in found] == [1, 2, 3]
    assert [segment.name for segment in found] == [
        "low recency",
        "low spend, high recency",
        "high spend, high recency",
    ]
    assert [segment.band for segment in found][1:] == [Interval(100, 400), Interval(400, 700)]
    for segment, size, means in zip(
        found, (900, 200, 500), ((60, 500), (240, 250), (240, 750)), strict=True
    ):
        assert abs(segment.size.value - size) < 5 * segment.size.scale
        assert segment.share.value == pytest.approx(size / 1600, abs=0.02)
        assert segment.profile
        told = [estimate.value for estimate in segment.profile]
        assert told == pytest.approx(means, abs=15)


def test_a_segment_that_is_not_found_has_no_profile(blobs, noised):
    rows, _ = blobs(MIDDLES[:2], [900, 500], width=0.05)
    sums = noised([rows], MIDDLES, 3.0, radius=0.5)
    found = describe(sums, (7, 8, 9), FEATURES)
    assert [segment.profile is None for segment in found] == [False, False, True]
    assert found[2].name == "too small to describe"


def test_ids_of_other_centres_are_refused(blobs, noised):
    rows, _ = blobs(MIDDLES, [50] * 3)
    with pytest.raises(InvalidRecordError) as refusal:
        describe(noised([rows], MIDDLES), (1, 2), FEATURES)
    assert refusal.value.code == "segments.identities_invalid"
    assert len(describe(noised([rows], MIDDLES), (1, 2, 3), FEATURES)) == 3
