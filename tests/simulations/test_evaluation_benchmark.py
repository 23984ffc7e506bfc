"""The evaluation benchmark's known population and its figures are what they say."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "evaluation.py"


@pytest.fixture(scope="module")
def bench():
    spec: Any = importlib.util.spec_from_file_location("bench_evaluation", BENCHMARK)
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["bench_evaluation"] = module
    spec.loader.exec_module(module)
    return module


def test_the_known_population_has_the_area_the_prevalence_and_calibrated_scores(bench):
    labels, scores = bench.World(0.8, 200_000).draw(np.random.default_rng(1))
    # Five standard errors of so many rows.
    assert bench.rank_auc(labels, scores) == pytest.approx(0.8, abs=0.008)
    assert labels.mean() == pytest.approx(0.12, abs=0.004)
    for low, high in ((0.05, 0.1), (0.1, 0.3), (0.3, 0.6)):
        inside = (scores >= low) & (scores < high)
        assert labels[inside].mean() == pytest.approx(scores[inside].mean(), abs=0.015)


def test_the_exact_area_is_scikit_learn_s(bench):
    labels, scores = bench.World(0.8, 3000).draw(np.random.default_rng(2))
    assert bench.rank_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_the_figures_are_printed_with_their_targets(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluation.py", "--json", "--repetitions", "40"])
    bench.main()
    printed = json.loads(capsys.readouterr().out)
    assert printed.keys() == {"figures", "targets", "missed", "versions"}
    named = {name for targets in printed["targets"].values() for name in targets}
    assert named <= printed["figures"].keys()
    assert printed["figures"]["within_0.012_of_exact"] >= 0.9
    assert bench.missed({**printed["figures"], "covers_population": 0.99}) == ["covers_population"]
    assert bench.missed({**printed["figures"], "covers_population": 0.92}) == ["covers_population"]
