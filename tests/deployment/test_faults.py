"""What breaks in a deployment, broken on purpose while a run goes on."""

import os
import signal
from contextlib import contextmanager
from functools import partial

import pytest

from simulations.deployment_processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
UNITS = ("alpha", "beta", "gamma")
# A round of so many steps takes a node some seconds: time to break something in the middle of it.
STEPS = 400
DEADLINE_S = 15
ENDED_S = 150


@pytest.fixture(scope="module")
def world(worlds, tmp_path_factory):
    with worlds.running(tmp_path_factory.mktemp("faults") / "world", UNITS) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def versions():
    """How many model versions the world has registered."""
    return iter(range(1, 100))


@pytest.fixture
def sound(world):
    """The world as it should be before a test: everything runs."""
    for service, start in (
        (world.governance.service, world.governance.start),
        (world.server.superlink, world.server.start),
        *((node.process, node.start) for node in world.nodes.values()),
    ):
        if not service.is_running():
            start()
    return world


@pytest.fixture
def plan(sound, worlds):
    made = worlds.plan_for(UNITS, 4, STEPS, round_deadline_s=DEADLINE_S, spare_rounds=4, attempts=3)
    sound.register(made)
    return made


@pytest.fixture
def evidence(world, versions, tmp_path):
    """Returns the evidence of the next registered version, after `fedpact verify` accepted it."""

    def fetch():
        path, key = tmp_path / "churn.zip", tmp_path / "governance.pub"
        path.write_bytes(world.evidence(next(versions)))
        key.write_text(world.governance_key + "\n")
        world.server.shell.must("verify", path, "--key", key)
        return path

    return fetch


def ended(command, timeout_s=ENDED_S):
    code = command.wait(timeout_s)
    assert code == 0, command.output()
    return command.output()


def accepted(worlds, bundle):
    return [report.round for report in worlds.reports(bundle) if report.status == "accepted"]


def wait_training(world, worlds, run_id, round_, units=UNITS):
    """Wait until the units have charged an order of a round, and have not answered it."""
    for unit in units:
        wait_until(
            partial(is_training, worlds, world.node(unit), run_id, round_),
            f"{unit} to train in round {round_}",
            60,
        )


def is_training(worlds, node, run_id, round_):
    return any(order[0] == round_ for order in worlds.orders(node, run_id))


@contextmanager
def halted(process):
    """Stop a program and all its processes for a while, as an overloaded machine does."""
    pids = process.descendants()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def serverapp(world):
    """Return the process in which the ServerApp of a run works."""
    return world.server.superlink


def test_a_superlink_killed_in_mid_round_costs_a_round_and_not_the_run(
    sound, worlds, plan, evidence
):
    command = sound.run(plan, "superlink-killed")
    wait_training(sound, worlds, "superlink-killed", 2)
    sound.server.superlink.kill()
    command.kill()
    sound.server.start()
    ended(sound.server.resume("superlink-killed"))
    bundle = evidence()
    assert accepted(worlds, bundle) == [1, 2, 3, 4]
    for unit in UNITS:
        rounds = [round_ for round_, _, _ in worlds.orders(sound.node(unit), "superlink-killed")]
        assert rounds.count(1) == 1


def test_a_late_joiner_takes_part_from_the_next_round_on(sound, worlds, plan, evidence):
    sound.node("gamma").kill()
    command = sound.run(plan, "late-joiner")
    sound.server.wait_round("late-joiner", 2)
    sound.node("gamma").start()
    ended(command)
    reports = worlds.reports(evidence())
    assert reports[0].unavailable == ("gamma",)
    assert reports[-1].unavailable == ()


def test_a_slow_node_misses_its_deadline_and_nobody_waits_longer(sound, worlds, plan, evidence):
    command = sound.run(plan, "slow-node")
    wait_training(sound, worlds, "slow-node", 2)
    with halted(sound.node("gamma").process):
        sound.server.wait_round("slow-node", 3)
    ended(command)
    reports = {report.round: report for report in worlds.reports(evidence())}
    assert reports[2].unavailable == ("gamma",)
    assert 2 in {round_ for round_, _, _ in worlds.orders(sound.node("gamma"), "slow-node")}


def test_a_permit_revoked_in_mid_run_stops_it_at_the_next_round(sound, worlds, plan):
    command = sound.run(plan, "revoked")
    wait_training(sound, worlds, "revoked", 1)
    sound.offices["compliance"].revoke_permit("revoked", "the DPIA is suspended")
    assert command.wait(ENDED_S) == 1
    assert "permit.revoked" in command.output()
    for unit in UNITS:
        assert all(round_ <= 2 for round_, _, _ in worlds.orders(sound.node(unit), "revoked"))
