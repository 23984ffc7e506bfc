"""The geometry of the charts: nothing leaves the plot, labels stay apart, lengths do not lie."""

import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simulations.report_charts import LABEL_GAP, PLOT_HEIGHT, bar_chart, line_chart

auc = st.floats(0.0, 1.0)


def rounds(values):
    return [{"round": number, "auc": value} for number, value in enumerate(values, 1)]


def line(values, levels=()):
    chart = line_chart(rounds(values), levels, "line")
    assert chart is not None
    return chart


def bars(*arguments):
    chart = bar_chart(*arguments)
    assert chart is not None
    return chart


@example([0.0, 5e-324], [])
@example([0.7, 0.7 + 1e-12], [0.7])
@given(st.lists(auc, min_size=1, max_size=60), st.lists(auc, max_size=3))
def test_every_point_lies_within_the_plot_and_no_label_on_another(values, levels):
    chart = line(values, [("level", "pooled", value) for value in levels])
    for point in chart.points:
        assert -1e-6 <= point.y <= PLOT_HEIGHT + 1e-6
        assert 0 <= point.x <= 100
    for tick in (*chart.levels, *chart.y_ticks):
        at = getattr(tick, "at", None)
        assert -1e-6 <= (tick.y if at is None else at) <= PLOT_HEIGHT + 1e-6
    labels = sorted(level.label_y for level in chart.levels)
    assert all(b - a >= LABEL_GAP - 1e-9 for a, b in pairwise(labels))


@given(st.lists(auc, min_size=2, max_size=60, unique=True))
def test_a_greater_value_is_never_drawn_lower(values):
    points = sorted(line(values).points, key=lambda p: p.value)
    assert all(a.y >= b.y for a, b in pairwise(points))


@pytest.mark.parametrize("last", [1, 2, 3, 7, 20, 40, 100, 1000])
def test_round_ticks_are_few_whole_and_have_both_ends(last):
    chart = line([0.5 + n / (4 * last) for n in range(last)])
    ticks = [tick.value for tick in chart.x_ticks]
    assert ticks[0] == 1
    assert ticks[-1] == last
    assert len(ticks) <= 8
    assert all(float(tick).is_integer() for tick in ticks)


def test_no_round_gives_no_chart_and_a_value_that_is_not_finite_is_left_out():
    assert line_chart([], [], "line") is None
    assert line_chart(rounds([math.nan, None]), [], "line") is None
    assert [p.round for p in line([0.6, math.nan, 0.7]).points] == [1, 3]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9))
def test_bars_are_as_long_as_their_values(values):
    chart = bars([("bar", "line", value) for value in values])
    for bar in chart.bars:
        assert bar.length == pytest.approx(100 * bar.value / chart.high) or chart.high == 1.0


def test_marks_share_the_scale_of_the_bars():
    (bar,) = bars([("unit", "line", 2.0)], [{"cap": 4.0, "pld": 1.0, "none": None}]).bars
    assert bar.length == 50
    assert bar.marks == {"cap": 100, "pld": 25}


def test_a_bar_without_bound_fills_the_chart_and_a_missing_value_has_no_bar():
    chart = bars([("a", "line", math.inf), ("b", "line", 1.0), ("c", "line", None)])
    assert [(bar.name, bar.length) for bar in chart.bars] == [("a", 100), ("b", 100)]
    assert bar_chart([]) is None
