"""Rows around known middles, and what units release of them."""

import hashlib

import numpy as np
import pytest

from fedcore.privacy.clustering import Placement, ReleaseTerms, release
from fedcore.privacy.noise import KeyStream
from fedcore.segments.noised import combine


def _stream(name):
    return KeyStream(hashlib.sha256(str(name).encode()).digest())


@pytest.fixture
def blobs():
    """Return rows around middles, so many for each, and the place of each row's middle."""

    def make(middles, counts, width=0.1, name="rows"):
        middles = np.array(middles, dtype=np.float64)
        truth = np.repeat(np.arange(len(middles)), counts)
        noise = _stream(name).normals(len(truth) * middles.shape[1]).reshape(len(truth), -1)
        return np.clip(middles[truth] + width * noise, -1, 1), truth

    return make


@pytest.fixture
def noised():
    """Return the sum of the units' releases around centres."""

    def make(units, centres, noise_multiplier=0.0, name="noise", radius=None):
        centres = np.array(centres, dtype=np.float64)
        placement = Placement(centres, radius or 2 * np.sqrt(centres.shape[1]))
        terms = ReleaseTerms(noise_multiplier)
        sent = [
            release(rows, placement, terms, _stream(f"{name} {unit}"))
            for unit, rows in enumerate(units)
        ]
        return combine(sent, placement, terms)

    return make
