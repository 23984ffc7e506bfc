"""Sizes, bands and drift hold the truth at the rate that they state."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.errors import InvalidRecordError
from fedcore.segments.estimates import Estimate, Interval
from fedcore.segments.sizes import drift, shares, size_band, sizes

MIDDLES = [[-0.6, 0.0], [0.6, 0.5], [0.6, -0.5]]
COUNTS = [900, 500, 200]
DRAWS = 600


def test_size_intervals_hold_the_true_size_at_their_rate(blobs, noised):
    rows, _ = blobs(MIDDLES, COUNTS, width=0.05)
    held = alone = 0
    for draw in range(DRAWS):
        found = sizes(noised([rows[::2], rows[1::2]], MIDDLES, 4.0, name=f"draw {draw}"))
        inside = [n in one.interval(0.9) for one, n in zip(found, COUNTS, strict=True)]
        held += sum(inside)
        alone += all(n in one.interval(0.9, among=3) for one, n in zip(found, COUNTS, strict=True))
    assert 0.87 < held / DRAWS / 3 < 0.93
    assert 0.87 < alone / DRAWS < 0.94


@given(
    st.floats(-100, 1e6),
    st.floats(0, 1e4),
    st.lists(st.floats(1, 1e6), max_size=6, unique=True).map(sorted),
)
def test_a_band_holds_the_interval_and_no_edge_lies_inside_it_for_nothing(value, scale, edges):
    size = Estimate(value, scale)
    within, band = size.interval(), size_band(size, edges)
    assert band.low <= max(0.0, within.low)
    assert band.high > within.high
    inner = edges or [2.0**power for power in range(40)]
    assert not any(band.low < edge <= within.low for edge in inner)
    assert not any(within.high < edge < band.high for edge in inner)


@pytest.mark.parametrize(
    ("size", "edges", "band"),
    [
        (Estimate(700, 0), (), Interval(512, 1024)),
        (Estimate(512, 0), (), Interval(512, 1024)),
        (Estimate(511.5, 0), (), Interval(256, 512)),
        (Estimate(520, 10), (), Interval(256, 1024)),
        (Estimate(-5, 1), (), Interval(0, 1)),
        (Estimate(700, 0), (100, 600, 5000), Interval(600, 5000)),
        (Estimate(9000, 0), (100, 600, 5000), Interval(5000, math.inf)),
    ],
)
def test_bands(size, edges, band):
    assert size_band(size, edges) == band


@pytest.mark.parametrize("edges", [(0.0, 5.0), (5.0, 5.0), (9.0, 5.0), (math.nan, 5.0)])
def test_edges_that_do_not_rise_are_refused(edges):
    with pytest.raises(InvalidRecordError) as refusal:
        size_band(Estimate(7, 1), edges)
    assert refusal.value.code == "segments.edges_invalid"
    assert size_band(Estimate(7, 1), (5.0, 9.5)) == Interval(5.0, 9.5)


def test_shares_add_up_and_without_noise_are_the_true_ones(blobs, noised):
    rows, _ = blobs(MIDDLES, COUNTS, width=0.05)
    exact = shares(noised([rows], MIDDLES))
    assert [one.value for one in exact] == pytest.approx([n / 1600 for n in COUNTS])
    noisy = shares(noised([rows], MIDDLES, 5.0))
    assert sum(one.value for one in noisy) == pytest.approx(1)
    assert all(n.scale > e.scale for n, e in zip(noisy, exact, strict=True))


def test_the_noise_in_a_share_is_as_large_as_stated(blobs, noised):
    rows, _ = blobs(MIDDLES, COUNTS, width=0.05)
    found = [shares(noised([rows], MIDDLES, 8.0, name=f"draw {draw}")) for draw in range(500)]
    sampling = [n / 1600 * (1 - n / 1600) / 1600 for n in COUNTS]
    for place in range(3):
        spread = np.std([one[place].value for one in found])
        stated = np.median([one[place].scale ** 2 - sampling[place] for one in found]) ** 0.5
        assert spread == pytest.approx(stated, rel=0.12)


def drifts(blobs, noised, after):
    """Intervals of each segment's drift between fresh samples of two populations."""
    found = []
    for draw in range(150):
        versions = []
        for version, population in enumerate((COUNTS, after)):
            chance = np.random.default_rng([draw, version])
            counts = chance.multinomial(sum(population), np.array(population) / sum(population))
            rows, _ = blobs(MIDDLES, counts, width=0.05)
            sums = noised([rows], MIDDLES, 4.0, name=f"{draw} {version}")
            versions.append(dict(enumerate(shares(sums))))
        found.append(drift(*versions))
    return found


def test_a_population_that_stays_shows_no_drift_at_the_stated_rate(blobs, noised):
    found = drifts(blobs, noised, COUNTS)
    held = np.mean([0.0 in one.interval() for all_ in found for one in all_.values()])
    assert 0.91 < held < 0.98


def test_a_population_that_moves_shows_it(blobs, noised):
    after = [600, 500, 500]
    found = drifts(blobs, noised, after)
    for place in range(3):
        moved = after[place] / 1600 - COUNTS[place] / 1600
        held = np.mean([moved in all_[place].interval() for all_ in found])
        assert held > 0.89
    assert np.mean([0.0 in all_[0].interval() for all_ in found]) < 0.05


def test_only_segments_of_both_versions_drift():
    before = {1: Estimate(0.4, 0.03), 2: Estimate(0.6, 0.03)}
    after = {3: Estimate(0.5, 0.04), 2: Estimate(0.5, 0.04)}
    found = drift(before, after)
    assert list(found) == [2]
    assert (found[2].value, found[2].scale) == pytest.approx((-0.1, 0.05))


@pytest.mark.parametrize(("confidence", "among"), [(0, 1), (1, 1), (math.nan, 1), (0.9, 0)])
def test_an_impossible_confidence_is_refused(confidence, among):
    with pytest.raises(InvalidRecordError) as refusal:
        Estimate(1, 1).interval(confidence, among)
    assert refusal.value.code == "segments.confidence_invalid"
    assert Estimate(1, 1).interval(0.95).high == pytest.approx(2.959964)
