"""A malicious federation operator with a stock SuperLink meets nodes that `node start` runs.

Every refusal stands beside its twin: the same message without the lie, which is answered.
"""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from safetensors.numpy import load

from fedcore import wire
from fedcore.apps import MANIFEST, bundle_files
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record
from fedcore.weights import encode_weights
from simulations.deployment_processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
UNITS = ("alpha", "beta")
BULLETIN_S = 20
STRANGER = SigningKey.generate()
PRODUCTION = Realm.PRODUCTION


@pytest.fixture(scope="module")
def attacker(world, worlds, attackers, tmp_path_factory):
    """The operator goes bad: another SuperLink stands where the honest one was."""
    with worlds.governed(world, bulletin_valid_s=BULLETIN_S):
        for node in world.nodes.values():
            node.process.kill()
        world.server.superlink.kill()
        made = attackers.Attacker(world, tmp_path_factory.mktemp("attacker"))
        made.start()
        world.start_nodes()
        try:
            yield made
        finally:
            made.superlink.kill()
            for node in world.nodes.values():
                node.kill()


@pytest.fixture(scope="module")
def forger(attacker, attackers, worlds):
    """The operator of a permitted run, two rounds of which alpha has answered."""
    deployment = attacker.deployment
    plan = worlds.plan_for(UNITS, 4, spare_rounds=2)
    deployment.register(plan)
    found = attackers.Forger(attacker.start_run(), deployment, plan)
    found.take_permit("honest")
    found.first = found.request(found.order("alpha"))
    assert isinstance(found.train("alpha", found.first), wire.TrainReply)
    found.second = found.second_round("alpha", found.initial)
    assert isinstance(found.train("alpha", found.second), wire.TrainReply)
    return found


def entries(forger):
    return len(forger.deployment.node("alpha").ledger())


def reissued(forger):
    order = forger.order(
        "alpha",
        round=2,
        previous_report=forger.second.previous_report.digest,
        deadline_at=datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=30),
    )
    return forger.request(order, previous_report=forger.second.previous_report)


def signed_by(forger, key, realm):
    order = forger.order("alpha")
    return replace(forger.request(order), order=sign_record(order, key, realm))


def other_runs_permit(forger):
    operator = forger.deployment.offices["operator"]
    other = operator.request_permit(forger.plan.digest, "another")
    return forger.request(forger.order("alpha"), permit=other)


def other_units_permit(forger, worlds):
    plan = worlds.plan_for(("beta", "gamma"), 4)
    forger.deployment.register(plan)
    operator = forger.deployment.offices["operator"]
    permit = operator.request_permit(plan.digest, "without-alpha")
    return forger.request(
        forger.order("alpha"), permit=permit, plan=forger.deployment.sign_plan(plan)
    )


