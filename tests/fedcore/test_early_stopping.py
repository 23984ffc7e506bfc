"""The rule by which checks end a training, over the reports of a run."""

import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.early_stopping import Standing, is_over, smallest_gain, standing_after
from fedcore.learning_rules import EarlyStopping
from fedcore.record import Realm
from fedcore.rounds import Answer, RoundReport

PATIENCE = 2
FILE = Path(__file__).parents[2] / "docs" / "reference" / "verify_bundle.py"


@pytest.fixture(scope="module")
def plan(documents):
    stopping = EarlyStopping(every=1, patience=PATIENCE)
    made = documents.plan_of(documents.contract_of())
    return made.model_copy(update={"rounds": 99, "holdout": 0.2, "early_stopping": stopping})


@pytest.fixture(scope="module")
def report_of(documents, plan):
    def of(round_, gain, status="accepted"):
        digest = documents.digest(f"model {round_}")
        answers = (
            Answer(unit=unit, receipt=digest, update=digest, gain=gain if unit == "north" else 0)
            for unit in documents.UNITS
        )
        return RoundReport(
            run_id="run-1",
            realm=Realm.PRODUCTION,
            round=round_,
            attempt=1,
            status=status,
            asked=documents.UNITS,
            answered=tuple(answers),
            unavailable=(),
            model_in=digest,
            model_out=digest,
            ended_at=documents.at(round_),
        )

    return of


@given(st.lists(st.sampled_from(["miss", "better", "void"]), max_size=12))
def test_it_ends_with_as_many_misses_in_a_row_as_the_plan_waits_for(plan, report_of, checks):
    enough = math.floor(smallest_gain(plan, 3)) + 1
    standing, best, misses = Standing(plan.initial_model), plan.initial_model, 0
    for place, check in enumerate(checks, start=1):
        status = "void" if check == "void" else "accepted"
        gain = enough if check != "miss" else enough - 1
        report = report_of(2 * place, gain, status)
        standing = standing_after(plan, standing, report)
        if check == "better":
            best, misses = report.model_in, 0
        misses += check == "miss"
        assert standing == Standing(best, misses)
        ends = misses >= PATIENCE and status == "accepted"
        assert is_over(plan, standing, report) == ends
        between = report_of(2 * place + 1, enough)  # a round that trains
        assert standing_after(plan, standing, between) == standing
        assert not is_over(plan, standing, between)


@pytest.fixture(scope="module")
def second():
    """The second verifier, which nothing of fedpact is in."""
    spec: Any = importlib.util.spec_from_file_location("stopping_second_verifier", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@given(st.lists(st.sampled_from(["miss", "better", "void", "train"]), max_size=12))
def test_the_second_verifier_finds_the_same_best_models_and_the_same_end(
    plan, report_of, second, kinds
):
    enough = math.floor(smallest_gain(plan, 3)) + 1
    reports = [
        report_of(
            2 * place + (kind == "train"),
            enough - (kind == "miss"),
            "void" if kind == "void" else "accepted",
        )
        for place, kind in enumerate(kinds, start=1)
    ]
    standing, expected = Standing(plan.initial_model), []
    for report in reports:
        compared = standing.best if plan.is_check(report.round) else None
        standing = standing_after(plan, standing, report)
        expected.append((compared, is_over(plan, standing, report)))
    parsed = [second.parse(report.to_bytes()) for report in reports]
    found = [
        (best, over) for _, best, over in second.checked(second.parse(plan.to_bytes()), parsed)
    ]
    assert found == expected


@given(st.integers(1, 40), st.integers(1, 300))
def test_checks_come_after_so_many_rounds_of_training_and_never_last(every, training):
    stopping = EarlyStopping(every=every, patience=1)
    rounds = stopping.rounds_with_checks(training)
    kinds = [stopping.is_check(number, rounds) for number in range(1, rounds + 1)]
    assert kinds.count(False) == training
    assert not kinds[-1]
    counted = [stopping.checks_by(number, rounds) for number in range(1, rounds + 1)]
    assert counted == [sum(kinds[:number]) for number in range(1, rounds + 1)]
    gaps = "".join("c" if kind else "t" for kind in kinds).split("c")
    assert all(len(gap) == every for gap in gaps[:-1])
