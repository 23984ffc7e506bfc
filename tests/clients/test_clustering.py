"""What a node releases around centres, before and after its noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clients.clustering import customers_of, release_locally
from clients.data import Examples
from fedcore.clusterings import CourseSpec, SegmentCount
from fedcore.privacy.clustering import Placement, diameter
from fedcore.segments.placements import weights_of
from simulations.noise import SeededNoise

COURSE = CourseSpec(segments=SegmentCount(least=2, most=5), spread=12)
SILENT = COURSE.release_terms(0.0)
INSIDE = st.floats(-1, 1)


def examples_of(customers):
    """Return the Examples of customers, each given by its rows."""
    rows = np.concatenate([np.reshape(each, (-1, 2)) for each in [*customers, np.zeros((0, 2))]])
    counts = np.array([len(np.reshape(each, (-1, 2))) for each in customers], dtype=np.int64)
    identifiers = tuple(f"C{place}" for place in range(len(customers)))
    return Examples(rows, np.zeros(len(rows)), identifiers, counts, most=4)


def released(customers, placement, terms=SILENT):
    noise = SeededNoise(1).stream("north", "run-1/1/1", "noise")
    return release_locally(terms, weights_of(placement), examples_of(customers), noise)["sums"]


def test_a_customer_with_several_rows_is_at_their_mean():
    several = examples_of([[[0.2, -0.4]], [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], [[1, 1], [0, 0]]])
    assert customers_of(several) == pytest.approx(np.array([[0.2, -0.4], [0.5, 0.5], [0.5, 0.5]]))
    single = Examples(np.array([[0.1, 0.2], [0.3, 0.4]]), np.zeros(2))
    assert customers_of(single) is single.features
    assert customers_of(examples_of([])).shape == (0, 2)


@settings(deadline=None)
@given(st.lists(arrays(np.float64, st.tuples(st.integers(1, 4), st.just(2)), elements=INSIDE)))
def test_a_customers_mean_is_the_same_to_the_bit_whoever_else_is_there(customers):
    alone = [customers_of(examples_of([each])) for each in customers]
    beside = customers_of(examples_of(customers))
    assert beside.tobytes() == np.concatenate([*alone, np.zeros((0, 2))]).tobytes()


@settings(deadline=None, max_examples=200)
@given(
    customers=st.lists(
        arrays(np.float64, st.tuples(st.integers(1, 4), st.just(2)), elements=INSIDE), min_size=1
    ),
    centres=arrays(np.float64, st.tuples(st.integers(1, 12), st.just(2)), elements=INSIDE),
    radius=st.floats(1e-3, diameter(2)),
    place=st.integers(0, 10**6),
)
def test_one_customer_with_all_rows_moves_a_release_by_at_most_the_sensitivity(
    customers, centres, radius, place
):
    place %= len(customers)
    placement = Placement(centres, radius)
    others = customers[:place] + customers[place + 1 :]
    moved = released(customers, placement) - released(others, placement)
    assert np.linalg.norm(moved) <= COURSE.l2_sensitivity


def test_the_noise_of_a_release_has_the_plans_scale_and_is_there_for_nobody_as_well():
    placement = Placement(np.linspace(-1, 1, 400).reshape(200, 2), 0.5)
    noise = released([], placement, COURSE.release_terms(5.0))
    scale = 5.0 * COURSE.l2_sensitivity
    assert len(noise) == 200 * 5
    assert 0.9 * scale < noise.std() < 1.1 * scale
    assert not released([], placement).any()
