import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_tables import (
    LARGEST_COUNT,
    GroupTable,
    TableLayout,
    count_outcomes,
    shown_counts,
    sum_tables,
)

SEX = SensitiveAttribute(name="sex", groups=("f", "m"))
AGE = SensitiveAttribute(name="age", groups=("young", "old", "unknown"))
LAYOUT = TableLayout(attributes=(SEX, AGE), threshold=0.5)
BANDED = TableLayout(attributes=(SEX,), threshold=0.5, further_edges=(0.75, 0.25))

one_customer = st.tuples(
    st.sampled_from(["f", "m", "of no group"]),
    st.sampled_from(["young", "old", "unknown"]),
    st.booleans(),
    st.sampled_from([0.0, 0.2, 0.49, 0.5, 0.9, 1.0, float("nan"), float("inf")]),
)


def count(layout, rows, ids=None):
    """A table of rows (group of each attribute …, label, score)."""
    names = [str(at) for at in range(len(rows))] if ids is None else ids
    columns = [[row[at] for row in rows] for at in range(len(layout.attributes))]
    return count_outcomes(layout, names, columns, [r[-2] for r in rows], [r[-1] for r in rows])


def test_on_the_wire_the_last_attribute_runs_fastest_and_a_cell_is_tn_fn_fp_tp():
    rows = [("f", "young", 0, 0.1)] * 1 + [("f", "young", 1, 0.1)] * 2
    rows += [("f", "old", 0, 0.9)] * 3 + [("m", "young", 1, 0.9)] * 4
    found = count(LAYOUT, rows)
    assert LAYOUT.length == len(found) == 24
    assert LAYOUT.cells[:4] == (("f", "young"), ("f", "old"), ("f", "unknown"), ("m", "young"))
    assert found[:16] == (1, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 4)
    assert all(type(entry) is int for entry in found)


def test_bands_rise_and_a_score_on_an_edge_is_in_the_band_above():
    rows = [("f", 1, 0.0), ("f", 1, 0.25), ("f", 1, 0.5), ("f", 1, 0.75), ("f", 0, 0.749)]
    assert BANDED.edges == (0.25, 0.5, 0.75)
    assert count(BANDED, rows)[:8] == (0, 1, 0, 1, 1, 1, 0, 1)
    assert BANDED.selected_bands.tolist() == [False, False, True, True]


def test_whose_group_or_score_is_unknown_is_counted_nowhere():
    rows = [("f", "old", 1, float("nan")), ("f", "old", 1, float("inf")), ("x", "old", 1, 0.5)]
    assert sum(count(LAYOUT, rows)) == 0
    assert sum(count(LAYOUT, [("f", "old", 1, 0.5)])) == 1


@given(st.lists(one_customer, max_size=12), one_customer, st.integers(0, 12))
def test_a_customer_more_moves_one_entry_by_one_at_most(rows, more, place):
    names = [str(at) for at in range(len(rows))]
    without = count(LAYOUT, rows, names)
    rows, names = [*rows[:place], more, *rows[place:]], [*names[:place], "new", *names[place:]]
    moved = [one - other for one, other in zip(count(LAYOUT, rows, names), without, strict=True)]
    assert sum(abs(step) for step in moved) <= 1
    assert min(moved) >= 0


def test_sensitivity_by_brute_force_over_a_tiny_domain():
    """All data sets of up to two customers with up to two rows each (PRIVACY.md, rule 9)."""
    domain = list(itertools.product(["f", "m"], [0, 1], [0.2, 0.8]))
    layout = TableLayout(attributes=(SEX,), threshold=0.5)
    for first, second, again in itertools.product(domain, domain, [*domain, None]):
        rows, ids = [first, second], ["a", "b"]
        if again is not None:
            rows, ids = [*rows, again], ["a", "b", "b"]
        whole, without = count(layout, rows, ids), count(layout, [first], ["a"])
        assert sum(abs(x - y) for x, y in zip(whole, without, strict=True)) == 1


def test_a_customer_with_fifty_rows_counts_once():
    rows = [("f", "old", 1, 0.9), ("m", "young", 0, 0.1), *[("f", "old", 0, 0.2)] * 49]
    found = count(LAYOUT, rows, ["c", "d", *["c"] * 49])
    assert sum(found) == 2
    assert found == count(LAYOUT, rows[:2], ["c", "d"])


