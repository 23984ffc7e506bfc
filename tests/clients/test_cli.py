import io
import re
import shutil
import sqlite3
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from clients import runtime
from clients.budget import Cap, Reservation
from clients.bulletin import BulletinStore
from clients.keyring import key_path
from clients.ledger import Ledger
from clients.settings import NodeSettings
from clients.state import StateDir
from fedcore import canonical, cli
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.learning_rules import Algorithm
from fedcore.optouts import excluded_from, states_of
from fedcore.permits import Enrolment
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.events import PrivacyEvent
from fedcore.record import Realm
from fedcore.rounds import Order
from fedcore.signing import Envelope, SigningKey, open_envelope, sign_record
from simulations.clock import ManualClock
from simulations.federation import Federation, UnitSetup
from simulations.noise import SeededNoise

SOUND = "customer_id,tenure,plan,churn\nC1,3,basic,Yes\nC2,40,plus,No\nC3,71,basic,No\n"
EVENT = PrivacyEvent(
    mechanism="gaussian", l2_sensitivity=1.0, sampling_rate=1.0, noise_multiplier=8.0, steps=4
)


def fedpact(*arguments, answers=None):
    entry = EntryPoint("node", "clients.cli:app [node]", cli.COMMANDS_GROUP)
    root = cli.RootCommand({"node": entry})
    result = CliRunner().invoke(root, ["node", *map(str, arguments)], input=answers)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def governance():
    return SigningKey.generate()


@pytest.fixture
def contract():
    return Contract(
        contract_id="customers",
        version=1,
        title="Customers",
        source="The public price list.",
        subject=SubjectRule(
            column="customer_id", namespace="customer-number", normaliser="trim-upper/1"
        ),
        fields=(
            ContractField(name="tenure", kind="numeric", lower=0, upper=72),
            ContractField(name="plan", kind="categorical", categories=("basic", "plus")),
        ),
        label=Label(name="churn", positive="Yes", negative="No", horizon_days=30),
        purposes=(Purpose(id="retention", text="Keep customers", basis="legitimate_interests"),),
        retention_days=365,
    )


@pytest.fixture
def contract_file(tmp_path, contract, governance):
    path = tmp_path / "contract.json"
    path.write_bytes(sign_record(contract, governance, Realm.PRODUCTION).to_bytes())
    return path


@pytest.fixture
def settings(tmp_path, governance):
    """The settings of a fresh node, whose governance is out of reach."""
    (tmp_path / "customers.csv").write_text(SOUND)
    path = tmp_path / "node.toml"
    path.write_text(
        f"""
unit = "north"
state_dir = "{tmp_path / "state"}"
source = "{tmp_path / "customers.csv"}"
governance_url = "http://127.0.0.1:9"
governance_key = "{governance.public}"
subject_namespace = "customer-number"
epsilon_cap = 4.0
delta = 1e-5
size_band = 1024
purposes = ["retention"]
"""
    )
    return path


@pytest.fixture
def node(settings):
    assert fedpact("init", "-s", settings)[0] == 0
    return NodeSettings.load(settings)


@pytest.fixture
def world(tmp_path, contract):
    """A real governance, and one unit that is enrolled there."""
    clock = ManualClock(datetime(2026, 11, 21, tzinfo=UTC))
    federation = Federation(tmp_path / "world", contract, clock, SeededNoise(1))
    try:
        rows = pl.read_csv(SOUND.encode(), infer_schema=False)
        federation.enrol(UnitSetup("north", rows, 1024, 4.0))
        yield federation
    finally:
        federation.close()


def charge(node):
    """Reserve a run of 4 steps in the node's ledger and begin its first order."""
    at = datetime(2026, 11, 1, tzinfo=UTC)
    path = StateDir(node.state_dir).ledger
    opened = Ledger(path, "north", "customer-number", Cap(epsilon=4.0, delta=1e-5))
    digest = canonical.digest(b"some document")
    order = Order(
        run_id="run-7",
        realm=Realm.PRODUCTION,
        unit="north",
        round=1,
        attempt=1,
        permit=digest,
        plan=digest,
        model=digest,
        issued_at=at,
        deadline_at=at,
    )
    reservation = Reservation("run-7", digest, EVENT, exchanges=4, epsilon_granted=4.0)
    opened.begin(order, reservation, at)
    opened.close()


