"""What breaks in a deployment, broken on purpose while a run goes on."""

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from simulations.deployment_processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
UNITS = ("alpha", "beta", "gamma")
# A round of so many steps takes a node some seconds: time to break something in the middle of it.
STEPS = 300
ROUNDS = 3
PATIENT_S = 240
BRISK_S = 20
ENDED_S = 300.0


@pytest.fixture(scope="module")
def plan(world, worlds):
    """Three rounds with time to answer, also after a resume."""
    return registered(world, worlds, PATIENT_S)


@pytest.fixture(scope="module")
def brisk(world, worlds):
    """Three rounds that wait for nobody for long."""
    return registered(world, worlds, BRISK_S)


def registered(world, worlds, deadline_s):
    made = worlds.plan_for(
        UNITS, ROUNDS, STEPS, round_deadline_s=deadline_s, spare_rounds=3, attempts=3
    )
    world.register(made)
    return made


@pytest.fixture
def evidence(world, tmp_path):
    """Returns the evidence of a finished run, after `fedpact verify` accepted it."""

    def fetch(run_id):
        path, key = tmp_path / "churn.zip", tmp_path / "governance.pub"
        path.write_bytes(world.evidence(world.server.outcome(run_id).version))
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


def wait_training(world, worlds, command, round_, units=UNITS):
    """Wait until units have charged an order of a round. The command's name tells the run."""
    run_id = command.name.removeprefix("run-")

    def training():
        if not command.is_running():
            pytest.fail(f"the run ended early:\n{command.output()}")
        return all(is_training(worlds, world.node(unit), run_id, round_) for unit in units)

    wait_until(training, f"{units} to train in round {round_}", ENDED_S, command.output)


def is_training(worlds, node, run_id, round_):
    return any(order[0] == round_ for order in worlds.orders(node, run_id))


def has_answered(worlds, node, run_id, round_):
    return any(order[0] == round_ and order[2] for order in worlds.orders(node, run_id))


@contextmanager
def halted(pids):
    """Stop processes for a while, as an overloaded machine does."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_a_superlink_killed_in_mid_round_costs_a_round_and_not_the_run(
    sound, worlds, plan, evidence
):
    command = sound.run(plan, "superlink-killed")
    wait_training(sound, worlds, command, 2)
    sound.server.superlink.kill()
    command.kill()
    sound.server.start()
    ended(sound.server.resume("superlink-killed"))
    bundle = evidence("superlink-killed")
    assert accepted(worlds, bundle) == [1, 2, 3]
    for unit in UNITS:
        rounds = [round_ for round_, _, _ in worlds.orders(sound.node(unit), "superlink-killed")]
        assert rounds.count(1) == 1


def test_a_killed_serverapp_is_resumed_at_its_round_and_nodes_answer_from_what_they_stored(
    sound, worlds, plan, evidence
):
    """Killed while all three train: alpha and beta store their replies, gamma's task dies, too."""
    command = sound.run(plan, "app-killed")
    wait_training(sound, worlds, command, 2)
    for pid in sound.node("gamma").process.parts("clients.engine.executor"):
        os.kill(pid, signal.SIGKILL)
    for pid in sound.server.superlink.parts("fedserver.engine.serverapp"):
        os.kill(pid, signal.SIGKILL)
    assert command.wait(ENDED_S) == 1
    assert "run.interrupted" in command.output()
    for unit in ("alpha", "beta"):
        wait_until(partial(has_answered, worlds, sound.node(unit), "app-killed", 2), unit, ENDED_S)
    sound.node("gamma").await_well()
    ended(sound.server.resume("app-killed"))
    reports = worlds.reports(evidence("app-killed"))
    assert [report.round for report in reports] == [1, 2, 3]
    assert {report.status for report in reports} == {"accepted"}
    assert reports[1].unavailable == ("gamma",)
    for unit in UNITS:
        # The round counts once, and for gamma too, who never answered it.
        assert worlds.orders(sound.node(unit), "app-killed") == [
            (1, 1, True),
            (2, 1, unit != "gamma"),
            (3, 1, True),
        ]


def test_a_node_killed_while_training_does_not_stop_the_round(sound, worlds, brisk, evidence):
    command = sound.run(brisk, "node-killed")
    wait_training(sound, worlds, command, 2)
    sound.node("gamma").kill()
    ended(command)
    reports = {report.round: report for report in worlds.reports(evidence("node-killed"))}
    assert reports[1].unavailable == ()
    assert all(reports[round_].unavailable == ("gamma",) for round_ in (2, 3))
    assert worlds.orders(sound.node("gamma"), "node-killed") == [(1, 1, True), (2, 1, False)]


