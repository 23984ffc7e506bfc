import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.noise import SeededNoise

NAMES = ("north", "run-1/1/1", "noise")


def draws(noise, *names):
    return noise.stream(*names).uniforms(64).tolist()


def test_a_seed_repeats_its_streams_to_the_bit():
    assert draws(SeededNoise(7), *NAMES) == draws(SeededNoise(7), *NAMES)
    assert draws(SeededNoise(7), *NAMES) != draws(SeededNoise(8), *NAMES)


@pytest.mark.parametrize(
    "other",
    [
        ("south", "run-1/1/1", "noise"),
        ("north", "run-1/2/1", "noise"),
        ("north", "run-2/1/1", "noise"),
        ("north", "run-1/1/2", "noise"),
        ("north", "run-1/1/1", "sampling"),
    ],
)
def test_units_rounds_runs_attempts_and_purposes_have_streams_of_their_own(other):
    noise = SeededNoise(7)
    first = noise.stream(*NAMES).normals(4000)
    second = noise.stream(*other).normals(4000)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.08


@given(
    st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=2, max_size=2, unique=True),
    st.integers(0, 3),
)
def test_no_two_names_run_together(names, seed):
    noise = SeededNoise(seed)
    first, second = (draws(noise, *name) for name in names)
    assert first != second


def test_asking_for_one_stream_does_not_move_another():
    calm, busy = SeededNoise(1), SeededNoise(1)
    busy.stream("south", "run-1/1/1", "noise").normals(100)
    assert draws(calm, *NAMES) == draws(busy, *NAMES)


def test_a_receipt_says_that_the_noise_was_seeded():
    assert SeededNoise(1).kind == "seeded-simulation"
