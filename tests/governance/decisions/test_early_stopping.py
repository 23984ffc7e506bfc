"""Governance records no report by which a training ends otherwise than its plan's checks say."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from fedcore.errors import MismatchError
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.rounds import Receipt, RoundReport
from governance.decisions.rounds import verify_round

FEDCORE = Path(__file__).parents[2] / "fedcore"


def load(path, name):
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


documents = load(FEDCORE / "conftest.py", "stopping_documents")
lies = load(FEDCORE / "stopping_lies.py", "governance_stopping_lies")
REFUSALS = {
    "ended by a check that found better": "report.released_early",
    "went on after the last check": "report.released_early",
    "compared with the first model": "receipt.other_compared",
    "one compared with another": "receipt.other_compared",
    "compared in a round that trains": "receipt.other_compared",
    "not compared": "receipt.other_compared",
    "checks that the plan does not say": "report.check_differs",
    "other checks than the plan says": "report.check_differs",
    "a gain that no receipt names": "report.check_differs",
    "no gain in a check": "report.check_differs",
    "a gain in a round that trains": "report.check_differs",
    "a check that moves the model": "report.check_differs",
}


def record(evidence):
    """Hand the reports of a run over one after the other; returns how many were taken."""
    plan = TrainingPlan.from_bytes(evidence.plan.payload_bytes)
    permit = Permit.from_bytes(evidence.permit.payload_bytes)
    reports = [RoundReport.from_bytes(item.payload_bytes) for item in evidence.reports]
    receipts = {i.digest: Receipt.from_bytes(i.payload_bytes) for i in evidence.receipts}
    for place, report in enumerate(reports):
        of_report = [receipts[answer.receipt] for answer in report.answered]
        verify_round(report, of_report, permit, plan, reports[:place])
    return len(reports)


def test_every_lie_about_a_training_is_among_them():
    told = {name for name, (check, _) in lies.LIES.items() if not check.startswith("evaluations.")}
    assert set(REFUSALS) == told


@pytest.fixture(scope="module")
def world():
    return documents.World()


@pytest.mark.parametrize("name", REFUSALS)
def test_no_lie_about_checks_is_recorded(world, name):
    _, lie = lies.LIES[name]
    with pytest.raises(MismatchError) as error:
        record(lie(world, documents._DOCUMENTS, None))
    assert error.value.code == REFUSALS[name]


@pytest.mark.parametrize("name", lies.TWINS)
def test_what_the_checks_say_is_recorded(world, name):
    assert record(lies.TWINS[name](world, documents._DOCUMENTS, None)) > 2


def test_nothing_is_recorded_after_the_check_that_ended_a_run(world):
    evidence = lies.TWINS["ended by a check"](world, documents._DOCUMENTS, None)
    plan = TrainingPlan.from_bytes(evidence.plan.payload_bytes)
    permit = Permit.from_bytes(evidence.permit.payload_bytes)
    reports = [RoundReport.from_bytes(item.payload_bytes) for item in evidence.reports]
    last = reports[-1]
    update = {"round": 5, "previous_report": last.digest, "answered": (), "status": "void"}
    more = last.model_copy(update=update | {"unavailable": lies.ALL, "released": None})
    with pytest.raises(MismatchError) as error:
        verify_round(more, [], permit, plan, reports)
    assert error.value.code == "report.rounds_exceeded"
