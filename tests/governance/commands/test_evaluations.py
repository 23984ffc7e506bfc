"""`fedpact governance evaluations`: plans are signed and registered, what was found is shown."""

import json
from contextlib import nullcontext
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from fedcore import cli, gateway_http
from fedcore.evaluation_outcomes import Evaluation
from fedcore.signing import Envelope


@pytest.fixture
def said(evaluating, tmp_path, monkeypatch):
    """Runs a command of the group as one of the people; returns exit code and output."""
    world = evaluating.world
    # Only the network is replaced.
    monkeypatch.setattr(gateway_http, "open_client", lambda *_: nullcontext(world.client))

    def run(*words, role=None):
        line = [str(word) for word in words]
        if role is not None:
            key = tmp_path / f"{role}.key"
            if not key.exists():
                key.write_text(world.api_keys[role])
                key.chmod(0o600)
            line += ["--url", "http://127.0.0.1:1", "--api-key-file", str(key)]
        entry = EntryPoint("governance", "governance.cli:app [governance]", cli.COMMANDS_GROUP)
        command = ["governance", "evaluations", *line]
        result = CliRunner().invoke(cli.RootCommand({"governance": entry}), command)
        return result.exit_code, result.output

    return run


@pytest.fixture
def evaluated(evaluating):
    """An evaluation of two models."""
    plan, permit = evaluating.permitted()
    tables = evaluating.signed(evaluating.answered(plan, permit))
    envelope = evaluating.world.gateway("operator").submit_tables("eval-1", tables)
    return evaluating.world.open(envelope, Evaluation)


def test_a_plan_is_signed_for_its_realm_registered_and_then_permitted(evaluating, said, tmp_path):
    plan = evaluating.plan()
    path, key, out = tmp_path / "plan.json", tmp_path / "author.pem", tmp_path / "signed.json"
    path.write_text(json.dumps(plan.to_json(), indent=2))
    evaluating.world.keys["author"].save(key)
    sign = ("sign", path, "--key", key, "--out", out)
    code, output = said(*sign, "--realm", "simulation")
    assert code == 0
    assert "at most 2 times, with 2 tables: a run charges epsilon" in output
    assert output.splitlines()[-1] == plan.digest
    assert Envelope.from_bytes(out.read_bytes()).digest == plan.digest
    assert said(*sign)[0] == 1  # the file is there already
    code, output = said("register", out, role="operator")
    assert (code, "auth.wrong_role" in output) == (1, True)
    assert said("register", out, role="author") == (0, f"{plan.digest}\n")
    assert evaluating.permit(plan).plan == plan.digest


def test_a_plan_for_another_realm_is_not_registered(evaluating, said, tmp_path):
    path, key, out = tmp_path / "plan.json", tmp_path / "author.pem", tmp_path / "signed.json"
    path.write_text(json.dumps(evaluating.plan().to_json()))
    evaluating.world.keys["author"].save(key)
    assert said("sign", path, "--key", key, "--out", out)[0] == 0
    code, output = said("register", out, role="author")
    assert (code, "signature.wrong_type" in output) == (1, True)


def test_evaluations_are_listed_with_their_models(evaluated, said):
    code, output = said("list", role="auditor")
    first, second = (model.artifact for model in evaluated.models)
    assert (code, output) == (0, f"2025-06-01 12:00  eval-1  {first}  {second}\n")
    code, output = said("list", "--json", role="unit_operator")
    [listed] = json.loads(output)["evaluations"]
    assert (code, listed["run_id"], listed["document"]) == (0, "eval-1", evaluated.digest)


def test_an_evaluation_is_shown_with_intervals_and_what_they_contain(evaluated, said):
    code, output = said("show", "eval-1", role="auditor")
    assert code == 0
    area = next(each for each in evaluated.models[0].numbers if each.name == "roc_auc")
    shown = next(line for line in output.splitlines() if line.startswith("  roc_auc "))
    assert shown.split() == [
        "roc_auc",
        f"{area.value:.4f}",
        f"{area.low:.4f}",
        "to",
        f"{area.high:.4f}",
    ]
    for words in (
        "run eval-1, evaluated 2025-06-01 12:00 UTC, SIMULATION",
        "churn for churn_prediction: customers set aside in training at 2 units",
        "churn version 1, sha256:",
        "churn version 2, sha256:",
        "95% interval",
        "first model without the second\n  roc_auc_difference",
        "in 95% of evaluations: it has in it which customers happened to be set aside, the noise",
        "(epsilon 0.25 for each table of a unit)",
        "charged to north: epsilon",
    ):
        assert words in output, words


def test_an_evaluation_is_printed_whole_as_the_document_that_was_signed(evaluated, said):
    code, output = said("show", "eval-1", "--json", role="unit_operator")
    assert code == 0
    assert Evaluation.from_json(json.loads(output)) == evaluated


def test_a_run_without_an_evaluation_is_named(evaluating, said):
    code, output = said("show", "run-1", role="auditor")
    assert (code, "evaluation.unknown" in output) == (1, True)


def test_numbers_that_the_noise_hides_are_named_as_such(evaluating, said):
    plan, permit = evaluating.permitted("run-1", epsilon=0.001)
    tables = evaluating.signed(evaluating.answered(plan, permit))
    evaluating.world.gateway("operator").submit_tables("eval-1", tables)
    code, output = said("show", "eval-1", role="auditor")
    assert code == 0
    assert "hidden by the noise: roc_auc, average_precision" in output
