"""Weights and penalties come from noised tables, and mean what their papers say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.dpias import FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_tables import GroupTable, TableLayout
from fedcore.fairness_terms import FairnessTerms
from fedcore.fairness_weights import penalty_of, weights_of

THREE = SensitiveAttribute(name="group", groups=("a", "b", "c"), special_condition="Art. 9(2)(a)")
BOUND = FairnessBound(attribute="group", metric="demographic_parity_difference", largest_gap=0.1)
TERMS = FairnessTerms(bounds=(BOUND,))


def table(*cells, epsilon=None, further=()):
    """A table from each group's people without the label and with it, over all bands."""
    layout = TableLayout(attributes=(THREE,), threshold=0.5, further_edges=further)
    rest = (0, 0) * (layout.bands - 1)
    return GroupTable(layout, tuple(n for cell in cells for n in (*cell, *rest)), 1, epsilon)


counts = st.integers(30, 3000)
cells = st.tuples(counts, counts)


@settings(max_examples=30)
@given(st.tuples(cells, cells, cells))
def test_under_the_weights_label_and_group_are_independent(people):
    found = weights_of(table(*people), TERMS, "group").reweighing
    weighed = np.array(
        [
            [number * found.weight(group, positive=bool(label)) for label, number in enumerate(of)]
            for group, of in zip("abc", people, strict=True)
        ]
    )
    totals = np.sum(people, axis=0)
    rates = weighed[:, 1] / weighed.sum(axis=1)
    # But for what four digits round away.
    assert rates == pytest.approx(np.full(3, totals[1] / totals.sum()), rel=2e-3)
    assert weighed.sum(axis=1) == pytest.approx(np.sum(people, axis=1), rel=2e-3)


def test_a_group_that_is_small_by_its_noised_counts_has_no_weight_and_is_in_no_sum():
    people = (600, 200), (300, 300), (500, 20)
    found = weights_of(table(*people), TERMS, "group")
    assert found.left_out == ("c",)
    assert found.reweighing.weight("c", positive=True) == 1.0
    assert found.reweighing.weight("a", positive=True) == 1.0 * round(800 * 500 / 1400 / 200, 3)
    noisy = weights_of(table((600, 200), (300, 300), (500, 60), epsilon=0.1), TERMS, "group")
    assert noisy.left_out == ("c",)
    assert weights_of(table((600, 200), (300, 300), (500, 60)), TERMS, "group").left_out == ()


def test_with_fewer_than_two_groups_there_is_nothing_to_weigh():
    with pytest.raises(InvalidRecordError, match=r"fairness\.too_few_to_weigh"):
        weights_of(table((600, 200), (10, 5), (3, 1)), TERMS, "group")
    assert weights_of(table((600, 200), (60, 50), (3, 1)), TERMS, "group").left_out == ("c",)
    with pytest.raises(InvalidRecordError, match=r"fairness\.unknown_group"):
        weights_of(table((600, 200), (60, 50), (3, 1)), TERMS, "age")


def test_bands_of_the_score_do_not_matter_and_no_condition_goes_into_a_plan():
    people = (600, 200), (300, 300), (500, 100)
    plain, banded = (
        weights_of(table(*people, further=f), TERMS, "group") for f in ((), (0.2, 0.8))
    )
    assert plain == banded
    assert plain.reweighing.attribute.special_condition is None
    assert THREE.special_condition is not None


def test_a_penalty_has_the_share_of_its_group():
    people = (600, 200), (300, 300), (500, 100)
    penalty = penalty_of(table(*people), "group", "b", -0.5)
    assert [(each.group, each.share, each.strength) for each in penalty.penalties] == [
        ("b", 0.3, -0.5)
    ]
    assert penalty.attribute.special_condition is None
    with pytest.raises(InvalidRecordError, match=r"fairness\.unknown_group"):
        penalty_of(table(*people), "group", "z", 1.0)
    for strength in (math.nan, math.inf, -math.inf, -1e9, 100.1):
        with pytest.raises(InvalidRecordError, match=r"--strength: .* from -100 to 100") as refused:
            penalty_of(table(*people), "group", "b", strength)
        assert refused.value.code == "fairness.strength_invalid"
    assert penalty_of(table(*people), "group", "b", -100.0).penalties[0].strength == -100


@pytest.mark.parametrize("people", [(-3, 1), (0, 0)])
def test_a_share_that_the_noise_hides_is_refused(people):
    with pytest.raises(InvalidRecordError, match=r"fairness\.too_few_to_weigh"):
        penalty_of(table((600, 200), people, (5, 5), epsilon=1.0), "group", "b", 1.0)
    assert penalty_of(table((600, 200), (3, 1), (5, 5)), "group", "b", 1.0).penalties
