import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.errors import InvalidRecordError
from fedcore.score_tables import DEFAULT_BINS, ScoreBins, add_tables, by_label, score_table

FEW = ScoreBins("few", (0.0, 0.25, 0.5, 1.0))
SCORES = st.floats(allow_nan=True, allow_infinity=True)
CUSTOMERS = st.lists(st.tuples(st.sampled_from([0, 1]), SCORES), max_size=30)


def table_of(customers, bins=DEFAULT_BINS):
    labels, scores = ([c[i] for c in customers] for i in (0, 1))
    return score_table(labels, scores, bins)


# Bins


def test_the_default_bins_are_public_rising_edges_from_zero_to_one():
    edges = DEFAULT_BINS.edges
    assert (edges[0], edges[-1]) == (0.0, 1.0)
    assert list(edges) == sorted(set(edges))
    assert DEFAULT_BINS.count == len(edges) - 1
    assert {0.1, 0.2, 0.3, 0.5, 0.9} <= set(edges)


def test_an_edge_belongs_to_the_bin_above_it_and_one_to_the_last():
    assert FEW.bin_of([0.0, 0.2499, 0.25, 0.4999, 0.5, 1.0]).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_goes_to_bin_0(score):
    assert FEW.bin_of([score]).tolist() == [0]


@given(SCORES)
def test_every_score_has_a_bin_of_its_own_making(score):
    (alone,) = DEFAULT_BINS.bin_of([score])
    assert 0 <= alone < DEFAULT_BINS.count
    assert DEFAULT_BINS.bin_of([0.3, score, math.nan])[1] == alone


def test_middles_lie_in_their_bins():
    assert DEFAULT_BINS.bin_of(DEFAULT_BINS.middles).tolist() == list(range(DEFAULT_BINS.count))


# Tables


def test_a_table_is_flat_label_by_label():
    customers = [(0, 0.1), (0, 0.1), (0, 0.3), (1, 0.1), (1, 0.9), (1, 0.95), (1, 0.6)]
    flat = table_of(customers, FEW)
    assert flat.tolist() == [2, 1, 0, 1, 0, 3]
    assert flat.dtype == np.int64
    assert by_label(flat, FEW).tolist() == [[2, 1, 0], [1, 0, 3]]


@given(CUSTOMERS, st.tuples(st.sampled_from([0, 1]), SCORES))
def test_one_customer_moves_one_count_by_one_whatever_the_scores_are(others, customer):
    """Privacy rule 9: L1 = 1."""
    moved = table_of([*others, customer]) - table_of(others)
    assert (np.abs(moved).sum(), moved.sum()) == (1, 1)


@given(CUSTOMERS, st.randoms())
def test_a_table_does_not_depend_on_the_order_of_customers(customers, chance):
    mixed = list(customers)
    chance.shuffle(mixed)
    assert np.array_equal(table_of(mixed), table_of(customers))


@given(CUSTOMERS, CUSTOMERS)
def test_the_sum_of_two_units_tables_is_the_table_of_both(north, south):
    assert np.array_equal(add_tables([table_of(north), table_of(south)]), table_of(north + south))


def test_noised_tables_add_up_and_none_are_all_zeros():
    assert add_tables([(3, -2, 0, 1, 1, 1), (-5, 1, 0, 0, 0, 2)], FEW).tolist() == [
        -2,
        -1,
        0,
        1,
        1,
        3,
    ]
    assert add_tables([], FEW).tolist() == [0] * 6


@pytest.mark.parametrize("bad", [(1, 2, 3), (0.5,) * 6, ((1, 2, 3), (1, 2, 3))])
def test_a_table_of_another_shape_or_kind_is_refused_and_its_twin_is_not(bad):
    for use in (lambda table: add_tables([table], FEW), lambda table: by_label(table, FEW)):
        with pytest.raises(InvalidRecordError) as refused:
            use(bad)
        assert refused.value.code == "evaluation.table_unfit"
        assert use((1, 2, 3, 4, 5, 6)).sum() == 21


@pytest.mark.parametrize("labels", [[0, 1, 1], [[0, 1]]])
def test_labels_that_do_not_fit_the_scores_are_refused_and_their_twins_are_not(labels):
    with pytest.raises(InvalidRecordError) as refused:
        score_table(labels, [0.1, 0.2], FEW)
    assert refused.value.code == "evaluation.table_unfit"
    assert score_table([0, 1], [0.1, 0.2], FEW).sum() == 2