def test_init_makes_keys_and_an_empty_ledger_and_never_twice(settings):
    code, output = fedpact("init", "-s", settings)
    assert code == 0
    state = StateDir(NodeSettings.load(settings).state_dir)
    assert state.node_key().public in output
    kept = {path: path.read_bytes() for path in state.root.iterdir()}
    code, output = fedpact("init", "-s", settings)
    assert (code, "state.exists" in output) == (1, True)
    assert {path: path.read_bytes() for path in state.root.iterdir()} == kept


def test_a_check_keeps_a_quality_report_and_prints_it_when_asked(node, settings, contract_file):
    code, output = fedpact("check", "-s", settings, "-c", contract_file)
    assert (code, "must not leave" in output) == (0, False)
    (kept,) = (node.state_dir / "quality").iterdir()
    assert canonical.parse(kept.read_bytes())["rows"] == 3
    rows = SOUND.replace("C3,71", "C3,many")
    (settings.parent / "customers.csv").write_text(rows)
    code, output = fedpact("check", "-s", settings, "-c", contract_file, "--report")
    assert (code, "data.contract_broken" in output) == (1, True)
    assert "must not leave the node" in " ".join(output.split())
    assert b"field.not_a_number" in kept.read_bytes()


def test_an_enrolment_request_is_signed_by_the_node_with_the_declared_band(node, settings):
    out = settings.parent / "enrolment.json"
    code, _ = fedpact("enrol", "-s", settings, "--legal-entity", "North Ltd", "--out", out)
    assert code == 0
    key = StateDir(node.state_dir).node_key().public
    envelope = Envelope.from_bytes(out.read_bytes())
    request = open_envelope(envelope, Enrolment, key, Realm.PRODUCTION)
    assert (request.unit, request.size_band, request.node_key) == ("north", 1024, key)


def test_a_size_that_is_no_band_is_not_enrolled(node, settings):
    settings.write_text(settings.read_text().replace("1024", "1000"))
    out = settings.parent / "enrolment.json"
    code, output = fedpact("enrol", "-s", settings, "--legal-entity", "North Ltd", "--out", out)
    assert code == 1
    assert "size_band: must be a power of two" in output
    assert not out.exists()


def test_a_sound_source_makes_the_node_available_without_governance(
    node, settings, contract, contract_file
):
    assert not StateDir(node.state_dir).checked(contract.digest)
    code, output = fedpact("check", "-s", settings, "-c", contract_file)
    assert code == 0, output
    assert "customers.csv fits customers version 1: available" in output
    assert StateDir(node.state_dir).checked(contract.digest)
    # The contract is kept: from now on its digest is enough.
    assert fedpact("check", "-s", settings, "-c", contract.digest)[0] == 0


def test_a_signed_contract_may_be_laid_out_for_reading(node, settings, contract_file):
    readable = contract_file.read_text().replace(",", ",\n  ")
    contract_file.write_text(readable)
    assert fedpact("check", "-s", settings, "-c", contract_file)[0] == 0


def test_the_operator_reads_what_is_declared_absent_and_which_purposes_mean_nothing(
    node, settings, contract, governance, tmp_path
):
    plain = contract.to_json()
    plain["fields"][0]["availability"] = "may_be_absent"
    loose = sign_record(Contract.from_json(plain), governance, Realm.PRODUCTION)
    path = tmp_path / "loose.json"
    path.write_bytes(loose.to_bytes())
    node.source.write_text(SOUND.replace("tenure", "months"))
    assert "lacks the contract's columns: tenure" in fedpact("check", "-s", settings, "-c", path)[1]
    text = settings.read_text().replace('["retention"]', '["retention", "retenton"]')
    settings.write_text(text + 'absent_fields = ["tenure"]\n')
    code, output = fedpact("check", "-s", settings, "-c", path)
    assert code == 0, output
    assert "absent here, as declared: tenure; plans must say so of north" in output
    assert "what this contract does not have: purposes.retenton" in output


