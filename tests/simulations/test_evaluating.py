"""A scenario may evaluate what it has trained: signed numbers stand beside exact ones."""

import io
import json
from contextlib import closing

import numpy as np
import pytest
from rich.console import Console

from clients.data import Examples
from fedcore.errors import InvalidRecordError, RefusedError
from fedcore.privacy.accounting import renyi_epsilon
from simulations.cli import changed
from simulations.evaluating import charge_of
from simulations.experiment import Experiment, load_customers, open_world
from simulations.outputs import evaluation_table, produce
from simulations.paperwork import make_plan
from simulations.report_page import render_page
from simulations.scenario import EvaluationTerms, load_scenario
from simulations.scoring import EXACT, by_customer, figures

# One count in a hundred million gets any noise.
NEARLY_EXACT = 20.0
SECTION = f"[evaluation]\nepsilon = {NEARLY_EXACT}\n\n[plan]\nholdout = 0.4"


@pytest.fixture(scope="module")
def written(tmp_path_factory, scenario_writer, scenario_text):
    """A scenario with an evaluation."""
    folder = tmp_path_factory.mktemp("scenario")
    return scenario_writer(folder, text=scenario_text.replace("[plan]", SECTION))


@pytest.fixture(scope="module")
def made(written):
    """What a run of it has written, and shown."""
    shown, out = io.StringIO(), written.parent / "out"
    scenario = changed(load_scenario(str(written)), {})
    produce(scenario, out, None, Console(file=shown, width=200))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return scenario, report, shown.getvalue(), (out / "index.html").read_text(encoding="utf-8")


def test_without_noise_the_signed_numbers_are_the_exact_ones_up_to_the_bins(made):
    _, report, _, _ = made
    found = report["evaluation"]
    assert found["units"] == 3
    assert 40 < found["customers"] < 120  # of 192 whom the units hold
    numbers = {number["name"]: number for number in found["numbers"]}
    assert tuple(numbers) == EXACT
    assert numbers["prevalence"]["value"] == pytest.approx(numbers["prevalence"]["exact"], abs=1e-9)
    for number in numbers.values():
        assert number["low"] <= number["exact"] <= number["high"]
        assert abs(number["value"] - number["exact"]) < 0.05
        assert 0 < number["test"] != number["exact"]


def test_an_evaluation_is_charged_to_the_ledgers_beside_the_training(made):
    scenario, report, _, _ = made
    for unit, epsilon in report["epsilon"].items():
        assert report["evaluation"]["epsilon"][unit] > NEARLY_EXACT
        assert report["evaluation"]["epsilon"][unit] < epsilon <= report["epsilon_cap"][unit]
    assert report["verified"] is True
    assert scenario.units[0].epsilon_cap > 4.0


def test_terminal_and_page_show_each_number_with_its_interval(made):
    _, report, shown, page = made
    (auc, *_) = report["evaluation"]["numbers"]
    interval = f"{auc['low']:.4f} to {auc['high']:.4f}"
    assert interval in shown
    assert interval in page
    assert "customers set aside at 3 units" in shown
    assert 'id="evaluation"' in page


def test_what_the_noise_hides_is_said_and_not_made_up():
    hidden = {"name": "roc_auc", "exact": 0.8, "test": None}
    found = {"units": 2, "customers": 9, "level": 0.95, "table_epsilon": 0.1, "numbers": [hidden]}
    shown = io.StringIO()
    Console(file=shown, width=200).print(evaluation_table(found))
    assert "hidden by the noise" in shown.getvalue()
    assert "hidden by the noise" in render_page({"evaluation": found})
    assert 'id="evaluation"' not in render_page({})


def test_a_seed_sets_the_same_customers_aside_and_another_one_others(written, tmp_path):
    checks = []
    for place, seed in enumerate((3, 3, 4)):
        scenario = load_scenario(str(written)).model_copy(update={"seed": seed})
        population = load_customers(scenario, tmp_path / f"rows-{place}")
        with closing(open_world(scenario, population, tmp_path / str(place))) as federation:
            found = []
            for unit in federation.units.values():
                with unit.node() as node:
                    found.append(node.split(node.contract(scenario.contract.digest)).check)
        assert len(set(found)) == len(scenario.units)
        checks.append(found)
    assert checks[0] == checks[1] != checks[2]


def test_an_evaluation_needs_customers_set_aside(written, scenario_writer, scenario_text, tmp_path):
    text = scenario_text.replace("[plan]", "[evaluation]\nepsilon = 1.0\n\n[plan]")
    with pytest.raises(InvalidRecordError, match="holdout") as error:
        load_scenario(str(scenario_writer(tmp_path, text=text)))
    assert error.value.code == "scenario.invalid"
    assert load_scenario(str(written)).evaluation == EvaluationTerms(epsilon=NEARLY_EXACT)


def test_a_ledger_without_room_refuses_the_evaluation_after_the_training(written, tmp_path):
    scenario = load_scenario(str(written))
    assert {unit.epsilon_cap for unit in scenario.units} == {4.0}
    with pytest.raises(RefusedError) as error:
        Experiment(scenario, tmp_path / "run", lambda _: None).carry_out()
    assert "budget.exceeded" in error.value.codes


def test_a_customer_of_several_rows_counts_once_with_the_first_label_and_the_mean_score():
    examples = Examples(np.zeros((5, 1)), np.array([1.0, 0, 0, 0, 1]), counts=np.array([2, 1, 2]))
    labels, scores = by_customer(examples, np.array([0.2, 0.4, 0.5, 0.9, 0.1]))
    assert labels.tolist() == [1, 0, 0]
    assert scores == pytest.approx([0.3, 0.5, 0.5])
    single = Examples(np.zeros((2, 1)), np.array([1.0, 0]))
    assert by_customer(single, np.array([0.7, 0.1]))[1].tolist() == [0.7, 0.1]
    assert figures(np.array([1.0, 1.0]), np.array([0.5, 0.6])) == {}


@pytest.mark.parametrize("epsilon", [0.01, 0.3, 1.0, 3.0, 30.0, 100.0])
def test_room_is_made_in_the_ledgers_for_training_and_evaluation(written, epsilon):
    terms = EvaluationTerms(epsilon=epsilon, spare_exchanges=1)
    given = load_scenario(str(written)).model_copy(update={"evaluation": terms})
    scenario = changed(given, {"epsilon": 3.0})
    plan = make_plan(scenario)
    events = [plan.run_event(), charge_of(plan, terms)]
    assert renyi_epsilon(events, scenario.delta) <= scenario.units[0].epsilon_cap
