"""What a node releases of its customers' places in an embedding: bounded as among features."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.clustering import release_locally
from clients.data import Examples
from fedcore.clusterings import CourseSpec, SegmentCount
from fedcore.plans import ModelSpec
from fedcore.privacy.clustering import Placement
from fedcore.segments.embedding import encoder_of
from fedcore.segments.placements import weights_of
from fedcore.tasks.segmentation import task
from fedcore.tasks.task import shapes_of
from simulations.noise import SeededNoise

COURSE = CourseSpec(segments=SegmentCount(least=2, most=5), spread=12)
SILENT, INPUTS = COURSE.release_terms(0.0), 4
MODEL = ModelSpec(kind="autoencoder", hidden=(5,), embedding=2)


def encoder(scale=1.0, seed=0):
    rng, shapes = np.random.default_rng(seed), shapes_of(task.build(MODEL, INPUTS))
    return encoder_of({name: scale * rng.normal(size=shape) for name, shape in shapes.items()}, 1)


def released(rows, placement, by, counts=None):
    most = 1 if counts is None else int(max(counts))
    examples = Examples(rows, np.zeros(len(rows)), counts=counts, most=most)
    noise = SeededNoise(1).stream("north", "run-1/1/1", "noise")
    return release_locally(SILENT, weights_of(placement), examples, noise, by)["sums"]


@settings(deadline=None)
@given(
    st.integers(1, 30),
    st.integers(0, 10**6),
    st.sampled_from([1.0, 1e3, 1e150]),
    st.sampled_from([1e-3, 0.4, 2.0]),
    st.data(),
)
def test_one_customer_moves_it_by_at_most_the_sensitivity_whatever_the_autoencoder(
    count, seed, scale, radius, data
):
    rng = np.random.default_rng(seed)
    rows, by = rng.uniform(-1, 1, (count, INPUTS)), encoder(scale, seed)
    placement = Placement(rng.uniform(-1, 1, (data.draw(st.integers(1, 6)), 2)), radius)
    rest = np.delete(rows, data.draw(st.integers(0, count - 1)), axis=0)
    moved = released(rows, placement, by) - released(rest, placement, by)
    assert np.linalg.norm(moved) <= COURSE.l2_sensitivity


def test_places_are_told_of_the_mean_of_a_customers_rows():
    rows = np.random.default_rng(3).uniform(-1, 1, (5, INPUTS))
    placement, by = Placement(np.zeros((1, 2)), 2.0), encoder()
    means = np.array([rows[:3].mean(axis=0), rows[3:].mean(axis=0)])
    several = released(rows, placement, by, counts=np.array([3, 2]))
    assert several == pytest.approx(released(means, placement, by), abs=1e-8)
    among_places = released(by.places(means), placement, None)
    assert np.array_equal(released(means, placement, by), among_places)
