"""The populations of the benchmark of fairness verdicts have the gaps that they say."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcore.fairness import gap_in
from fedcore.fairness_planning import PlannedTable
from fedcore.fairness_terms import METRICS, comparisons_of

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "fairness_worlds.py"


@pytest.fixture(scope="module")
def bench():
    spec: Any = importlib.util.spec_from_file_location("bench_fairness_worlds", BENCHMARK)
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["bench_fairness_worlds"] = module
    spec.loader.exec_module(module)
    return module


def true_gaps(bench, world):
    """Every compared gap of the population, as a share of the threshold."""
    table = PlannedTable(bench.LAYOUT, world.shares, 1, 1.0).at(10**9)
    gaps = [gap_in(table, each).gap for each in comparisons_of(bench.LAYOUT, world.terms)]
    return [gap / world.terms.bounds[0].largest_gap for gap in gaps if gap is not None]


def test_gaps_are_at_the_threshold_or_well_inside_or_well_outside(bench):
    worlds = bench.worlds()
    for world in worlds:
        gaps, side = true_gaps(bench, world), np.sign(world.gap)
        assert len(gaps) == (2 if world.metric in bench.TWO_RATES else 1)
        figures = {figure for figure, _ in world.asked}
        if figures <= {"false_pass", "false_fail"}:
            other = 0 if world.alone else side
            assert sorted(gaps) == pytest.approx(sorted((side, other)[: len(gaps)]), abs=1e-6)
        elif figures == {"pass_well_inside"}:
            assert all(0 < gap * side < 0.26 for gap in gaps)
        else:
            assert all(gap * side > 1.9 for gap in gaps)
    asked = {(world.metric, world.gap > 0, one) for world in worlds for one in world.asked}
    assert len(asked) == len(METRICS) * 2 * 4


def test_draws_have_the_population_s_shares_and_every_unit_s_noise(bench):
    world = bench.worlds()[0]
    counts = np.array([table.counts for table in world.draw(400, 0)])
    assert counts.mean(axis=0) == pytest.approx(world.rows * np.array(world.shares), rel=0.03)
    alone = np.array(world.shares) * (1 - np.array(world.shares)) * world.rows
    noise = bench.UNITS * 2 * np.exp(-1) / (1 - np.exp(-1)) ** 2
    assert (counts.var(axis=0) / (alone + noise)).mean() == pytest.approx(1, abs=0.15)
    again = np.array([table.counts for table in world.draw(400, 1)])
    assert not (counts == again).all(axis=1).any()


def test_every_target_has_its_figure_of_both_sides(bench, monkeypatch, capsys):
    words = ["fairness_worlds.py", "--json", "--draws", "2", "--well", "1", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", words)
    bench.main()
    printed = json.loads(capsys.readouterr().out)
    assert printed.keys() == {"figures", "targets", "missed", "versions"}
    named = {name for targets in printed["targets"].values() for name in targets}
    assert len(named) == len(METRICS) * 4
    assert named <= printed["figures"].keys()
    assert {f"{name}_above" for name in named} <= printed["figures"].keys()
    right = dict.fromkeys(named, 1.0) | dict.fromkeys(bench.AT_MOST, 0.05)
    assert bench.missed(right) == []
    wrong = {"false_pass_calibration_difference": 0.051}
    assert bench.missed(right | wrong) == list(wrong)
