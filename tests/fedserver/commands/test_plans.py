import json
import math

import pytest

from fedcore import canonical
from fedcore.contracts import ContractField
from fedcore.learning_rules import EarlyStopping
from fedcore.plans import (
    Feature,
    Imputation,
    ModelSpec,
    TrainingPlan,
    UnitTerms,
)
from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey, open_envelope, sign_record
from fedcore.tasks.task import initial_weights, load_task
from fedcore.weights import encode_weights


@pytest.fixture
def contract(contract_of):
    return contract_of(
        ContractField(name="tenure", kind="numeric", lower=0, upper=72),
        ContractField(name="age", kind="numeric", lower=0, upper=120, sensitivity="sensitive"),
        ContractField(name="calls", kind="numeric", lower=0, upper=9, availability="may_be_absent"),
    )


@pytest.fixture
def plan(contract, plan_of):
    first = encode_weights(initial_weights(load_task("churn"), ModelSpec(kind="logistic"), 1))
    return plan_of(
        contract,
        (Feature(field="tenure", encoding="scale"),),
        title="Churn [red]over[/red] two units",
        units=(UnitTerms(unit="north", public_n=1536), UnitTerms(unit="south", public_n=768)),
        initial_model=canonical.digest(first),
        rounds=5,
    )


@pytest.fixture
def write(tmp_path):
    def write(name, value):
        path = tmp_path / name
        path.write_text(json.dumps(value, indent=2))
        return path

    return write


def test_a_plan_laid_out_for_reading_is_checked_and_named_by_its_digest(fedpact, plan, write):
    code, output = fedpact("check", write("plan.json", plan.to_json()))
    assert code == 0, output
    assert f"plan {plan.digest}" in output
    assert "[red]over[/red] two units: logistic, 5 rounds" in output
    assert "2 units, at least 2 answers a round; each reserves 6 exchanges of 1 steps" in output


def test_a_plan_with_checks_says_how_many_and_what_they_see(fedpact, plan, write):
    stopping = EarlyStopping(every=1, patience=1)
    checked = plan.model_copy(update={"holdout": 0.25, "early_stopping": stopping})
    _, output = fedpact("check", write("plan.json", checked.to_json()))
    gain = 1.645 * plan.privacy.noise_multiplier * math.sqrt(2)
    gain /= 0.25 * sum(terms.public_n for terms in plan.units)
    assert "2 of the rounds are checks, each charged as a round" in output
    assert f"from a gain of {gain:.4f} in the loss of each customer set aside" in output
    assert "none can end the run" not in output
    endless = {"holdout": 0.25, "early_stopping": EarlyStopping(every=1, patience=3)}
    _, output = fedpact("check", write("plan.json", plan.model_copy(update=endless).to_json()))
    assert "patience 3 is more than there are checks, so that none can end the run" in output


def test_the_claim_counts_spare_rounds_and_customers_of_both_units(fedpact, plan, write):
    _, output = fedpact("check", write("plan.json", plan.to_json()))
    event = plan.round_event().model_copy(update={"steps": 6})
    for units, name in ((1, "1 unit "), (2, "2 units")):
        row = next(line for line in output.splitlines() if name in line and "│" in line)
        events = [event] * units
        assert f"{renyi_epsilon(events, 1e-5):.4f}" in row
        assert f"{pld_epsilon(events, 1e-5):.4f}" in row


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("rounds", 0, "rounds:"),
        ("privacy", {"l2_clip_norm": 1, "noise_multiplier": 0, "delta": 1e-5}, "noise_multiplier"),
        ("colour", "red", "colour:"),
        ("minimum_units", 3, "minimum_units: more than there are units"),
    ],
)
def test_a_wrong_field_is_named(fedpact, plan, write, field, value, told):
    code, output = fedpact("check", write("plan.json", {**plan.to_json(), field: value}))
    assert code == 1
    assert told in output
    assert "record.invalid" in output


def test_what_is_no_plan_is_named_by_its_file(fedpact, tmp_path, write):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    for path, told in (
        (tmp_path / "rows.csv", "rows.csv: the document is not valid JSON"),
        (tmp_path / "missing.json", "missing.json cannot be read"),
        (write("other.json", {"schema": "permit/1"}), "expected a document of schema plan/1"),
    ):
        code, output = fedpact("check", path)
        assert (code, told in output) == (1, True), output


