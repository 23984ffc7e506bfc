"""Three units, one of which lacks a field: the whole way, from contract to verified evidence."""

import hashlib

import pytest
import structlog

from clients.pseudonyms import check_of
from fedcore import canonical
from fedcore.contracts import Contract
from fedcore.encodings import input_names
from fedcore.plans import Feature, Imputation, TrainingPlan
from fedcore.tasks.task import initial_weights, load_task
from fedcore.verify import verify_bundle
from fedcore.weights import encode_weights
from simulations.clock import ManualClock
from simulations.federation import Federation
from simulations.noise import SeededNoise
from simulations.paperwork import make_dpia

RULE = Imputation(impute=75, indicator=True)


@pytest.fixture
def contract(worlds):
    """The small contract, of which charge may be absent and product may be empty."""
    plain = worlds.make_contract().to_json()
    plain["fields"][1]["availability"] = "may_be_absent"
    plain["fields"][2]["missing_category"] = "basic"
    return Contract.from_json(plain)


@pytest.fixture
def planned(worlds, contract):
    """A plan under which west lacks charge, or whatever `absent` says of it."""

    def make(absent=("charge",), rule=RULE):
        small = worlds.make_plan()
        features = (
            small.features[0],
            Feature(field="charge", encoding="log", absent=rule),
            Feature(field="product", encoding="onehot", missing_indicator=True),
            small.features[3],
        )
        width = len(input_names(features, contract))
        first = initial_weights(load_task(small.task), small.model, width)
        changes = {
            "contract": contract.digest,
            "features": features,
            "initial_model": canonical.digest(encode_weights(first)),
            "units": (*small.units[:2], small.units[2].model_copy(update={"absent": absent})),
        }
        return TrainingPlan.from_bytes(small.model_copy(update=changes).to_bytes())

    return make


@pytest.fixture
def federation_of(worlds, contract, tmp_path):
    """Opens a federation whose west holds these rows and declares what it lacks."""
    opened: list[Federation] = []

    def make(rows, absent=("charge",)):
        root = tmp_path / f"world-{len(opened)}"
        made = Federation(root, contract, ManualClock(worlds.START), SeededNoise(1))
        opened.append(made)
        for name in worlds.UNITS:
            own = rows if name == "west" else worlds.make_rows(name, 40)
            lacks = absent if name == "west" else ()
            unit = made.enrol(worlds.setup_of(name, own, absent_fields=lacks))
            key = hashlib.sha256(name.encode())
            (unit.state_dir / "pseudonym.key").write_text(key.hexdigest())
            (unit.state_dir / "pseudonym.check").write_text(check_of(key.digest()))
            unit.check()
        return made

    yield make
    for made in opened:
        made.close()


def trained(federation, plan):
    """Do a run. Returns: its reports, and the digest of the model that it released."""
    reports = []
    federation.put_in_force(make_dpia(plan, federation.contract, 50.0, federation.clock.now()))
    federation.register(plan)
    federation.run(plan.digest, "run-1", lambda report, _model: reports.append(report))
    return reports, reports[-1].released


def test_three_units_train_where_one_lacks_a_field_and_the_evidence_verifies(
    worlds, contract, planned, federation_of
):
    plan = planned()
    federation = federation_of(worlds.make_rows("west", 40).drop("charge"))
    reports, _ = trained(federation, plan)
    assert [len(report.answered) for report in reports] == [3, 3, 3]
    with federation.units["west"].node() as node:
        features = node.examples(plan).features
        names = input_names(plan.features, contract)
    assert features.shape == (40, len(names))
    assert set(features[:, names.index("charge absent")]) == {1}
    assert len(set(features[:, names.index("log charge")])) == 1
    with federation.units["south"].node() as node:
        assert set(node.examples(plan).features[:, names.index("charge absent")]) == {0}
    evidence = federation.offices["compliance"].fetch_evidence("churn", 1)
    assert verify_bundle(evidence, federation.governance_key.public).ok


@pytest.mark.slow
def test_what_a_unit_holds_of_a_field_that_the_plan_calls_absent_changes_no_bit(
    worlds, planned, federation_of
):
    rows = worlds.make_rows("west", 40)
    models = {
        trained(federation_of(own, absent), planned())[1]
        for own, absent in (
            (rows.drop("charge"), ("charge",)),
            (rows, ("charge",)),
            (rows, ()),
            (rows.with_columns(charge=rows["charge"].reverse()), ()),
        )
    }
    assert len(models) == 1
    present = planned(absent=None)
    assert trained(federation_of(rows, ()), present)[1] not in models


@pytest.mark.parametrize("rule", [RULE, "leave_out"], ids=str)
def test_a_unit_that_lacks_what_the_plan_reads_is_unavailable_and_charged_nothing(
    worlds, planned, federation_of, rule
):
    federation = federation_of(worlds.make_rows("west", 40).drop("charge"))
    with structlog.testing.capture_logs() as logs:
        reports, _ = trained(federation, planned(absent=None, rule=rule))
    assert [report.unavailable for report in reports] == [("west",)] * 3
    told = [line for line in logs if line["event"] == "refused"]
    assert {(line["code"], line["sent"]) for line in told} == {
        ("data.field_absent", "node.unavailable")
    }
    with federation.units["west"].node() as node:
        assert node.ledger.events() == []


def test_a_declaration_that_changes_after_the_check_needs_another_check(
    worlds, planned, federation_of
):
    federation, plan = federation_of(worlds.make_rows("west", 40).drop("charge")), planned()
    unit = federation.units["west"]
    declared = unit.settings.read_text()
    unit.settings.write_text(declared.replace('absent_fields = ["charge"]', "absent_fields = []"))
    reports, _ = trained(federation, plan)
    assert {report.unavailable for report in reports} == {("west",)}
    with unit.node() as node:
        assert node.ledger.events() == []
    unit.settings.write_text(declared)
    federation.run(plan.digest, "run-2", lambda report, _model: reports.append(report))
    assert [len(report.answered) for report in reports[3:]] == [3, 3, 3]