def test_columns_of_another_length_are_refused():
    good: dict[str, Any] = {
        "customers": ["a"],
        "groups": [["f"], ["old"]],
        "labels": [1],
        "scores": [0.5],
    }
    assert sum(count_outcomes(LAYOUT, **good)) == 1
    wrong: list[dict[str, Any]] = [
        {"customers": ["a", "b"]},
        {"groups": [["f"]]},
        {"groups": [["f"], []]},
        {"labels": []},
        {"scores": [0.5, 1]},
    ]
    for changed in wrong:
        with pytest.raises(InvalidRecordError) as refused:
            count_outcomes(LAYOUT, **{**good, **changed})
        assert refused.value.code == "fairness.table_invalid"


@given(st.lists(one_customer, max_size=30), st.data())
def test_a_group_is_the_sum_of_its_cells(rows, data):
    table = sum_tables(LAYOUT, [count(LAYOUT, rows)], None)
    ages = data.draw(st.lists(st.sampled_from(AGE.groups), min_size=1, unique=True))
    outcomes = np.array([[False, True], [False, True]])
    found = table.count(LAYOUT.cells_where({"age": ages, "sex": ["f"]}), outcomes)
    direct = [row for row in rows if row[0] == "f" and row[1] in ages and row[2]]
    assert found.value == sum(np.isfinite(row[3]) for row in direct)


def test_a_sum_has_as_many_noises_as_units_and_entries():
    tables = [(1,) * LAYOUT.length] * 3
    table = sum_tables(LAYOUT, tables, 1.0)
    selected = np.repeat(LAYOUT.selected_bands[:, None], 2, axis=1)
    assert table.count(LAYOUT.cells_where({"age": ["old"]}), selected) == (12, 12)
    assert table.count(LAYOUT.cells_where({}), selected) == (36, 36)
    silent = sum_tables(LAYOUT, tables, None)
    assert silent.count(LAYOUT.cells_where({}), selected) == (36, 0)


def test_a_table_of_another_shape_is_refused():
    right = (0,) * LAYOUT.length
    assert sum_tables(LAYOUT, [right, right], 1.0).units == 2
    huge = [(*right[1:], sign * (LARGEST_COUNT + 1)) for sign in (1, -1)]
    most = (LARGEST_COUNT // 2,) * LAYOUT.length
    everybody = LAYOUT.cells_where({})
    whole = np.ones((LAYOUT.bands, 2), dtype=np.bool_)
    counted = sum_tables(LAYOUT, [most, most], 1.0).count(everybody, whole)
    assert counted[0] == LARGEST_COUNT * LAYOUT.length
    for tables in ([], [right, right[1:]], [(*right, 0)], *([right, each] for each in huge)):
        with pytest.raises(InvalidRecordError) as refused:
            sum_tables(LAYOUT, tables, 1.0)
        assert refused.value.code == "fairness.table_invalid"
    for units, epsilon in ((0, 1.0), (1, 0.0), (1, float("inf")), (1, float("nan"))):
        with pytest.raises(InvalidRecordError) as refused:
            GroupTable(LAYOUT, right, units, epsilon)
        assert refused.value.code == "fairness.table_invalid"


def test_what_is_not_declared_is_refused():
    assert LAYOUT.cells_where({"age": ["old"]}).sum() == 2
    for chosen in ({"age": ["ancient"]}, {"height": ["tall"]}):
        with pytest.raises(InvalidRecordError) as refused:
            LAYOUT.cells_where(chosen)
        assert refused.value.code == "fairness.unknown_group"


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"attributes": (SEX, SEX)}, "attributes"),
        ({"further_edges": (0.5,)}, "further_edges"),
        ({"further_edges": (0.1, 0.1)}, "further_edges"),
        ({"threshold": 1.0}, "threshold"),
        (
            {
                "attributes": tuple(
                    SensitiveAttribute(name=n, groups=tuple("abcdefghij")) for n in "wxyz"
                )
            },
            "entries",
        ),
    ],
)
def test_a_layout_is_one_table(changed, rule):
    good: dict[str, Any] = {"attributes": (SEX, AGE), "threshold": 0.5}
    TableLayout(**good)
    with pytest.raises(ValidationError, match=rule):
        TableLayout(**{**good, **changed})


def test_small_cells_are_hidden_by_their_noised_numbers_alone():
    """A true 3 noised to 12 is shown, a true 30 noised to 8 is not."""
    noised = (12, 8, -4, 10, *(0,) * (LAYOUT.length - 4))
    table = GroupTable(LAYOUT, noised, 1, 0.1)
    assert shown_counts(table, 10)[:4] == (12, None, None, 10)
    assert shown_counts(table, -10)[:4] == (12, 8, -4, 10)