def test_the_operator_reads_how_many_customers_have_more_rows_than_count(
    node, settings, contract, governance, tmp_path
):
    plain = contract.to_json() | {"rows_per_customer": {"most": 2, "rule": "drawn/1"}}
    several = sign_record(Contract.from_json(plain), governance, Realm.PRODUCTION)
    path = tmp_path / "several.json"
    path.write_bytes(several.to_bytes())
    for more, told in (("C1,4,plus,No\n", ""), ("C1,4,plus,No\nc1,5,plus,No\n", "1 customers")):
        node.source.write_text(SOUND + more)
        code, output = fedpact("check", "-s", settings, "-c", path)
        assert (code, "have more than 2 rows: any 2 of each count" in output) == (0, bool(told))
        assert told in output


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (SOUND.replace("tenure", "months"), "lacks the contract's columns: tenure"),
        (SOUND.replace(",plus,", ",gold,"), "plan: category outside the contract (1 rows)"),
        (SOUND.replace(",40,", ",4000,"), "tenure: outside its bounds (1 rows)"),
        (SOUND.replace(",40,", ",nan,"), "tenure: not a finite number (1 rows)"),
        (SOUND.replace(",Yes", ","), "churn: not one of the two labels (1 rows)"),
        (SOUND.replace("C2", "C1"), "customer_id: one customer has several rows (2 rows)"),
        (SOUND.partition("\n")[0] + "\n", "has no rows"),
    ],
)
def test_the_operator_reads_columns_and_rules_and_the_mended_source_passes(
    node, settings, contract, contract_file, rows, told
):
    node.source.write_text(rows)
    code, output = fedpact("check", "-s", settings, "-c", contract_file)
    assert code == 1
    assert told in output
    assert not re.search(r"4000|gold|\bC[12]\b", output.replace(told, ""))
    assert not StateDir(node.state_dir).checked(contract.digest)
    node.source.write_text(SOUND)
    assert fedpact("check", "-s", settings, "-c", contract_file)[0] == 0
    assert StateDir(node.state_dir).checked(contract.digest)


def test_a_unit_may_decide_to_leave_faulty_rows_out(node, settings, contract_file):
    node.source.write_text(SOUND.replace(",40,", ",4000,"))
    assert fedpact("check", "-s", settings, "-c", contract_file)[0] == 1
    settings.write_text(settings.read_text() + 'faulty_rows = "drop"\n')
    code, output = fedpact("check", "-s", settings, "-c", contract_file)
    assert (code, "left out" in output) == (0, True)


def test_a_source_with_other_names_in_a_database_makes_the_node_available(
    node, settings, contract_file, tmp_path
):
    theirs = SOUND.replace("tenure", "months").replace(",Yes", ",1").replace(",No", ",0")
    base = f"sqlite:///{tmp_path / 'crm.db'}"
    pl.read_csv(io.StringIO(theirs)).write_database("customers", base, engine="sqlalchemy")
    (tmp_path / "source.url").write_text(base)
    (tmp_path / "source.url").chmod(0o600)
    text = settings.read_text().replace(
        f'"{node.source}"', f'{{url_file = "{tmp_path / "source.url"}", table = "customers"}}'
    )
    settings.write_text(text)
    code, output = fedpact("check", "-s", settings, "-c", contract_file)
    assert (code, "lacks the contract's columns: tenure" in output) == (1, True)
    settings.write_text(
        f'{text}columns = {{tenure = "months", income = "salary"}}\n'
        'values = {churn = {Yes = ["1"], No = ["0"]}}\n'
    )
    code, output = fedpact("check", "-s", settings, "-c", contract_file)
    assert code == 0, output
    assert "customers fits customers version 1: available" in output
    assert "does not have: columns.income" in output


