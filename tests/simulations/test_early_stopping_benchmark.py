"""The benchmark of early stopping: what it calls an improvement is one, and noise is none."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "early_stopping.py"
CUSTOMERS = 1000


@pytest.fixture(scope="module")
def bench():
    spec: Any = importlib.util.spec_from_file_location("bench_early_stopping", BENCHMARK)
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["bench_early_stopping"] = module
    spec.loader.exec_module(module)
    return module


def course(bench, levels, epsilon=1.0, seed=1):
    """A training whose checks find each customer's loss at these levels."""
    checks = tuple(
        bench.Check(number, {"log_loss": level}, {}, dict.fromkeys("ab", _losses(level)))
        for number, level in enumerate(levels, start=1)
    )
    return bench.Course(seed, epsilon, checks)


def _losses(level):
    return np.full(CUSTOMERS, level)


def test_a_run_that_gets_better_goes_on_and_one_that_gets_no_better_ends(bench):
    falling = course(bench, (0.60, 0.55, 0.50, 0.45, 0.40))
    assert bench.stopped_by_pairs(falling) == (4, 4)
    rising = course(bench, (0.60, 0.55, 0.56, 0.57, 0.58))
    assert bench.stopped_by_pairs(rising) == (3, 1)


def test_a_gain_below_the_noise_is_none(bench):
    least = bench.seen_from(course(bench, (0.6,), epsilon=0.01))
    small = course(bench, [0.6 - 0.01 * least * place for place in range(5)], epsilon=0.01)
    ends = [bench.stopped_by_pairs(course_of(bench, small, seed))[1] for seed in range(20)]
    assert sum(place > 0 for place in ends) <= 6  # two checks each, one in twenty of them
    large = course(bench, [0.9 - 5 * least * place for place in range(5)], epsilon=0.01)
    assert bench.stopped_by_pairs(large) == (4, 4)


def course_of(bench, given, seed):
    return bench.Course(seed, given.epsilon, given.checks)


def test_one_customer_moves_a_units_sum_by_the_clip_at_most(bench):
    before, after = course(bench, (5.0, 0.0)).checks
    one = bench.noised_gain(bench.Course(1, 20.0, ()), "a", before, after)
    assert one == pytest.approx(CUSTOMERS * bench.CLIP, abs=5 * bench.CLIP)


def test_noise_alone_is_seen_once_in_twenty(bench):
    still = [course(bench, (0.6, 0.6), epsilon=0.1, seed=seed) for seed in range(400)]
    seen = [bench.stopped_by_pairs(one)[1] for one in still]
    # The two units' Laplace noise has a longer tail than a normal one of the same deviation.
    assert 5 <= sum(seen) <= 36
