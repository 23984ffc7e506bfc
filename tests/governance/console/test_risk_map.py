"""Where risks lie on the map."""

from dataclasses import dataclass

import pytest

from governance.console.risk_map import maps_of, weight_of


@dataclass(frozen=True)
class Rated:
    id: str
    severity_before: int
    likelihood_before: int
    severity_after: int
    likelihood_after: int


def placed(risk_map):
    return {
        id_: (severity, likelihood)
        for severity, cells in risk_map.rows
        for likelihood, cell in enumerate(cells, start=1)
        for id_ in cell.risks
    }


@pytest.mark.parametrize("severity", [1, 2, 3, 4])
@pytest.mark.parametrize("likelihood", [1, 2, 3, 4])
def test_a_risk_lies_where_its_levels_say(severity, likelihood):
    before, after = maps_of([Rated("r", severity, likelihood, likelihood, severity)])
    assert placed(before) == {"r": (severity, likelihood)}
    assert placed(after) == {"r": (likelihood, severity)}


def test_risks_share_a_place_and_the_map_is_whole_without_any():
    before, _ = maps_of([Rated("a", 2, 2, 1, 1), Rated("b", 2, 2, 1, 1)])
    assert placed(before) == {"a": (2, 2), "b": (2, 2)}
    empty, _ = maps_of([])
    assert [severity for severity, _ in empty.rows] == [4, 3, 2, 1]
    assert [len(cells) for _, cells in empty.rows] == [4, 4, 4, 4]


def test_the_weight_never_falls_when_a_level_rises():
    order = ["low", "medium", "high"]
    levels = range(1, 5)
    for fixed in levels:
        for weights in (
            [order.index(weight_of(fixed, level)) for level in levels],
            [order.index(weight_of(level, fixed)) for level in levels],
        ):
            assert weights == sorted(weights)
    # What Art. 36 asks the authority about is high on the map.
    assert {weight_of(s, c) for s in (3, 4) for c in (3, 4)} == {"high"}
