"""Noised sums say what the rows say, and how far off they may be."""

import math

import numpy as np
import pytest

from fedcore.errors import InvalidRecordError
from fedcore.privacy.clustering import Placement, ReleaseTerms
from fedcore.segments.noised import combine

MIDDLES = [[-0.6, 0.2], [0.5, -0.3]]


def test_without_noise_all_is_as_on_pooled_rows(blobs, noised):
    rows, truth = blobs(MIDDLES, [300, 100])
    sums = noised([rows[::2], rows[1::2]], MIDDLES)
    groups = [rows[truth == place] for place in (0, 1)]
    assert sums.units == 2
    assert np.allclose(sums.counts, [300, 100])
    assert np.allclose(sums.means, [group.mean(axis=0) for group in groups], atol=1e-6)
    scatters = [np.square(group - group.mean(axis=0)).sum(axis=0) for group in groups]
    assert np.allclose(sums.scatters, scatters, atol=1e-5)
    assert (sums.count_scale, sums.scatter_scale) == (0, 0)


def test_each_unit_adds_its_own_noise():
    terms, placement = ReleaseTerms(2.0), Placement(np.zeros((1, 2)), 1.0)
    sums = combine([np.zeros(5)] * 9, placement, terms)
    assert sums.noise_scale == pytest.approx(3 * 2 * terms.l2_sensitivity)


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_scales_are_the_errors_that_noise_makes(blobs, noised, noise):
    rows, truth = blobs(MIDDLES, [600, 400])
    errors = []
    for draw in range(400):
        sums = noised([rows], MIDDLES, noise, name=f"draw {draw}", radius=0.7)
        truths = np.stack([rows[truth == place].mean(axis=0) for place in (0, 1)])
        errors.append(
            [
                *(sums.counts - [600, 400]) / sums.count_scale,
                *((sums.means - truths) / sums.shift_scales[:, None]).reshape(-1),
            ]
        )
    spread = np.array(errors).std(axis=0)
    assert ((spread > 0.85) & (spread < 1.2)).all()


def test_a_centre_without_rows_is_not_found_and_divides_by_no_small_number(blobs, noised):
    rows, _ = blobs(MIDDLES, [500, 500])
    for draw in range(50):
        sums = noised([rows], [*MIDDLES, [0.9, 0.9]], 3.0, name=f"draw {draw}", radius=0.5)
        assert sums.is_found[:2].all()
        assert (sums.sizes >= sums.least_size).all()
        assert np.linalg.norm(sums.shifts, axis=1).max() <= 0.5 + 1e-12
        assert np.abs(sums.means).max() <= 1
    assert not noised([rows], [*MIDDLES, [0.9, 0.9]]).is_found[2]


@pytest.mark.parametrize(
    "releases",
    [[], [np.zeros(4)], [np.zeros(5), np.zeros(6)], [np.zeros((1, 5))], [np.full(5, math.nan)]],
)
def test_a_release_that_does_not_fit_is_refused(releases):
    placement, terms = Placement(np.zeros((1, 2)), 1.0), ReleaseTerms(1.0)
    with pytest.raises(InvalidRecordError) as refusal:
        combine(releases, placement, terms)
    assert refusal.value.code == "clustering.release_invalid"
    assert combine([np.zeros(5)], placement, terms).counts.tolist() == [0]


def test_the_order_of_units_plays_no_part():
    placement, terms = Placement(np.zeros((1, 2)), 1.0), ReleaseTerms(1.0)
    units = [np.array([1e15, 1, 1, 0.1, 3]), np.array([-1e15, 1, 1, 0.2, 3]), np.full(5, 0.3)]
    one, other = (combine(order, placement, terms) for order in (units, units[::-1]))
    assert np.array_equal(one.blocks, other.blocks)
