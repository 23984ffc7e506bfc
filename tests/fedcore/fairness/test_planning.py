import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.dpia_record import Dpia
from fedcore.dpias import FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.fairness import decide_fairness
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_planning import (
    ExpectedRates,
    PlannedTable,
    expected_shares,
    forecast_terms,
    planning_text,
    read_rates,
    rows_to_settle,
)
from fedcore.fairness_tables import TableLayout
from fedcore.fairness_terms import METRICS, SEGMENT_METRIC, FairnessTerms

GOLDEN = Path(__file__).parents[2] / "golden"
BY_LABEL = [metric for metric in METRICS if metric != "calibration_difference"]
LAYOUT = TableLayout(
    attributes=(SensitiveAttribute(name="group", groups=("a", "b")),), threshold=0.5
)
CELLS = [ExpectedRates(0.25, 0.4, 0.7, 0.2), ExpectedRates(0.75, 0.2, 0.6, 0.1)]


BANDED = LAYOUT.model_copy(update={"further_edges": (0.2, 0.7, 0.9)})


def banded_shares(cells):
    """Shares of every entry of `BANDED`, with scores spread over the bands on each side."""
    by_threshold = np.array(expected_shares(LAYOUT, cells)).reshape(-1, 2, 2)
    spread = np.array([[0.7, 0.3, 0, 0, 0], [0, 0, 0.5, 0.2, 0.3]])
    return tuple(np.einsum("csl,sb->cbl", by_threshold, spread).reshape(-1))


def given_rates(**other):
    """What a file says of one group."""
    return {"share": 0.5, "positive": 0.2, "true_positive": 0.6, "false_positive": 0.1} | other


def rows_for(planned, terms):
    """The rows that settle the only bound of the terms."""
    (needed,) = rows_to_settle(planned, terms)
    assert needed.rows is not None
    return needed.rows


def test_expected_shares_lie_as_on_the_wire_and_add_up():
    shares = expected_shares(LAYOUT, CELLS)
    assert shares[:4] == pytest.approx((0.12, 0.03, 0.03, 0.07))
    assert sum(shares) == pytest.approx(1)


def test_what_is_expected_covers_every_cell_once():
    for cells in (CELLS[:1], [*CELLS, CELLS[0]]):
        with pytest.raises(InvalidRecordError) as refused:
            expected_shares(LAYOUT, cells)
        assert refused.value.code == "fairness.table_invalid"
    for shares in (expected_shares(LAYOUT, CELLS)[1:], (0.2,) * 8):
        with pytest.raises(InvalidRecordError) as refused:
            PlannedTable(LAYOUT, shares, 3, 1.0)
        assert refused.value.code == "fairness.table_invalid"
    planned = PlannedTable(LAYOUT, expected_shares(LAYOUT, CELLS), 3, 1.0)
    assert math.fsum(planned.at(1000).counts) == 1000


@pytest.mark.parametrize("field", ["share", "positive", "true_positive", "false_positive"])
@pytest.mark.parametrize("rate", [1.5, -0.5, 7, math.nan, math.inf, True, "0.2", None, 10**400])
def test_a_rate_is_a_number_from_0_to_1_and_the_refusal_names_group_and_field(field, rate):
    given = {"a": given_rates(), "b": given_rates() | {field: rate}}
    with pytest.raises(InvalidRecordError) as refused:
        read_rates(LAYOUT, given)
    assert refused.value.code == "fairness.table_invalid"
    assert f"expected rates of 'b': {field}: a number from 0 to 1" in refused.value.public


def test_rates_are_read_in_the_order_of_the_wire_with_both_ends_allowed():
    given = {"b": given_rates(true_positive=0), "a": given_rates(share=1, false_positive=1.0)}
    found = read_rates(LAYOUT, given)
    assert found == (ExpectedRates(1, 0.2, 0.6, 1.0), ExpectedRates(0.5, 0.2, 0, 0.1))
    crossed = LAYOUT.model_copy(
        update={
            "attributes": (
                *LAYOUT.attributes,
                SensitiveAttribute(name="other", groups=("x", "y")),
            )
        }
    )
    names = ("a & x", "a & y", "b & x", "b & y")
    assert len(read_rates(crossed, dict.fromkeys(names, given_rates()))) == 4


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"a": {}, "b": {}, "c": {}}, "'c' is none of a, b"),
        ({"a": {}}, "'b' is missing"),
        ([1, 2], "expected rates: an object with a, b"),
        ({"a": 0.5, "b": {}}, "expected rates of 'a': an object with share, positive"),
        ({"a": {"share": 1}, "b": {}}, "expected rates of 'a': 'positive' is missing"),
        ({"a": None, "b": None}, "expected rates of 'a': an object"),
    ],
)
def test_groups_and_fields_are_exactly_those_that_are_counted(given, told):
    with pytest.raises(InvalidRecordError) as refused:
        read_rates(LAYOUT, given)
    assert (refused.value.code, told in refused.value.public) == ("fairness.table_invalid", True)
    more = {"a": given_rates(), "b": given_rates(precision=0.4)}
    with pytest.raises(InvalidRecordError, match="of 'b': 'precision' is none of share, positive"):
        read_rates(LAYOUT, more)