LIES = {
    "permit that the operator signed": (
        lambda f: f.request(f.order("alpha"), permit=sign_record(f.permit, f.key, PRODUCTION)),
        "signature.wrong_key",
    ),
    "permit of another run": (other_runs_permit, "permit.other_run"),
    "order for another node": (lambda f: f.request(f.order("beta")), "order.other_unit"),
    "order by a stranger": (
        lambda f: signed_by(f, STRANGER, PRODUCTION),
        "signature.wrong_key",
    ),
    "answered order, issued again": (reissued, "order.replayed"),
    "old order": (lambda f: f.request(f.order("alpha", attempt=2)), "order.old"),
    "order whose deadline has passed": (
        lambda f: f.request(f.order("alpha", deadline_at=datetime.now(UTC) - timedelta(seconds=1))),
        "order.expired",
    ),
    "order of a simulation": (
        lambda f: signed_by(f, f.key, Realm.SIMULATION),
        "signature.wrong_type",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_by_its_code_and_the_honest_order_is_answered(forger, name):
    make, code = LIES[name]
    before = entries(forger)
    assert forger.train("alpha", make(forger)) == code
    assert isinstance(forger.train("alpha", forger.first), wire.TrainReply)
    assert entries(forger) == before


def test_a_permit_of_other_units_is_refused(forger, worlds):
    before = entries(forger)
    assert forger.train("alpha", other_units_permit(forger, worlds)) == "permit.other_node"
    assert isinstance(forger.train("alpha", forger.first), wire.TrainReply)
    assert entries(forger) == before


@pytest.mark.parametrize("kind", [wire.TRAIN, wire.ROLL_CALL, wire.WITNESS, "query.shell"])
def test_a_message_without_a_permit_gets_a_bare_code(forger, kind):
    before = entries(forger)
    content = RecordDict({"documents": ConfigRecord({"permit": "none"})})
    reply = forger.run.send("alpha", kind, content)
    assert reply.has_error()
    assert wire.read_refusal(reply).code in {"wire.malformed", "node.unavailable"}
    assert not forger.call_roll("alpha").has_error()
    assert entries(forger) == before


def test_a_repeated_order_gets_the_stored_bytes(forger):
    before = entries(forger)
    assert forger.train("alpha", forger.first) == forger.train("alpha", forger.first)
    assert entries(forger) == before


def changed(forger, change):
    return encode_weights(change({k: np.array(v) for k, v in load(forger.initial).items()}))


def to_the_bound(weights):
    weights["0.weight"][0, 0] = 1e3
    return weights


def nan(weights):
    weights["0.bias"][0] = np.nan
    return weights


def above_the_bound(weights):
    weights["0.weight"][:] = 1e38
    return weights


def other_shape(weights):
    return {"0.bias": weights["0.bias"], "0.weight": np.zeros((1, 3))}


def oversized(weights):
    return {"0.bias": weights["0.bias"], "0.weight": np.zeros((1, 1_000_000))}


MODELS = {
    nan: "weights.not_finite",
    above_the_bound: "weights.out_of_bounds",
    other_shape: "weights.wrong_shape",
    oversized: "weights.too_large",
}


@pytest.mark.parametrize("change", MODELS, ids=lambda change: change.__name__)
def test_a_chosen_model_is_refused_although_a_signed_report_names_it(forger, change):
    before = entries(forger)
    lie = forger.second_round("alpha", changed(forger, change))
    assert forger.train("alpha", lie) == MODELS[change]
    assert isinstance(forger.train("alpha", forger.second), wire.TrainReply)
    assert entries(forger) == before


def test_the_largest_weights_that_the_plan_allows_are_answered_by_beta(forger):
    honest = forger.second_round("beta", changed(forger, to_the_bound))
    assert isinstance(forger.train("beta", honest), wire.TrainReply)


def malicious(marker):
    return (
        f"open({str(marker)!r}, 'a').write('ran')\n"
        "from flwr.clientapp import ClientApp\napp = ClientApp()\n"
    ).encode()


def bundle(extra, **replaced):
    files = {name: data for name, data in bundle_files().items() if name != MANIFEST}
    text = files["pyproject.toml"].decode()
    for old, new in replaced.values():
        assert old in text
        text = text.replace(old, new)
    files = {**files, "pyproject.toml": text.encode(), **extra}
    lines = [
        f"{path},{hashlib.sha256(data).hexdigest()},{8 * len(data)}" for path, data in files.items()
    ]
    return {**files, MANIFEST: "\n".join(lines).encode()}


BUNDLES = {
    "code beside the agreed files": lambda code: bundle({"torch.py": code}),
    "other components": lambda code: bundle(
        {"evil/__init__.py": b"", "evil/app.py": code},
        component=("clients.app:app", "evil.app:app"),
    ),
    "a package that shadows the installed one": lambda code: bundle(
        {"clients/__init__.py": code, "clients/app.py": code}
    ),
    "another configuration": lambda code: bundle({}, config=('run-id = ""', 'run-id = "x"')),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_hostile_bundle_is_refused_before_anything_of_it_runs(attacker, forger, tmp_path, name):
    marker = tmp_path / "marker"
    before = entries(forger)
    run = attacker.start_run(BUNDLES[name](malicious(marker)))
    request = wire.RollCallRequest(permit=forger.permit_envelope, plan=forger.plan_envelope)
    content = wire.roll_call_content(request)
    reply = run.send("alpha", wire.ROLL_CALL, content)
    run.end()
    assert reply.has_error()
    assert not marker.exists()
    assert not forger.run.send("alpha", wire.ROLL_CALL, content).has_error()
    assert entries(forger) == before


def test_the_same_bundle_runs_its_code_on_a_stock_node(attacker, forger, tmp_path):
    """What the refusals above are worth: without them the code runs."""
    marker = tmp_path / "marker"
    victim = attacker.stock_node("victim", tmp_path)
    victim.start()
    try:
        wait_until(lambda: "SuperNode ID" in victim.output(), "the stock node", 120, victim.output)
        run = attacker.start_run(BUNDLES["code beside the agreed files"](malicious(marker)))
        content = wire.roll_call_content(
            wire.RollCallRequest(permit=forger.permit_envelope, plan=forger.plan_envelope)
        )
        run.post("victim", wire.ROLL_CALL, content)
        wait_until(marker.exists, "the hostile code to run", 120, victim.output)
        run.end()
    finally:
        victim.kill()


def test_an_operator_who_keeps_governance_away_gets_one_round_and_then_nothing(
    attacker, attackers, worlds, forger
):
    """One round may run ahead of governance's witness; with a stale bulletin not even a roll."""
    deployment = attacker.deployment
    plan = worlds.plan_for(UNITS, 3)
    deployment.register(plan)
    alone = attackers.Forger(forger.run, deployment, plan)
    alone.take_permit("kept-away")
    assert isinstance(alone.train("beta"), wire.TrainReply)
    deployment.governance.service.kill()
    try:
        ahead = alone.second_round("beta", alone.initial)
        assert isinstance(alone.train("beta", ahead), wire.TrainReply)
        further = alone.second_round("beta", alone.initial, attempt=2)
        assert alone.train("beta", further) in {"node.unavailable", "bulletin.stale"}
        wait_until(lambda: alone.call_roll("beta").has_error(), "the bulletin to age", 30)
        assert answer_code(alone.call_roll("beta")) == "bulletin.stale"
    finally:
        deployment.governance.start()
    wait_until(lambda: not alone.call_roll("beta").has_error(), "a fresh bulletin", 30)


def answer_code(message):
    return wire.read_refusal(message).code
