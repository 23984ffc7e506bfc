"""From bare machines to a verified model, by the commands that operators type."""

import ipaddress

import pytest

from fedcore.bundle import read_bundle
from fedcore.early_stopping import is_better
from fedcore.learning_rules import EarlyStopping
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.rounds import RoundReport

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROUNDS = 3


@pytest.fixture(scope="module")
def plan(world, worlds):
    """Trains, checks, and trains again if the check has found a better model."""
    made = worlds.plan_for(worlds.PAIR, ROUNDS)
    once = made.algorithm.model_copy(update={"average_last": 1})
    stopping = {"holdout": 0.3, "early_stopping": EarlyStopping(every=1, patience=1)}
    made = made.model_copy(update={"algorithm": once, **stopping})
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


@pytest.fixture(scope="module")
def done(plan, bundle):
    """How many rounds were done, as the check of the second one says."""
    reports = [
        RoundReport.from_bytes(report.payload_bytes)
        for report in read_bundle(bundle.read_bytes()).reports
    ]
    gains = [answer.gain or 0 for answer in reports[1].answered]
    assert len(reports) == (3 if is_better(plan, gains) else 2)
    return len(reports)


def test_every_unit_answered_every_round_with_real_noise(worlds, bundle, done):
    found = worlds.receipts(bundle)
    assert {(receipt.unit, receipt.round) for receipt in found} == {
        (unit, round_) for unit in worlds.PAIR for round_ in range(1, done + 1)
    }
    assert {receipt.noise_source for receipt in found} == {"float64-os"}


def test_what_was_spent_is_what_the_ledgers_say_and_no_more_than_planned(
    world, worlds, plan, bundle, done
):
    for unit in worlds.PAIR:
        spent = [receipt.event for receipt in worlds.receipts(bundle) if receipt.unit == unit]
        node = world.node(unit)
        (reserved,) = worlds.reservations(node, "first")
        counted = [plan.round_event()] * ROUNDS  # one more than were done, if not all were
        claims = [renyi_epsilon(each, plan.privacy.delta) for each in (spent, counted)]
        assert claims[0] <= claims[1] == renyi_epsilon([reserved], plan.privacy.delta) <= 3.0
        assert worlds.orders(node, "first") == [(n, 1, True) for n in range(1, done + 1)]
        (closed,) = [e.body for e in node.ledger() if e.body.get("run_id") == "first"][-1:]
        assert (closed["kind"], closed["why"], closed["exchanges"]) == ("close", "ended", done)


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
