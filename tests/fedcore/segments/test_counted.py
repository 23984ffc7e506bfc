"""Sizes of segments from a noised table: exact without noise, inside their intervals with it."""

import numpy as np
import pytest

from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.privacy.discrete import discrete_laplace, discrete_laplace_variance
from fedcore.privacy.noise import KeyStream
from fedcore.segments.counted import segment_measures
from fedcore.segments.groups import SegmentLayout, SegmentTable, count_segments

GENDER = SensitiveAttribute(name="gender", groups=("female", "male"))
ALONE = SegmentLayout(segments=(4, 9))
BOTH = SegmentLayout(attributes=(GENDER,), segments=(4, 9))


def test_without_noise_sizes_are_counts_and_groups_change_none_of_them():
    alone = segment_measures(SegmentTable(ALONE, (300, 700), 2, None))
    both = segment_measures(SegmentTable(BOTH, (100, 400, 200, 300), 2, None))
    assert alone == both
    assert list(alone) == [
        "customers",
        "segment_4_customers",
        "segment_4_share",
        "segment_9_customers",
        "segment_9_share",
    ]
    told = {name: one.value for name, one in alone.items() if one}
    assert told == {
        "customers": 1000,
        "segment_4_customers": 300,
        "segment_4_share": 0.3,
        "segment_9_customers": 700,
        "segment_9_share": 0.7,
    }
    count, share = alone["segment_4_customers"], alone["segment_4_share"]
    assert count
    assert share
    assert (count.low, count.high, count.noise_sd) == (300, 300, 0)
    assert share.sampling_sd == pytest.approx(np.sqrt(0.3 * 0.7 / 1000))
    assert share.low < 0.3 < share.high


def test_a_table_without_attributes_counts_everybody_who_is_somewhere():
    places = np.array([0, 1, 1, -1], dtype=np.intp)
    assert count_segments(ALONE, [], places) == (1, 2)


def test_deviations_are_those_of_the_noises_in_a_sum():
    found = segment_measures(SegmentTable(BOTH, (100, 400, 200, 300), 3, 0.5))["customers"]
    assert found
    assert found.noise_sd == pytest.approx(np.sqrt(4 * 3 * discrete_laplace_variance(0.5)))


def test_intervals_hold_at_their_rate():
    chance, held, draws = np.random.default_rng(2), dict[str, int](), 60
    truth = {"segment_4_share": 0.25, "segment_9_share": 0.75}
    for draw in range(draws):
        counts = chance.multinomial(400, [0.25, 0.75])
        stream = KeyStream(str(draw).encode().ljust(32, b"\0"))
        noised = counts + discrete_laplace(2, 0.5, stream)
        found = segment_measures(SegmentTable(ALONE, tuple(noised.tolist()), 1, 0.5))
        true = {**truth, "customers": 400, "segment_4_customers": counts[0]}
        for name, value in true.items():
            one = found[name]
            assert one
            assert one.low <= one.value <= one.high
            held[name] = held.get(name, 0) + (one.low <= value <= one.high)
    assert min(held.values()) >= 0.87 * draws


def test_a_share_of_hardly_anybody_is_hidden_by_noised_numbers_alone():
    found = segment_measures(SegmentTable(ALONE, (-3, 4), 2, 0.1))
    assert found["segment_4_share"] is None
    count = found["segment_4_customers"]
    assert count
    assert count.value == 0
