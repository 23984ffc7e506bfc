import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fedcore.errors import DataError, RefusedError
from fedcore.learning_rules import Adam, Algorithm, EarlyStopping, ServerAdam, TrimmedMean
from fedcore.models import ModelVersion
from fedcore.plans import ModelSpec
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.verify import verify_bundle
from simulations.experiment import Experiment, Outcome, load_customers, open_world
from simulations.paperwork import make_dpia, make_plan
from simulations.report import make_report
from simulations.scenario import Dropout, Scenario, load_scenario
from simulations.second_process import Verification

# The verifier that was written from the format of bundles alone.
SECOND = Path(__file__).parents[2] / "docs" / "reference" / "verify_bundle.py"


def carry_out(scenario: Scenario, root: Path) -> Outcome:
    return Experiment(scenario, root, lambda _: None).carry_out()


@pytest.fixture(scope="module")
def outcome(scenario_writer, tmp_path_factory):
    """What the small scenario ends in as it is; read by several tests."""
    folder = tmp_path_factory.mktemp("outcome")
    return carry_out(load_scenario(str(scenario_writer(folder))), folder / "run")


def test_a_scenario_ends_in_a_model_whose_evidence_verifies(outcome, scenario, tmp_path):
    report = verify_bundle(outcome.bundle, outcome.governance_key)
    assert report.ok
    (tmp_path / "bundle").write_bytes(outcome.bundle)
    command = [sys.executable, "-I", str(SECOND), str(tmp_path / "bundle"), outcome.governance_key]
    found = subprocess.run([*command, "simulation"], capture_output=True, timeout=60, check=False)
    assert found.returncode == 0, found.stdout
    told = [line.split() for line in found.stdout.decode().splitlines()]
    assert {verdict for verdict, *_ in told} == {"ok"}
    assert {name for _, name, *_ in told} <= {check.name for check in report.checks}
    assert len(outcome.auc_by_round) == scenario.rounds
    assert set(outcome.baselines.alone) == {"east", "north", "west"}


def test_a_response_model_is_trained_under_documents_that_name_its_task_and_ends_early(
    scenario, tmp_path
):
    algorithm = Algorithm(
        local_learning_rate=0.1,
        average_decay=0.5,
        positive_weight=2.0,
        local_optimizer=Adam(kind="adam"),
        server_optimizer=ServerAdam(kind="adam", learning_rate=0.1),
        robust=TrimmedMean(kind="trimmed_mean", trim=1),
        proximal=0.5,
    )
    changes = {"task": "response", "algorithm": algorithm, "local_steps": 2, "minimum_units": 3}
    changes |= {"holdout": 0.3, "early_stopping": EarlyStopping(every=1, patience=1)}
    terms = scenario.plan.model_copy(update=changes)
    outcome = carry_out(scenario.model_copy(update={"plan": terms}), tmp_path / "run")
    assert verify_bundle(outcome.bundle, outcome.governance_key).ok
    version = ModelVersion.from_bytes(outcome.evidence.model_version.payload_bytes)
    assert (version.task, version.name) == ("response", "response")
    report = make_report(outcome, [], Verification("", 0, {}), 1.0)
    assert (report["rounds"], outcome.plan.rounds) == (2, 3)
    stated = report["plan"]
    said = {"average_decay": 0.5, "positive_weight": 2.0, "local_optimizer": "adam"}
    said |= {"server_optimizer": "adam", "robust": "trimmed_mean", "proximal": 0.5}
    assert stated == stated | said


def test_a_dpia_about_response_permits_no_run_of_churn(scenario, tmp_path):
    churn = make_plan(scenario)
    terms = scenario.plan.model_copy(update={"task": "response"})
    response = make_plan(scenario.model_copy(update={"plan": terms}))
    population = load_customers(scenario, tmp_path / "rows")
    with closing(open_world(scenario, population, tmp_path / "world")) as federation:
        dpia = make_dpia(response, scenario.contract, 4.0, federation.clock.now())
        federation.put_in_force(dpia)
        with pytest.raises(RefusedError) as refused:
            federation.run(federation.register(churn), "run-churn")
        assert "dpia.task_differs" in refused.value.codes
        federation.run(federation.register(response), "run-response")


def test_epsilon_of_each_ledger_is_the_one_asked_for_and_the_model_states_it(outcome, scenario):
    stated = ModelVersion.from_bytes(outcome.evidence.model_version.payload_bytes).epsilon
    for claim in stated:
        spent = renyi_epsilon(outcome.ledger_events[claim.unit], scenario.delta)
        assert scenario.epsilon * 0.99 < spent <= scenario.epsilon
        assert claim.claim == pytest.approx(spent, abs=1e-6)


def test_opt_outs_act_from_the_first_round_after_they_came_and_only_if_they_cover_the_purpose(
    outcome,
):
    found = {(o.unit, o.purpose): o.excluded_since_round for o in outcome.opt_outs}
    assert found == {
        ("east", "marketing"): 1,
        ("west", "churn"): 2,
        ("west", "statistics"): None,
    }


def test_one_seed_gives_one_model_and_another_seed_another(outcome, scenario, tmp_path):
    again = carry_out(scenario, tmp_path / "b")
    other = carry_out(scenario.model_copy(update={"seed": 4}), tmp_path / "c")
    assert outcome.evidence.artifact == again.evidence.artifact
    assert outcome.evidence.artifact != other.evidence.artifact


def test_a_run_goes_on_without_a_unit_that_drops_out(scenario, tmp_path):
    gap = Dropout(unit="north", first_round=2, last_round=2)
    outcome = carry_out(scenario.model_copy(update={"dropouts": (gap,)}), tmp_path / "run")
    assert len(outcome.evidence.receipts) == 3 * scenario.rounds - 1
    assert verify_bundle(outcome.bundle, outcome.governance_key).ok


def test_an_mlp_trains_the_same_way(scenario, tmp_path):
    model = ModelSpec(kind="mlp", hidden=(8,))
    plan = scenario.plan.model_copy(update={"model": model})
    outcome = carry_out(scenario.model_copy(update={"plan": plan}), tmp_path / "run")
    assert verify_bundle(outcome.bundle, outcome.governance_key).ok


def test_a_customer_with_two_rows_stops_the_scenario_and_is_not_named(scenario_file, tmp_path):
    table = scenario_file.with_name("customers.csv")
    rows = table.read_text(encoding="utf-8")
    table.write_text(rows + "K0,30,basic,no,east\n" * 3, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        carry_out(load_scenario(str(scenario_file)), tmp_path / "run")
    assert caught.value.code == "data.duplicate_subject"
    assert "K0" not in str(caught.value)