def test_a_contract_that_governance_did_not_sign_is_not_even_kept(
    node, settings, contract, contract_file
):
    forged = sign_record(contract, SigningKey.generate(), Realm.PRODUCTION)
    contract_file.write_bytes(forged.to_bytes())
    code, output = fedpact("check", "-s", settings, "-c", contract_file)
    assert (code, "signature.wrong_key" in output) == (1, True)
    assert not StateDir(node.state_dir).contract(contract.digest).exists()


@pytest.mark.parametrize("name", ["no-such-file.json", "sha256:12", "sha256:../../node"])
def test_what_is_neither_file_nor_digest_is_named(node, settings, name):
    code, output = fedpact("check", "-s", settings, "-c", name)
    assert (code, "contract.unreadable" in output) == (1, True)


def test_an_unknown_contract_needs_governance(node, settings):
    code, output = fedpact("check", "-s", settings, "-c", canonical.digest(b"another"))
    assert (code, "governance.unreachable" in output) == (1, True)


def test_an_opt_out_acts_here_at_once_and_its_identifier_is_not_shown(
    node, settings, contract_file
):
    asked = ["opt-out", "add", "-s", settings, "-c", contract_file, "--purpose", "retention"]
    twice = "customer-2023-nobody\n" * 2
    code, output = fedpact(*asked, "--ground", "art21_2", answers=twice)
    assert code == 0, output
    assert "opt-out 1 of retention acts here from now on" in output
    assert "customer-2023-nobody" not in output
    key = StateDir(node.state_dir).node_key().public
    store = BulletinStore(StateDir(node.state_dir).bulletin, "north", key, Realm.PRODUCTION)
    assert len(excluded_from(states_of(store.entries()), ("retention",))) == 1
    store.close()
    assert b"customer-2023-nobody" not in StateDir(node.state_dir).bulletin.read_bytes()


def test_a_pseudonym_key_is_changed_and_the_former_one_goes_when_nothing_needs_it(world, contract):
    unit = world.units["north"]
    settings, state = unit.settings, StateDir(unit.state_dir)
    source = NodeSettings.load(settings).source
    assert isinstance(source, Path)
    customer = source.read_text().splitlines()[1].split(",")[0]
    retire = ("pseudonym", "retire", "1", "-s", settings)
    with runtime.SEAM.bound(world.surroundings):
        asked = ["-s", settings, "-c", contract.digest, "--purpose", "retention"]
        assert fedpact("opt-out", "add", *asked, "--ground", "gpc", "--customer", customer)[0] == 0
        code, output = fedpact("pseudonym", "rotate", "-s", settings)
        assert (code, "key 2 makes all new pseudonyms" in output) == (0, True), output
        _, output = fedpact("pseudonym", "show", "-s", settings)
        assert ("key 1  former  needed by 1" in output, "key 2  present" in output) == (True, True)
        code, output = fedpact(*retire, "--yes")
        assert (code, "pseudonym.key_needed" in output) == (1, True)
        code, output = fedpact("pseudonym", "reissue", "-s", settings, "-c", contract.digest)
        assert (code, "1 customers were carried over" in output) == (0, True)
        assert fedpact(*retire, answers="n\n")[0] == 1
        assert key_path(state.root, 1).exists()
        assert fedpact(*retire, answers="y\n")[0] == 0
        assert not key_path(state.root, 1).exists()


def test_a_pseudonym_key_is_not_changed_while_governance_is_out_of_reach(node, settings):
    """It may know of opt-outs under a key that an older backup does not have."""
    for act in (("rotate",), ("retire", "1", "--yes")):
        code, output = fedpact("pseudonym", *act, "-s", settings)
        assert (code, "governance.unreachable" in output) == (1, True)
    assert (node.state_dir / "pseudonym.key").exists()


@pytest.mark.parametrize(
    ("purpose", "ground", "reason"),
    [
        ("baking", "art21_2", "opt_out.purpose_unknown"),
        ("retention", "because", "opt_out.ground_unknown"),
    ],
)
def test_an_opt_out_of_nothing_known_is_refused(
    node, settings, contract_file, purpose, ground, reason
):
    asked = ["opt-out", "add", "-s", settings, "-c", contract_file, "--customer", "C2"]
    code, output = fedpact(*asked, "--purpose", purpose, "--ground", ground)
    assert (code, reason in output) == (1, True)


