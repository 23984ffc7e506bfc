"""From bare machines to a verified model, by the commands that operators type."""

import ipaddress

import pytest

from fedcore.privacy.accounting import renyi_epsilon

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROUNDS = 2


@pytest.fixture(scope="module")
def plan(world, worlds):
    made = worlds.plan_for(worlds.PAIR, ROUNDS)
    world.register(made)
    return made


@pytest.fixture(scope="module")
def run(world, worlds, plan):
    worlds.mend(world)
    command = world.run(plan, "first")
    code = command.wait(240)
    return code, command.output()


@pytest.fixture(scope="module")
def bundle(world, run, tmp_path_factory):
    path = tmp_path_factory.mktemp("evidence") / "churn.zip"
    path.write_bytes(world.evidence(world.server.outcome("first").version))
    return path


def test_a_run_ends_with_the_registered_model_version(run):
    code, output = run
    assert code == 0, output
    assert "churn" in output.splitlines()[-1]
    assert "1" in output.splitlines()[-1]


def test_its_evidence_is_verified_by_an_outsider_with_the_key_alone(world, bundle, tmp_path):
    key = tmp_path / "governance.pub"
    key.write_text(world.governance_key + "\n")
    done = world.server.shell.run("verify", bundle, "--key", key)
    assert done.exit_code == 0, done.output
    stranger = tmp_path / "stranger.pub"
    stranger.write_text("0" * 63 + "1\n")
    assert world.server.shell.run("verify", bundle, "--key", stranger).exit_code == 1


def test_every_unit_answered_every_round_with_real_noise(worlds, bundle):
    found = worlds.receipts(bundle)
    assert {(receipt.unit, receipt.round) for receipt in found} == {
        (unit, round_) for unit in worlds.PAIR for round_ in range(1, ROUNDS + 1)
    }
    assert {receipt.noise_source for receipt in found} == {"float64-os"}


def test_what_was_spent_is_what_the_ledgers_say_and_no_more_than_planned(
    world, worlds, plan, bundle
):
    for unit in worlds.PAIR:
        spent = [receipt.event for receipt in worlds.receipts(bundle) if receipt.unit == unit]
        node = world.node(unit)
        (reserved,) = worlds.reservations(node, "first")
        claim = renyi_epsilon(spent, plan.privacy.delta)
        assert claim == renyi_epsilon([reserved], plan.privacy.delta) <= 3.0
        assert worlds.orders(node, "first") == [(1, 1, True), (2, 1, True)]
        (closed,) = [e.body for e in node.ledger() if e.body.get("run_id") == "first"][-1:]
        assert (closed["kind"], closed["why"], closed["exchanges"]) == ("close", "ended", 2)


def test_the_ledger_shows_what_all_its_runs_are_charged(world, worlds, run):
    for unit in worlds.PAIR:
        node = world.node(unit)
        total = renyi_epsilon(worlds.reservations(node), world.terms.delta)
        assert f"epsilon charged: {total:.4f}" in node.must("ledger", "show").output


def test_nodes_listen_on_loopback_only(world, run, worlds):
    for unit in worlds.PAIR:
        node = world.node(unit)
        found = list(worlds.listening(node.process.descendants()))
        assert node.health_port in {port for _, port in found}
        assert all(ipaddress.ip_address(address).is_loopback for address, _ in found), found
