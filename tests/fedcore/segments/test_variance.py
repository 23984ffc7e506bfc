"""Explained variance is that of pooled rows, or as far off as stated."""

import numpy as np
import pytest

from fedcore.privacy.clustering import nearest
from fedcore.segments.variance import explained_variance

MIDDLES = np.array([[-0.5, 0.1, 0.0], [0.5, 0.4, -0.2], [0.4, -0.5, 0.3]])


def exact(rows, centres):
    left = np.square(rows - centres[nearest(rows, centres)]).sum()
    return 1 - left / np.square(rows - rows.mean(axis=0)).sum()


@pytest.mark.parametrize("width", [0.01, 0.1, 0.25])
def test_without_noise_it_is_that_of_pooled_rows(blobs, noised, width):
    rows, _ = blobs(MIDDLES, [500, 300, 100], width)
    found = explained_variance(noised([rows[:400], rows[400:]], MIDDLES))
    assert found.value == pytest.approx(exact(rows, MIDDLES), abs=1e-5)
    assert found.scale == 0


@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_its_interval_holds_the_exact_value_at_its_rate(blobs, noised, noise):
    rows, _ = blobs(MIDDLES, [1500, 900, 600], 0.2)
    truth = exact(rows, MIDDLES)
    found = [
        explained_variance(noised([rows], MIDDLES, noise, name=f"{draw}", radius=1.2))
        for draw in range(300)
    ]
    held = np.mean([truth in one.interval(0.9) for one in found])
    assert 0.84 < held < 0.96


def test_noise_alone_explains_nothing_with_certainty(noised):
    found = explained_variance(noised([np.zeros((0, 3))], MIDDLES, 5.0))
    assert 0 <= found.value <= 1
    assert found.scale >= 0


def test_one_segment_explains_what_its_centre_does(blobs, noised):
    rows, _ = blobs(MIDDLES, [500, 300, 100])
    middle = rows.mean(axis=0, keepdims=True)
    assert explained_variance(noised([rows], middle)).value == pytest.approx(0, abs=1e-5)