def test_the_ledger_is_shown_with_claim_pld_and_cap(node, settings):
    charge(node)
    code, output = fedpact("ledger", "show", "-s", settings)
    assert code == 0
    assert [word in output for word in ("open", "reserve", "order", "run-7")] == [True] * 4
    claim = renyi_epsilon([EVENT], 1e-5)
    assert (
        f"epsilon charged: {claim:.4f} (the filter's bound) of at most 4 at delta 1e-05" in output
    )
    (pld,) = map(float, re.findall(r"did not depend on outputs: ([\d.]+)", output))
    assert 0 < pld < claim


def test_an_exported_ledger_is_verified_by_the_file_alone(node, settings, tmp_path):
    charge(node)
    out = tmp_path / "ledger.json"
    code, output = fedpact("ledger", "export", "-s", settings, "--out", out)
    assert code == 0
    shutil.rmtree(node.state_dir)
    told, text = fedpact("ledger", "verify", out)
    assert (told, output.rpartition(" ")[2].strip() in text) == (0, True)
    claim = renyi_epsilon([EVENT], 1e-5)
    assert f"epsilon charged: {claim:.4f} (the filter's bound) of at most 4 at delta 1e-05" in text
    sound = out.read_bytes()
    for place in range(0, len(sound), 41):
        out.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        told, text = fedpact("ledger", "verify", out)
        if told == 0:  # delta and cap are the exporter's word, and are shown
            assert b'"cap":{' in sound[max(0, place - 60) : place]
    assert fedpact("ledger", "verify")[0] == 2
    assert "ledger.unreadable" in fedpact("ledger", "verify", tmp_path / "no.json")[1]


def test_a_plan_is_held_against_the_ledger_before_anybody_asks(
    node, settings, contract, contract_file, tmp_path
):
    assert fedpact("check", "-s", settings, "-c", contract_file)[0] == 0
    plan = tmp_path / "plan.json"
    plan.write_bytes(plan_of(contract, rounds=3).to_bytes())
    code, output = plan_command("afford", plan, "-s", settings, "--every", "month")
    assert (code, "Churn: fits" in output, "first refused: from 20" in output) == (0, True, True)
    plan.write_bytes(plan_of(contract, rounds=500).to_bytes())
    code, output = plan_command("afford", plan, "-s", settings)
    assert (code, "Churn: does not fit" in output) == (1, True)
    assert "budget.exceeded: the cap of epsilon 4 over everything ever done" in output
    assert "plan.unreadable" in plan_command("afford", tmp_path / "no.json", "-s", settings)[1]


def test_an_evaluation_is_afforded_by_what_its_model_was_trained_for(
    node, settings, contract_file, contract, tmp_path
):
    assert fedpact("check", "-s", settings, "-c", contract_file)[0] == 0
    trained = plan_of(contract, rounds=3)
    (tmp_path / "plan.json").write_bytes(trained.to_bytes())
    evaluation = EvaluationPlan(
        title="Is it any good",
        models=(EvaluatedModel(artifact="sha256:" + "0" * 64, plan=trained.digest),),
        rows="holdout",
        epsilon=0.5,
        delta=1e-5,
        minimum_units=1,
    )
    path = tmp_path / "evaluation.json"
    path.write_bytes(evaluation.to_bytes())
    named = ("--trained-by", tmp_path / "plan.json")
    code, output = plan_command("afford", path, "-s", settings, *named)
    assert (code, "Is it any good: fits" in output) == (0, True)
    much = evaluation.model_copy(update={"epsilon": 50.0})
    path.write_bytes(much.to_bytes())
    code, output = plan_command("afford", path, "-s", settings, *named)
    assert (code, "budget.exceeded" in output) == (1, True)
    other = plan_of(contract, rounds=4)
    (tmp_path / "other.json").write_bytes(other.to_bytes())
    for wrong in ((), ("--trained-by", tmp_path / "other.json"), ("--trained-by", path)):
        assert "plan.unreadable" in plan_command("afford", path, "-s", settings, *wrong)[1]