@pytest.mark.parametrize("metric", BY_LABEL)
def test_rates_at_the_threshold_are_enough_where_scores_are_counted_in_more_bands(worlds, metric):
    """Rows are those of a table of which every band is expected: its noise is in the forecast."""
    terms = worlds.terms(metric, 0.25)
    plain = PlannedTable(LAYOUT, expected_shares(LAYOUT, CELLS), 10, 0.2)
    planned = PlannedTable(BANDED, expected_shares(BANDED, CELLS), 10, 0.2)
    whole = PlannedTable(BANDED, banded_shares(CELLS), 10, 0.2)
    # To two digits, and counts are rounded.
    assert rows_for(planned, terms) == pytest.approx(rows_for(whole, terms), rel=0.12)
    assert rows_for(planned, terms) > rows_for(plain, terms)
    settled = {rows_to_settle(each, terms)[0].settles for each in (plain, planned, whole)}
    assert len(settled) == 1


def test_the_table_of_a_forecast_has_the_noise_and_the_sums_of_the_one_to_be_counted():
    planned = PlannedTable(BANDED, expected_shares(BANDED, CELLS), 3, 1.0)
    whole = PlannedTable(BANDED, banded_shares(CELLS), 3, 1.0)
    assert (planned.has_bands, whole.has_bands) == (False, True)
    first = np.array([True, False])
    for side in (BANDED.selected_bands, ~BANDED.selected_bands):
        for label in (np.array([True, False]), np.array([False, True])):
            ours, true = (
                table.at(100_000).count(first, side[:, None] & label) for table in (planned, whole)
            )
            assert ours.terms == true.terms > 3
            assert ours.value == pytest.approx(true.value, abs=2)


def test_of_calibration_there_is_a_forecast_only_where_every_band_is_expected(worlds):
    bounds = (*worlds.terms().bounds, *worlds.terms("calibration_difference", 0.3).bounds)
    terms = FairnessTerms(bounds=bounds)
    cells = [ExpectedRates(0.5, 0.3, 0.6, 0.2)] * 2
    planned = PlannedTable(BANDED, expected_shares(BANDED, cells), 3, 1.0)
    parity, calibration = rows_to_settle(planned, terms)
    assert (parity.settles, calibration.settles, calibration.rows) == ("PASS", None, None)
    told = planning_text((parity, calibration), planned, 100_000).splitlines()
    assert "customers settle it (PASS expected)" in told[1]
    assert "calibration_difference within 0.3: no forecast. It compares every band" in told[2]
    whole = PlannedTable(BANDED, banded_shares(cells), 3, 1.0)
    assert rows_to_settle(whole, terms)[1].settles == "PASS"
    plain = PlannedTable(LAYOUT, expected_shares(LAYOUT, cells), 3, 1.0)
    assert rows_to_settle(plain, terms)[1].settles == "PASS"
    # Among more comparisons FAIL takes more: those of which there is no forecast are tested too.
    gap = [ExpectedRates(0.5, 0.3, 0.8, 0.4), cells[0]]
    planned = PlannedTable(BANDED, expected_shares(BANDED, gap), 3, 1.0)
    among = rows_to_settle(planned, terms)[0]
    assert (among.settles, among.rows is not None) == ("FAIL", True)
    assert (among.rows or 0) > rows_for(planned, worlds.terms())