def test_a_late_joiner_takes_part_from_the_next_round_on(sound, worlds, plan, evidence):
    sound.node("gamma").process.stop()
    command = sound.run(plan, "late-joiner")
    wait_training(sound, worlds, command, 1, worlds.PAIR)
    with halted(sound.server.superlink.parts("fedserver.engine.serverapp")):
        sound.node("gamma").start()
    ended(command)
    reports = worlds.reports(evidence("late-joiner"))
    assert reports[0].unavailable == ("gamma",)
    assert reports[-1].unavailable == ()


def test_a_slow_node_misses_its_deadline_and_nobody_waits_longer(sound, worlds, brisk, evidence):
    command = sound.run(brisk, "slow-node")
    wait_training(sound, worlds, command, 2)
    with halted(sound.node("gamma").process.descendants()):
        sound.server.wait_round("slow-node", 2)
    ended(command)
    reports = {report.round: report for report in worlds.reports(evidence("slow-node"))}
    assert reports[2].unavailable == ("gamma",)
    assert 2 in {round_ for round_, _, _ in worlds.orders(sound.node("gamma"), "slow-node")}


def test_a_permit_revoked_in_mid_run_stops_it_at_the_next_round(sound, worlds, plan):
    command = sound.run(plan, "revoked")
    wait_training(sound, worlds, command, 1)
    sound.offices["compliance"].revoke_permit("revoked", "the DPIA is suspended")
    assert command.wait(ENDED_S) == 1
    assert "permit.revoked" in command.output()
    for unit in UNITS:
        assert all(round_ <= 2 for round_, _, _ in worlds.orders(sound.node(unit), "revoked"))


def test_a_short_permit_is_renewed_while_the_run_lasts(sound, worlds, plan, evidence):
    with worlds.governed(sound, permit_valid_s=40):
        ended(sound.run(plan, "renewed"))
    assert accepted(worlds, evidence("renewed")) == [1, 2, 3]


def test_governance_may_be_away_for_as_long_as_bulletins_are_fresh(sound, worlds, plan, evidence):
    command = sound.run(plan, "governance-away")
    wait_training(sound, worlds, command, 2)
    sound.governance.service.kill()
    # The round that was begun is finished by the nodes; its report waits for governance.
    for unit in UNITS:
        wait_until(
            partial(has_answered, worlds, sound.node(unit), "governance-away", 2), unit, ENDED_S
        )
    sound.governance.start()
    ended(command)
    assert accepted(worlds, evidence("governance-away")) == [1, 2, 3]


def test_a_full_disk_silences_its_node_and_breaks_nothing(sound, worlds, plan, brisk, evidence):
    node = sound.node("gamma")
    node.process.stop()
    with small_disk(node.state_dir) as fill:
        node.start()
        command = sound.run(brisk, "disk-full")
        sound.server.wait_round("disk-full", 1)
        fill()
        ended(command)
        reports = {report.round: report for report in worlds.reports(evidence("disk-full"))}
        assert reports[1].unavailable == ()
        assert reports[3].unavailable == ("gamma",)
        node.process.stop()
    # What was written before the disk was full is whole; given space, the node goes on.
    node.must("ledger", "verify")
    node.start()
    ended(sound.run(plan, "disk-mended"))
    reports = worlds.reports(evidence("disk-mended"))
    assert {report.unavailable for report in reports} == {()}


@contextmanager
def small_disk(folder):
    """Have a folder on a disk of its own for a while; yields what fills that disk."""
    kept, passing = folder.with_name("kept"), shutil.ignore_patterns("engine")
    shutil.copytree(folder, kept, ignore=passing)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m,mode=700", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        shutil.rmtree(kept)
        pytest.skip(f"a small disk needs the right to mount one: {mounted.stderr.decode()}")
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield partial(fill_up, folder)
    finally:
        (folder / "filler").unlink(missing_ok=True)
        shutil.rmtree(kept)
        shutil.copytree(folder, kept, ignore=passing)
        subprocess.run(["umount", str(folder)], check=True)
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        shutil.rmtree(kept)


def fill_up(folder):
    with (folder / "filler").open("wb", buffering=0) as filler:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    filler.write(bytes(size))
