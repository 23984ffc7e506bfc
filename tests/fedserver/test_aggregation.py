import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcore.learning_rules import Algorithm, Median, NormBound, TrimmedMean
from fedcore.plans import UnitTerms
from fedserver.aggregation import aggregate

UNITS = tuple("abcdefghi")
SIZES = dict(zip(UNITS, (48, 96, 768, 48, 192, 384, 96, 48, 1536), strict=True))
LARGEST = 1e300  # of what `open_answer` lets through
COORDINATES = 5
ENTRIES = st.one_of(
    st.floats(-10, 10), st.sampled_from([0.0, -0.0, 5e-324, LARGEST, -LARGEST, 1e160, -1e160])
)
MODEST = st.lists(
    arrays(np.float64, COORDINATES, elements=st.floats(-10, 10)), min_size=3, max_size=9
)
ANYTHING = st.lists(arrays(np.float64, COORDINATES, elements=ENTRIES), min_size=3, max_size=9)


def named(vector):
    return {"0.bias": vector[:1], "0.weight": vector[1:].reshape(2, 2)}


def flat(found):
    return np.concatenate([found[name].ravel() for name in ("0.bias", "0.weight")])


@pytest.fixture(scope="session")
def aggregated(plan):
    units = tuple(UnitTerms(unit=unit, public_n=size) for unit, size in SIZES.items())

    def by(robust, vectors):
        algorithm = Algorithm(local_learning_rate=1.0, robust=robust)
        ruled = plan.model_copy(update={"units": units, "algorithm": algorithm})
        named_by_unit = zip(UNITS, map(named, vectors), strict=False)
        there, back = dict(named_by_unit), flat
        found = back(aggregate(ruled, there))
        assert found.tobytes() == back(aggregate(ruled, dict(reversed(there.items())))).tobytes()
        assert np.isfinite(found).all()
        return found

    return by


def shares_of(vectors):
    sizes = np.array([SIZES[unit] for unit in UNITS[: len(vectors)]], dtype=np.float64)
    return sizes / sizes.sum()


def rules_for(count):
    """Every rule that holds against a lie or more among so many, and how many lies that is."""
    yield Median(kind="median"), (count - 1) // 2
    for trim in range(1, (count - 1) // 2 + 1):
        yield TrimmedMean(kind="trimmed_mean", trim=trim), trim


@hypothesis_settings(max_examples=60)
@given(ANYTHING)
def test_the_median_is_numpys_own_whatever_the_sizes(aggregated, vectors):
    found = aggregated(Median(kind="median"), vectors)
    assert found == pytest.approx(np.median(vectors, axis=0), rel=1e-12)


@hypothesis_settings(max_examples=60)
@given(ANYTHING, st.data())
def test_a_trimmed_mean_is_the_mean_of_what_is_left(aggregated, vectors, data):
    trim = data.draw(st.integers(1, (len(vectors) - 1) // 2))
    found = aggregated(TrimmedMean(kind="trimmed_mean", trim=trim), vectors)
    for value, column in zip(found, np.array(vectors).T.tolist(), strict=True):
        left = sorted(column)[trim : len(column) - trim]
        # Of 1e300 and -1e300 no sum remembers what was added between them.
        assert abs(value - math.fsum(left) / len(left)) <= 1e-12 * max(map(abs, left))


@hypothesis_settings(max_examples=60)
@given(MODEST, st.sampled_from([1e-3, 1.0, 30.0]))
def test_the_norm_bound_shortens_what_is_longer_and_leaves_the_rest(aggregated, vectors, bound):
    norms = np.maximum(np.linalg.norm(vectors, axis=1), 1e-300)
    shortened = np.array(vectors) * np.minimum(1, bound / norms)[:, None]
    found = aggregated(NormBound(kind="norm_bound", l2_bound=bound), vectors)
    assert found == pytest.approx(shares_of(vectors) @ shortened, rel=1e-9, abs=1e-12)
    short = [vector / 100 for vector in vectors]
    wide = NormBound(kind="norm_bound", l2_bound=30.0)
    assert aggregated(wide, short).tobytes() == aggregated(None, short).tobytes()


def lies(vectors):
    """What a unit may send instead of its update: huge, sign-flipped, close to the others."""
    last = vectors[-1]
    yield from (np.full(COORDINATES, LARGEST), np.full(COORDINATES, -LARGEST))
    yield from (-last, -100 * last, vectors[0] + 1e-9, np.zeros(COORDINATES))
    yield LARGEST * np.array([1, -1, 1, -1, 1])


@hypothesis_settings(max_examples=40)
@given(MODEST)
def test_units_that_lie_leave_each_coordinate_among_the_others_values(aggregated, vectors):
    for rule, most in rules_for(len(vectors)):
        honest = np.array(vectors[: len(vectors) - most])
        for lie in lies(vectors):
            found = aggregated(rule, [*honest, *[lie] * most])
            assert (honest.min(axis=0) - 1e-12 <= found).all(), rule
            assert (found <= honest.max(axis=0) + 1e-12).all(), rule


def test_zeros_of_unlike_sign_come_out_the_same_in_whichever_order(aggregated):
    zeros = [np.full(COORDINATES, value) for value in (0.0, -0.0, 5.0)]
    for rule, _ in rules_for(3):
        assert (aggregated(rule, zeros) == 0).all()


def test_one_more_that_lies_than_the_rule_allows_may_decide(aggregated):
    honest, lie = np.ones(COORDINATES), np.full(COORDINATES, LARGEST)
    for rule, most in rules_for(5):
        found = aggregated(rule, [*[honest] * (4 - most), *[lie] * (most + 1)])
        assert (found > 1e298).all(), rule


@hypothesis_settings(max_examples=40)
@given(MODEST, st.sampled_from([1e-3, 1.0, 30.0]))
def test_a_unit_that_lies_moves_the_mean_by_its_share_of_the_bound(aggregated, vectors, bound):
    rule = NormBound(kind="norm_bound", l2_bound=bound)
    silent = aggregated(rule, [*vectors[:-1], np.zeros(COORDINATES)])
    allowed = shares_of(vectors)[-1] * bound
    for lie in lies(vectors):
        moved = aggregated(rule, [*vectors[:-1], lie]) - silent
        assert np.linalg.norm(moved) <= allowed * (1 + 1e-9) + 1e-12
    huge = aggregated(rule, [*vectors[:-1], np.full(COORDINATES, LARGEST)]) - silent
    assert np.linalg.norm(huge) == pytest.approx(allowed, rel=1e-9, abs=1e-12)


def test_without_a_rule_one_unit_moves_the_mean_anywhere(aggregated):
    vectors = [np.ones(COORDINATES)] * 3
    lie = np.full(COORDINATES, LARGEST)
    assert (aggregated(None, [*vectors[:2], lie]) > 1e299).all()
    assert aggregated(None, vectors) == pytest.approx(np.ones(COORDINATES))