def plan_of(contract, rounds):
    return TrainingPlan(
        title="Churn",
        task="churn",
        purpose="retention",
        contract=contract.digest,
        features=(Feature(field="plan", encoding="onehot"),),
        units=(UnitTerms(unit="north", public_n=1536),),
        minimum_units=1,
        model=ModelSpec(kind="logistic"),
        initial_model="sha256:" + "0" * 64,
        algorithm=Algorithm(local_learning_rate=0.5),
        rounds=rounds,
        privacy=PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, delta=1e-5),
    )


def plan_command(*arguments):
    entry = EntryPoint("plan", "clients.plan_cli:app [node]", cli.COMMANDS_GROUP)
    root = cli.RootCommand({"plan": entry})
    result = CliRunner().invoke(root, ["plan", *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_an_empty_ledger_has_reserved_nothing(node, settings):
    _, output = fedpact("ledger", "show", "-s", settings)
    assert "lifetime epsilon charged: 0.0000 (the filter's bound) of at most 4" in output


def test_an_altered_ledger_does_not_verify(node, settings):
    charge(node)
    code, output = fedpact("ledger", "verify", "-s", settings)
    assert (code, "3 entries, unbroken" in output) == (0, True)
    connection = sqlite3.connect(StateDir(node.state_dir).ledger)
    connection.execute("DROP TRIGGER entries_fixed")
    connection.execute(
        "UPDATE entries SET body = CAST(replace(CAST(body AS TEXT), '8', '9') AS BLOB) "
        "WHERE sequence = 2"
    )
    connection.commit()
    connection.close()
    for command in ("show", "verify"):
        code, output = fedpact("ledger", command, "-s", settings)
        assert (code, "ledger entry 2 was altered or removed" in output) == (1, True)


def test_a_node_without_its_ledger_does_not_start_a_new_one(node, settings):
    path = StateDir(node.state_dir).ledger
    path.unlink()
    for command in (("ledger", "show"), ("ledger", "verify"), ("sync",)):
        code, output = fedpact(*command, "-s", settings)
        assert (code, "ledger.missing" in output) == (1, True)
    assert not path.exists()


def test_synchronising_without_governance_says_so_and_keeps_what_is_pending(
    node, settings, contract_file
):
    asked = ["opt-out", "add", "-s", settings, "-c", contract_file, "--purpose", "retention"]
    fedpact(*asked, "--ground", "art21_2", "--customer", "C2")
    code, output = fedpact("sync", "-s", settings)
    assert (code, "governance.unreachable" in output) == (1, True)
    code, output = fedpact(*asked, "--ground", "art21_2", "--customer", "C3")
    assert "opt-out 2 of retention" in output


def test_synchronising_hands_opt_outs_over_and_has_the_ledger_witnessed(world, contract):
    settings = world.units["north"].settings
    asked = ["-s", settings, "-c", contract.digest, "--purpose", "retention"]
    with runtime.SEAM.bound(world.surroundings):
        fedpact("opt-out", "add", *asked, "--ground", "art21_2", "--customer", "C2")
        code, output = fedpact("sync", "-s", settings)
    assert code == 0, output
    assert "opt-outs confirmed up to number 1" in output
    assert "ledger witnessed up to entry 1" in output
    assert "bulletin valid until 2026-11-21T00:15:00+00:00" in output


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('unit = "north"', 'unit = "north"\ncolour = "red"', "colour"),
        ("epsilon_cap = 4.0", "epsilon_cap = -1", "epsilon_cap"),
    ],
)
def test_wrong_settings_are_refused_by_the_name_of_the_field(settings, before, after, told):
    settings.write_text(settings.read_text().replace(before, after))
    code, output = fedpact("init", "-s", settings)
    assert code == 1
    assert told in output
    assert "settings.invalid" in output