def test_a_dpia_of_segments_has_no_forecast_and_is_told_so():
    bindings = Dpia.from_bytes((GOLDEN / "dpia-2.fairness-audit.json").read_bytes()).bindings
    layout, terms = forecast_terms(bindings)
    assert (layout.further_edges, layout.threshold) == ((0.25, 0.75), 0.5)
    assert terms.bounds == bindings.fairness
    bound = FairnessBound(attribute="gender", metric=SEGMENT_METRIC, largest_gap=0.1)
    with pytest.raises(InvalidRecordError, match="segments' shares have no forecast") as refused:
        forecast_terms(bindings.model_copy(update={"fairness": (bound,)}))
    assert refused.value.code == "fairness.no_forecast"
    with pytest.raises(InvalidRecordError) as refused:
        forecast_terms(bindings.model_copy(update={"fairness": None}))
    assert refused.value.code == "fairness.not_bound"


@pytest.mark.parametrize("gap", [0.0, 0.25])
def test_more_noise_units_or_smaller_shares_need_more_customers(worlds, gap):
    terms = worlds.terms("equal_opportunity_difference")

    def rows(share=0.3, **world):
        return rows_for(worlds.two_groups(gap, share, **world).planned, terms)

    plain = rows()
    assert plain < rows(epsilon=0.05)
    assert plain < rows(epsilon=0.2, units=30)
    assert plain < rows(share=0.05)


def test_a_gap_expected_at_its_threshold_is_settled_by_no_number(worlds):
    (needed,) = rows_to_settle(worlds.two_groups(0.1).planned, worlds.terms())
    assert needed.rows is None
    assert "no number of customers settles it" in planning_text(
        [needed], worlds.two_groups(0.1).planned, 9
    )


def test_a_minimum_size_needs_its_people_in_every_group(worlds):
    planned = worlds.two_groups(0.4, 0.01).planned
    assert rows_for(planned, worlds.terms(minimum_size=1)) < 100_000
    assert rows_for(planned, worlds.terms(minimum_size=1000)) > 100_000


@pytest.mark.parametrize(("gap", "verdict"), [(0.0, "PASS"), (0.03, "PASS"), (0.25, "FAIL")])
@pytest.mark.slow
def test_so_many_customers_do_settle_it_and_a_third_of_them_do_not(worlds, gap, verdict):
    """The planned power is 0.9; three standard deviations of 150 draws are left."""
    terms, world = worlds.terms("equalised_odds_difference"), worlds.two_groups(gap, units=5)
    (needed,) = rows_to_settle(world.planned, terms)
    assert needed.settles == verdict
    assert needed.rows is not None
    rng = np.random.default_rng(11)
    shares = []
    for world.rows in (needed.rows, needed.rows // 3):
        found = [decide_fairness(world.draw(rng), terms).verdict for _ in range(150)]
        shares.append(found.count(verdict) / 150)
    assert shares[0] >= 0.9 - 3 * (0.9 * 0.1 / 150) ** 0.5
    assert shares[1] < 0.8


def test_the_text_says_beforehand_what_so_many_customers_can_settle(worlds):
    planned, bounds = worlds.two_groups(0.0).planned, worlds.terms().bounds
    metric = FairnessBound(
        attribute="group", metric="equal_opportunity_difference", largest_gap=0.02
    )
    needed = rows_to_settle(planned, FairnessTerms(bounds=(*bounds, metric)))
    lines = planning_text(needed, planned, needed[0].rows or 0).splitlines()
    assert lines[0] == (
        f"Fairness beforehand: {needed[0].rows:,} customers, 3 units, epsilon 1 each."
    )
    assert lines[1].endswith(f"within 0.1: {needed[0].rows:,} customers settle it (PASS expected).")
    assert f"expect INSUFFICIENT; {needed[1].rows:,} customers would settle it" in lines[2]


@settings(max_examples=10)
@given(st.floats(0.02, 0.5), st.floats(-0.3, 0.3))
def test_a_wider_margin_never_needs_more_customers(share, gap):
    cells = [
        ExpectedRates(share, 0.3, 0.5 + gap, 0.5 + gap),
        ExpectedRates(1 - share, 0.3, 0.5, 0.5),
    ]
    planned = PlannedTable(LAYOUT, expected_shares(LAYOUT, cells), 2, 1.0)
    found = []
    for margin in (0.05, 0.1):
        most = abs(gap) + margin
        one = FairnessBound(
            attribute="group", metric="demographic_parity_difference", largest_gap=most
        )
        found.append(rows_for(planned, FairnessTerms(bounds=(one,))))
    # To two digits, and counts are rounded.
    assert found[1] <= found[0] * 1.1 + 10
