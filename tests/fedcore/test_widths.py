import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.errors import InvalidRecordError
from fedcore.intervals import ScoreSum
from fedcore.metrics import measures, roc_auc
from fedcore.score_tables import DEFAULT_BINS
from fedcore.widths import Expected, expected_table, forecast
from fedcore.widths import rows_needed as rows_or_none

ISSUE = Expected(rows=10_000, prevalence=0.12, roc_auc=0.8, units=5, epsilon=1.0)


def rows_needed(*question):
    return rows_or_none(*question)


def said(table):
    return measures(table)


def half(number):
    return (number.high - number.low) / 2


@given(st.floats(0.02, 0.6), st.floats(0.6, 0.95))
def test_the_expected_table_has_the_expected_rows_prevalence_and_area(prevalence, area):
    expected = replace(ISSUE, prevalence=prevalence, roc_auc=area)
    table = expected_table(expected)
    assert (table >= 0).all()
    assert table.sum() == pytest.approx(10_000)
    assert table[1].sum() == pytest.approx(10_000 * prevalence)
    # Bins take a little of the area where most scores share a few of them.
    assert roc_auc(table[np.newaxis])[0] == pytest.approx(area, abs=0.02)


def test_the_expected_scores_are_calibrated():
    found = said(ScoreSum(expected_table(ISSUE), 0.0, DEFAULT_BINS))
    for group in ("0.06_0.1", "0.1_0.2", "0.2_0.3", "0.3_0.4"):
        assert found[f"observed_{group}"].value == pytest.approx(
            found[f"predicted_{group}"].value, abs=0.005
        )


def test_a_forecast_gets_narrower_with_epsilon_and_rows_and_wider_with_units():
    base = half(forecast(ISSUE)["roc_auc"])
    assert half(forecast(replace(ISSUE, epsilon=3.0))["roc_auc"]) < base
    assert half(forecast(replace(ISSUE, epsilon=None))["roc_auc"]) < base
    assert half(forecast(replace(ISSUE, rows=40_000))["roc_auc"]) < base
    assert half(forecast(replace(ISSUE, units=20))["roc_auc"]) > base


def test_a_forecast_says_what_noise_will_hide():
    assert forecast(replace(ISSUE, rows=300))["roc_auc"] is None
    assert forecast(replace(ISSUE, rows=300, epsilon=None))["roc_auc"] is not None


def test_as_many_rows_as_needed_are_enough_and_nine_tenths_are_not():
    for wished in (0.03, 0.01):
        rows = rows_needed(ISSUE, wished)
        assert half(forecast(replace(ISSUE, rows=rows))["roc_auc"]) <= wished
        assert half(forecast(replace(ISSUE, rows=rows * 9 // 10))["roc_auc"]) > wished


def test_no_number_of_rows_narrows_what_bins_leave_open():
    assert rows_needed(ISSUE, 1e-9) is None


def test_the_rows_that_another_number_needs_can_be_asked_for():
    assert rows_needed(ISSUE, 0.02, "gain_20") > rows_needed(ISSUE, 0.05, "gain_20")


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 0},
        {"units": 0},
        {"prevalence": 0.0},
        {"prevalence": 1.0},
        {"roc_auc": 0.5},
        {"roc_auc": 1.0},
        {"roc_auc": math.nan},
    ],
)
def test_an_expectation_that_cannot_be_is_refused_and_its_twin_is_not(change):
    with pytest.raises(InvalidRecordError) as refused:
        replace(ISSUE, **change)
    assert refused.value.code == "evaluation.expectation_invalid"
    assert replace(ISSUE, rows=1, units=1, prevalence=0.5, roc_auc=0.51).rows == 1


def test_a_number_that_there_is_not_is_refused_and_its_twin_is_not():
    with pytest.raises(InvalidRecordError) as refused:
        rows_needed(ISSUE, 0.05, "roc_area")
    assert refused.value.code == "evaluation.expectation_invalid"
    assert rows_needed(ISSUE, 0.05, "roc_auc") is not None
