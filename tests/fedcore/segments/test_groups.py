"""Groups by segments: exact without noise, within intervals with it, and too few stay hidden."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import GroupMerge, SensitiveAttribute
from fedcore.noised_rates import NoisedRate, rate_bounds
from fedcore.privacy.clustering import NOWHERE
from fedcore.privacy.discrete import discrete_laplace
from fedcore.privacy.noise import KeyStream
from fedcore.segments.groups import (
    GroupTerms,
    SegmentLayout,
    count_segments,
    share_groups,
    sum_segment_tables,
)

GENDER = SensitiveAttribute(name="gender", groups=("female", "male"))
AGE = SensitiveAttribute(name="age", groups=("young", "middle", "old"))
IDS = (7, 2)
LAYOUT = SegmentLayout(attributes=(GENDER, AGE), segments=IDS)
TERMS = GroupTerms(("gender",))
BY_GENDER = SegmentLayout(attributes=(GENDER,), segments=IDS)


def stream(name):
    return KeyStream(name.encode().ljust(32, b"\0"))


def shared(counts, terms=TERMS, layout=BY_GENDER, units=1, epsilon=None):
    table = sum_segment_tables(layout, [counts] * units, epsilon)
    return {(one.group, one.segment): one for one in share_groups(table, terms)}


CUSTOMERS = st.lists(
    st.tuples(
        st.sampled_from((*GENDER.groups, "other")),
        st.sampled_from((*AGE.groups, "unknown")),
        st.sampled_from((NOWHERE, 0, 1)),
    ),
    min_size=1,
    max_size=20,
)


def counted(customers):
    groups = [[one[0] for one in customers], [one[1] for one in customers]]
    return count_segments(LAYOUT, groups, np.array([one[2] for one in customers], dtype=np.intp))


@given(CUSTOMERS, st.integers(0, 19))
def test_one_customer_moves_one_entry_by_one_and_nobody_else(customers, place):
    without = customers[:place] + customers[place + 1 :]
    gone = np.array(counted(customers)) - np.array(counted(without) if without else [0] * 12)
    assert np.abs(gone).sum() <= 1
    assert gone.min() >= 0
    order = sorted(customers)
    assert counted(order) == counted(customers)


def test_whose_group_is_not_declared_or_who_is_in_no_segment_is_counted_nowhere():
    kept = [("female", "young", 1), ("male", "old", 0)]
    assert counted([*kept, ("other", "old", 0), ("male", "unknown", 0), ("male", "old", -1)]) == (
        counted(kept)
    )
    assert counted(kept) == (0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)


def test_without_noise_shares_are_those_of_pooled_rows():
    # Female: 40 in segment 7, 60 in 2; male: 160 and 40.
    found = shared((40, 60, 160, 40))
    assert {key: one.share for key, one in found.items()} == {
        ("female", 7): 0.2,
        ("female", 2): 0.6,
        ("male", 7): 0.8,
        ("male", 2): 0.4,
    }
    assert found["male", 7].count == 160
    gap = found["female", 7].gap
    other = found["female", 2].gap
    assert gap
    assert other
    assert gap.low < 0.2 - 0.6 < gap.high < 0
    assert (other.low, other.high) == pytest.approx((-gap.high, -gap.low))


def test_intervals_are_those_of_each_rate_at_its_part_of_alpha():
    found = shared((40, 60, 160, 40), GroupTerms(("gender",), alpha=0.2))["female", 7]
    table = sum_segment_tables(BY_GENDER, [(40, 60, 160, 40)], None)
    female, first = np.array([True, False]), np.array([True, False])
    rate = NoisedRate(table.count(female, first), table.count(~female, first))
    assert found.interval == rate_bounds(rate, None, 0.2 / 8)


def test_intersections_and_merges_are_told_as_declared():
    terms = GroupTerms(
        ("age", "gender & age"),
        minimum_size=1,
        merges=(GroupMerge(attribute="age", groups=("middle", "old"), merged="older"),),
    )
    found = share_groups(sum_segment_tables(LAYOUT, [tuple(range(10, 22)), (0,) * 12], None), terms)
    names = [one.group for one in found if one.segment == 7]
    assert names == [
        "young",
        "older",
        "female & young",
        "female & older",
        "male & young",
        "male & older",
    ]
    assert [one.count for one in found if one.segment == 7] == [26, 64, 10, 26, 16, 38]
    with pytest.raises(InvalidRecordError) as refusal:
        share_groups(sum_segment_tables(LAYOUT, [(0,) * 12], None), GroupTerms(("religion",)))
    assert refusal.value.code == "fairness.unknown_group"


@pytest.mark.parametrize("counts", [(29, 60, 160, 40), (160, 60, 29, 40), (-3, 60, 160, 40)])
def test_too_few_by_the_noised_numbers_are_told_nothing_of_on_either_side(counts):
    found = shared(counts, units=1, epsilon=1.0)
    for group in ("female", "male"):
        hidden = found[group, 7]
        assert (hidden.count, hidden.share, hidden.interval, hidden.gap) == (None,) * 4
        assert found[group, 2].gap
    assert shared((30, 60, 160, 40), units=1, epsilon=1.0)["female", 7].count == 30


def test_one_segment_has_shares_and_no_gap():
    layout = SegmentLayout(attributes=(GENDER,), segments=(1,))
    found = shared((50, 150), layout=layout)["female", 1]
    assert (found.share, found.gap) == (0.25, None)


def test_each_unit_s_noise_makes_intervals_wider():
    counts, nobody = (400, 600, 1600, 400), (0, 0, 0, 0)
    widths = []
    for tables, epsilon in (([counts], None), ([counts], 0.2), ([counts, *[nobody] * 8], 0.2)):
        found = share_groups(sum_segment_tables(BY_GENDER, tables, epsilon), TERMS)[0]
        assert found.interval
        widths.append(found.interval.high - found.interval.low)
    assert widths[0] < widths[1] < widths[2]


def test_all_intervals_hold_together_at_their_rate():
    chance, truth = np.random.default_rng(3), np.array([0.15, 0.25, 0.4, 0.2])
    units, epsilon, draws, held = 3, 0.5, 60, 0
    of_segments = {7: 0.15 / 0.55, 2: 0.25 / 0.45}
    for draw in range(draws):
        tables = [
            chance.multinomial(400, truth) + discrete_laplace(4, epsilon, stream(f"{draw} {unit}"))
            for unit in range(units)
        ]
        table = sum_segment_tables(BY_GENDER, [one.tolist() for one in tables], epsilon)
        found = share_groups(table, GroupTerms(("gender",), alpha=0.2))
        shares = [
            (
                one,
                of_segments[one.segment] if one.group == "female" else 1 - of_segments[one.segment],
            )
            for one in found
        ]
        held += all(
            one.interval and one.interval.low <= share <= one.interval.high for one, share in shares
        )
        gap = next(one.gap for one in found if (one.group, one.segment) == ("female", 7))
        assert gap
        assert gap.high < 0.2
    assert held / draws >= 0.8


@pytest.mark.parametrize(
    "act",
    [
        lambda: sum_segment_tables(BY_GENDER, [], 1.0),
        lambda: sum_segment_tables(BY_GENDER, [(1, 2, 3)], 1.0),
        lambda: sum_segment_tables(BY_GENDER, [(1, 2, 3, 2**62)] * 2, 1.0),
        lambda: sum_segment_tables(BY_GENDER, [(1, 2, 3, 4)], 0.0),
        lambda: count_segments(BY_GENDER, [["female"]], np.zeros(2, dtype=np.intp)),
        lambda: count_segments(BY_GENDER, [["female"], ["old"]], np.zeros(1, dtype=np.intp)),
    ],
)
def test_tables_of_another_shape_are_refused(act):
    sum_segment_tables(BY_GENDER, [(1, 2, 3, 4)], 1.0)
    with pytest.raises(InvalidRecordError) as refusal:
        act()
    assert refusal.value.code == "fairness.table_invalid"


@pytest.mark.parametrize(
    "changes",
    [
        {"segments": (1, 1)},
        {"segments": ()},
        {"segments": (0,)},
        {"attributes": (GENDER, GENDER)},
        {"segments": tuple(range(1, 102))},
        {
            "segments": tuple(range(1, 101)),
            "attributes": tuple(
                SensitiveAttribute(name=name, groups=tuple("abcdef")) for name in "xyz"
            ),
        },
    ],
)
def test_a_layout_that_is_no_table_is_refused(changes):
    values: dict[str, Any] = {"attributes": (GENDER,), "segments": IDS}
    SegmentLayout(**values)
    SegmentLayout(**values | {"segments": tuple(range(1, 101))})
    with pytest.raises(ValidationError):
        SegmentLayout(**{**values, **changes})
