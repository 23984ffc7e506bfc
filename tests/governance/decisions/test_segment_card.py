"""A card's part on segments says what was noised, in words that people read."""

import numpy as np
import pytest

from fedcore.segment_facts import (
    Cell,
    InputScale,
    SegmentFacts,
    ShareHistory,
)
from fedcore.segments.description import Segment
from fedcore.segments.estimates import Estimate, Interval
from fedcore.segments.profiles import FeatureScale
from fedcore.segments.projection import project
from governance.decisions.card_parts import CircleMap, HeatMap
from governance.decisions.segment_card import (
    SegmentStory,
    segment_sections,
    show_number,
)

CENTRES = np.array([[0.5, -0.2], [-0.5, 0.4]])
INPUTS = (
    InputScale(FeatureScale("tenure", 0, 72), "months"),
    InputScale(FeatureScale("spend", 0, 999, is_log=True), ""),
)


BAND = Interval(512, 2048)


def a_segment(number, size=1000.0, share=0.4, band=BAND):
    return Segment(number, f"name {number}", Estimate(size, 20), band, Estimate(share, 0.01), None)


def a_story(**changes):
    values = {
        "inputs": INPUTS,
        "segments": (a_segment(1), a_segment(3, -4.0, 0.0, Interval(0, 32))),
        "cells": ((Cell(54.2, 53, 55.25, 1.5), Cell(12.0, 11, 13.5, -0.1)), None),
        "map": project(CENTRES, np.array([1000.0, 0.0])),
        "explained": Estimate(0.8, 0.2),
        "units": 3,
    }
    history = changes.pop("history", ShareHistory((7,), ({1: Estimate(0.4, 0.01)},), {}))
    changed = changes.pop("cohort_changed", False)
    return SegmentStory(SegmentFacts(**{**values, **changes}), history, changed)


def sections(**changes):
    return {one.title: one for one in segment_sections(a_story(**changes))}


def test_sizes_have_intervals_bands_and_shares_and_are_never_below_zero():
    found = sections()["Segments"]
    assert found.table
    assert found.table.rows == (
        ("1", "name 1", "961 to 1,039", "512 to 2,048", "40.0 % (38.0 to 42.0)"),
        ("3", "name 3", "0 to 35", "0 to 32", "0.0 % (0.0 to 2.0)"),
    )
    assert found.facts == (
        ("Variance of customers that segments explain", "0.800 (0.408 to 1.000)"),
    )


@pytest.mark.parametrize(("units", "said"), [(1, "the one unit that"), (4, "the 4 units that")])
def test_the_sums_are_said_to_be_of_the_units_that_answered(units, said):
    note = sections(units=units)["Segments"].notes[0]
    assert f"noised sums over {said} answered the last release" in note


def test_a_band_without_an_end_says_so():
    endless = (a_segment(1, band=Interval(512, np.inf)), a_segment(3))
    table = sections(segments=endless)["Segments"].table
    assert table
    assert table.rows[0][3] == "512 or more"


def test_means_are_told_with_their_interval_and_drawn_by_how_far_they_stand_out():
    found = sections()["What segments are like"]
    assert found.table
    assert found.table.head == ("Mean of", "Segment 1", "Segment 3")
    assert found.table.rows == (
        ("tenure (months)", "54.2 (53.0 to 55.2)", "too few to tell"),
        ("spend", "12.0 (11.0 to 13.5)", "too few to tell"),
    )
    (heat,) = found.figures
    assert isinstance(heat, HeatMap)
    assert [[cell.deviation for cell in cells] for _, cells in heat.rows] == [
        [1.5, None],
        [-0.1, None],
    ]
    assert any("mean logarithm is told: spend" in note for note in found.notes)


def test_the_map_says_what_its_directions_are_and_how_much_it_shows():
    found = sections(map=project(CENTRES, np.ones(2)))["Where segments lie"]
    assert found.table
    assert found.table.head == ("Segment", "Across: more tenure, less spend", "Up: nothing")
    assert found.facts == (("Spread of centres that the map shows", "100 %"),)
    (drawn,) = found.figures
    assert isinstance(drawn, CircleMap)
    assert [(one.label, one.size) for one in drawn.circles] == [("1", 1000.0), ("3", 0.0)]


def test_changes_of_shares_are_told_with_new_and_gone_segments():
    history = ShareHistory(
        (6, 7),
        (
            {1: Estimate(0.3, 0.01), 2: Estimate(0.7, 0.01)},
            {1: Estimate(0.4, 0.01), 3: Estimate(0.6, 0.01)},
        ),
        {1: Estimate(0.1, 0.02)},
    )
    found = sections(history=history)["How shares have changed"]
    assert found.table
    assert found.table.rows == (
        ("1", "30.0 % (28.0 to 32.0)", "40.0 % (38.0 to 42.0)", "+10.0 (+6.1 to +13.9)"),
        ("2", "70.0 % (68.0 to 72.0)", "none", "gone"),
        ("3", "none", "60.0 % (58.0 to 62.0)", "new"),
    )
    assert len(found.notes) == 1
    assert len(sections(history=history, cohort_changed=True)[found.title].notes) == 2
    alone = sections()["How shares have changed"]
    assert (alone.table, len(alone.notes)) == (None, 1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (1234.5, "1,234"),
        (123.4, "123"),
        (12.34, "12.3"),
        (-1.234, "-1.23"),
        (0.01234, "0.0123"),
        (-1e-9, "0"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_are_shown_with_three_digits_that_count(value, shown):
    assert show_number(value) == shown