def test_a_plan_is_held_against_its_contract_signed_or_plain(fedpact, plan, contract, write):
    signed = sign_record(contract, SigningKey.generate(), Realm.PRODUCTION)
    for value in (contract.to_json(), json.loads(signed.to_bytes())):
        code, output = fedpact(
            "check", write("plan.json", plan.to_json()), "-c", write("contract.json", value)
        )
        assert code == 0, output
        assert "fits its contract: 1 inputs" in output


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"contract": canonical.digest(b"another")}, "plan.other_contract"),
        ({"features": (Feature(field="colour", encoding="scale"),)}, "plan.field_unknown"),
        ({"features": (Feature(field="tenure", encoding="onehot"),)}, "plan.encoding_unfit"),
        ({"features": (Feature(field="age", encoding="scale"),)}, "contract.sensitive_input"),
        ({"features": (Feature(field="calls", encoding="scale"),)}, "plan.absence_unsaid"),
        (
            {
                "features": (
                    Feature(
                        field="calls",
                        encoding="scale",
                        absent=Imputation(impute=10, indicator=True),
                    ),
                )
            },
            "plan.absence_unfit",
        ),
        ({"purpose": "baking"}, "contract.purpose_unknown"),
        ({"initial_model": canonical.digest(b"mine")}, "plan.initial_model_differs"),
        ({"task": "weather"}, "task.unknown"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_the_reason(
    fedpact, plan, contract, write, changes, reason
):
    other = write("plan.json", plan.model_copy(update=changes).to_json())
    code, output = fedpact("check", other, "-c", write("contract.json", contract.to_json()))
    assert (code, reason in output) == (1, True), output


@pytest.mark.parametrize(
    ("rule", "inputs"), [("leave_out", 1), (Imputation(impute=9, indicator=True), 2)], ids=str
)
def test_a_plan_that_says_what_happens_where_a_field_is_absent_fits(
    fedpact, plan, contract, write, rule, inputs
):
    first = encode_weights(initial_weights(load_task("churn"), plan.model, inputs))
    changes = {
        "features": (Feature(field="calls", encoding="scale", absent=rule),),
        "initial_model": canonical.digest(first),
    }
    ruled = write("plan.json", plan.model_copy(update=changes).to_json())
    code, output = fedpact("check", ruled, "-c", write("contract.json", contract.to_json()))
    assert (code, f"fits its contract: {inputs} inputs" in output) == (0, True), output


def test_a_signed_plan_opens_under_the_author_key_in_its_realm_only(fedpact, plan, write, tmp_path):
    key = SigningKey.generate()
    key.save(tmp_path / "author.pem")
    out = tmp_path / "signed.json"
    code, output = fedpact(
        "sign",
        write("plan.json", plan.to_json()),
        *("--key", tmp_path / "author.pem", "--realm", "simulation", "--out", out),
    )
    assert code == 0
    assert plan.digest in output
    envelope = Envelope.from_bytes(out.read_bytes())
    assert open_envelope(envelope, TrainingPlan, key.public, Realm.SIMULATION) == plan
    assert "production" not in envelope.payload_type


def test_an_invalid_plan_is_not_signed(fedpact, plan, write, tmp_path):
    SigningKey.generate().save(tmp_path / "author.pem")
    bad = write("plan.json", {**plan.to_json(), "rounds": 0})
    out = tmp_path / "signed.json"
    code, _ = fedpact("sign", bad, "--key", tmp_path / "author.pem", "--out", out)
    assert code == 1
    assert not out.exists()
    code, output = fedpact(
        "sign", write("plan.json", plan.to_json()), "--key", tmp_path / "none.pem", "--out", out
    )
    assert (code, "key.unreadable" in output) == (1, True)
    assert not out.exists()


# Noise for a wished epsilon


@pytest.mark.parametrize(("option", "measure"), [((), renyi_epsilon), (("--pld",), pld_epsilon)])
def test_a_plan_gets_the_least_noise_for_an_epsilon_and_nothing_else_changes(
    fedpact, plan, write, tmp_path, option, measure
):
    out = tmp_path / "calibrated.json"
    path = write("plan.json", plan.to_json())
    code, output = fedpact("calibrate", path, "--epsilon", 3, "--out", out, *option)
    assert code == 0, output
    found = TrainingPlan.from_json(json.loads(out.read_text()))
    noise = found.privacy.noise_multiplier
    assert f"noise multiplier {noise:g} for 6 steps" in output
    assert 3 * 0.995 < measure([found.run_event()], found.privacy.delta) <= 3
    same = found.privacy.model_copy(update={"noise_multiplier": plan.privacy.noise_multiplier})
    assert found.model_copy(update={"privacy": same}) == plan


def test_an_epsilon_out_of_reach_and_a_file_that_cannot_be_written_are_told(
    fedpact, plan, write, tmp_path
):
    path = write("plan.json", plan.to_json())
    code, output = fedpact("calibrate", path, "--epsilon", 1e9, "--out", tmp_path / "no.json")
    assert code == 1
    assert "privacy.unreachable_epsilon" in output
    assert not (tmp_path / "no.json").exists()
    code, output = fedpact("calibrate", path, "--epsilon", 3, "--out", path / "no.json")
    assert code == 1
    assert "plan.unwritable" in output


@pytest.mark.parametrize("option", [(), ("--keep-features",)])
def test_a_plan_gets_what_the_rule_picks_with_reasons_and_keeps_the_rest(
    fedpact, contract, plan, write, tmp_path, option
):
    out, path = tmp_path / "suggested.json", write("plan.json", plan.to_json())
    terms = ("--contract", write("contract.json", contract.to_json()))
    code, output = fedpact("suggest", path, *terms, "--epsilon", 3, "--out", out, *option)
    assert code == 0, output
    found = TrainingPlan.from_json(json.loads(out.read_text()))
    assert 3 * 0.995 < renyi_epsilon([found.run_event()], found.privacy.delta) <= 3
    assert found.rounds == 120
    assert [f.encoding for f in found.features] == (["scale"] if option else ["edges"])
    assert f"learning rate {found.averaging.local_learning_rate:g}: from room" in output
    assert f"clip norm {found.privacy.l2_clip_norm:g}: from the inputs" in output
    kept = ("title", "units", "minimum_units", "spare_rounds", "contract", "purpose", "model")
    assert all(getattr(found, name) == getattr(plan, name) for name in kept)
    assert fedpact("check", out, *terms)[0] == 0


def test_the_rule_gives_nothing_to_a_plan_that_it_is_not_for(
    fedpact, contract, plan, write, tmp_path
):
    terms = ("--contract", write("contract.json", contract.to_json()))
    deep = plan.model_copy(update={"model": ModelSpec(kind="mlp", hidden=(4,))})
    many = plan.privacy.model_copy(update={"local_steps": 2})
    units = (plan.units[0].model_copy(update={"absent": ("calls",)}), plan.units[1])
    absent = Imputation(impute=0.0, indicator=True)
    features = (*plan.features, Feature(field="calls", encoding="scale", absent=absent))
    lacking = plan.model_copy(update={"units": units, "features": features})
    for unfit, reason in (
        (deep, "plan.rule_unfit"),
        (plan.model_copy(update={"privacy": many}), "plan.rule_unfit"),
        (lacking, "record.invalid"),
    ):
        path, out = write("plan.json", unfit.to_json()), tmp_path / "no.json"
        code, output = fedpact("suggest", path, *terms, "--epsilon", 3, "--out", out)
        assert code == 1
        assert reason in output
        assert not out.exists()
    path = write("plan.json", plan.to_json())
    code, output = fedpact("suggest", path, *terms, "--epsilon", 3, "--out", path / "no.json")
    assert code == 1
    assert "plan.unwritable" in output


# What is there already


@pytest.mark.parametrize("command", ["sign", "calibrate", "suggest", "segments", "autoencoder"])
def test_no_command_writes_over_a_file_that_is_there(
    fedpact, contract, plan, write, tmp_path, command
):
    SigningKey.generate().save(tmp_path / "author.pem")
    terms = write("contract.json", contract.to_json())
    key = ("--key", tmp_path / "author.pem")
    of_run = ("--epsilon", 3)
    options = {"sign": key, "calibrate": of_run}.get(command, (*of_run, "--contract", terms))
    path = write("plan.json", plan.to_json())
    (tmp_path / "away.json").symlink_to(tmp_path / "nowhere.json")
    for taken in (path, terms, tmp_path, tmp_path / "away.json"):
        code, output = fedpact(command, path, *options, "--out", taken)
        told = f"error: {taken} is there already; name another file (file.exists)\n"
        assert (code, output) == (1, told)
    assert json.loads(path.read_text()) == plan.to_json()
    assert json.loads(terms.read_text()) == contract.to_json()


def test_a_plan_that_is_written_is_whole_or_not_there(fedpact, plan, write, tmp_path, monkeypatch):
    def torn(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedcore.atomic.os.fsync", torn)
    path, out = write("plan.json", plan.to_json()), tmp_path / "new.json"
    code, output = fedpact("calibrate", path, "--epsilon", 3, "--out", out)
    assert code == 1
    told = "cannot be written: no space left on device; name a place that can be written to"
    assert f"{out} {told} (plan.unwritable)" in output
    assert not out.exists()


def test_an_evaluation_is_of_one_model_or_two(fedpact, tmp_path):
    bundles, out = (tmp_path / name for name in "abc"), tmp_path / "plan.json"
    terms = ("--epsilon", 1, "--title", "Three", "--out", out)
    code, output = fedpact("evaluate", *bundles, *terms)
    told = "BUNDLE: the evidence of one model version, or of two to compare; here are 3"
    assert (code, told in output, out.exists()) == (2, True, False)


def test_a_file_that_is_none_is_told_with_its_cause(fedpact, tmp_path):
    evaluated = ("--epsilon", 1, "--title", "None", "--out", tmp_path / "plan.json")
    for path, cause in ((tmp_path, "it is a directory"), (tmp_path / "no", "there is no such")):
        for command in (("check", path), ("evaluate", path, *evaluated)):
            code, output = fedpact(*command)
            assert (code, f"{path} cannot be read: {cause}" in output) == (1, True), output


def test_a_plan_is_not_registered_without_a_key_nor_at_an_address_that_is_none(
    fedpact, plan, tmp_path
):
    signed, key = tmp_path / "signed.json", tmp_path / "author.key"
    envelope = sign_record(plan, SigningKey.generate(), Realm.PRODUCTION)
    signed.write_bytes(envelope.to_bytes())
    key.touch(0o600)
    for url, told in (
        ("https://127.0.0.1:9", f"{key} is empty: put the account's API key into it"),
        ("https://[::1", "governance's address: 'https://[::1' is no address"),
    ):
        code, output = fedpact("register", signed, "--url", url, "--api-key-file", key)
        assert (code, told in output) == (1, True), output
        key.write_text("a-key")
