"""The signing key is replaced: nothing that was signed is lost, and no crash leaves half of it."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from fedcore.bulletins import BulletinV1
from fedcore.errors import ConflictError, UnreachableError
from fedcore.handovers import follow_handovers, open_handover
from fedcore.models import ModelVersion
from fedcore.permits import Permit, PermitRenewal
from fedcore.record import Realm
from fedcore.signing import SigningKey
from fedcore.verify import verify_bundle
from governance.app import create_app
from governance.cli import app
from governance.founding import toml_of
from governance.handovers import rotate_key
from governance.serving import serve_until_interrupted
from simulations.transport import AsgiTransport

SIMULATION = Realm.SIMULATION


def restart(world):
    """The service is started again, with whatever key lies there now."""
    world.client.close()
    app = create_app(world.settings, world.clock)
    world.client = httpx.Client(transport=AsgiTransport(app), base_url="http://governance")


@pytest.fixture
def rotated(world):
    """Rotates the key, restarts the service and returns (old, new)."""

    def act():
        done = rotate_key(world.settings, "regular", world.clock)
        restart(world)
        return done.old_key, done.new_key

    yield act
    world.client.close()


def keys(world, pinned):
    return follow_handovers(pinned, world.gateway().fetch_handovers(), SIMULATION)


def test_a_hand_over_is_public_logged_and_signed_by_both_keys(world, rotated):
    assert world.gateway().fetch_handovers() == ()
    size = world.bulletin("north").log.size
    old, new = rotated()
    (envelope,) = world.gateway().fetch_handovers()
    handover = open_handover(envelope, SIMULATION)
    assert (handover.old_key, handover.new_key, handover.reason) == (old, new, "regular")
    assert handover.issued_at == world.clock.now
    assert world.gateway().fetch_about().public_key == new
    entries = world.get("/v1/log/entries", "auditor")["entries"]
    assert len(entries) == size + 1
    assert (entries[-1]["entry"]["kind"], entries[-1]["entry"]["document"]) == (
        "key-handover",
        envelope.digest,
    )
    assert SigningKey.load(world.settings.signing_key).public == new
    assert not world.settings.signing_key.with_name("governance.pem.next").exists()


@pytest.mark.databases
def test_a_run_goes_on_over_a_hand_over_and_its_bundle_verifies_with_either_key(
    world, rotated, model_bytes
):
    permit = world.permit()
    first = world.round(permit, 1, None)
    old, new = rotated()
    assert world.gateway("operator").request_permit(permit.plan, "run-1").signer == old
    renewal = world.gateway("operator").renew_permit("run-1")
    assert renewal.signer == new
    found = keys(world, old)
    assert found.open_current(renewal, PermitRenewal, SIMULATION).permit == permit.digest
    world.governance_key = new
    world.round(permit, 2, first)
    model = world.gateway("operator").register_model("run-1", "churn", model_bytes)
    assert found.open_current(model, ModelVersion, SIMULATION).permit == permit.digest
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    for key in (old, new):
        report = verify_bundle(bundle, key, SIMULATION)
        assert [check for check in report.checks if not check.ok] == []
    stranger = verify_bundle(bundle, SigningKey.generate().public, SIMULATION)
    assert [check.name for check in stranger.checks if check.ok] == ["bundle.members"]


def test_a_bundle_of_before_verifies_with_the_old_key_and_says_so_of_the_new_one(
    world, rotated, model_bytes
):
    world.run()
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    old, new = rotated()
    assert verify_bundle(bundle, old, SIMULATION).ok
    report = verify_bundle(bundle, new, SIMULATION)
    (text,) = [check.text for check in report.checks if check.name == "model.signed"]
    assert "exported anew" in text
    again = world.gateway("auditor").fetch_evidence("churn", 1)
    assert all(verify_bundle(again, key, SIMULATION).ok for key in (old, new))


def test_it_can_be_done_again_and_again(world, rotated, model_bytes):
    pinned = world.governance_key
    permit = world.permit()
    last = [rotated() for _ in range(3)][-1][1]
    found = keys(world, pinned)
    assert (found.current, len(found.held)) == (last, 4)
    world.governance_key = last
    world.round(permit, 2, world.round(permit, 1, None))
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    assert all(verify_bundle(bundle, held.key, SIMULATION).ok for held in found.held)


def test_a_service_that_was_not_restarted_signs_nothing_any_more(world):
    """What it signed would be logged after the hand-over, and worth nothing for ever."""
    permit = world.permit()
    rotate_key(world.settings, "regular", world.clock)
    for act in (world.permit, lambda: world.bulletin("north"), world.gateway().fetch_handovers):
        with pytest.raises(UnreachableError, match=r"governance\.key_retired"):
            act()
    restart(world)
    envelope = world.gateway("operator").request_permit(permit.plan, "run-1")
    assert keys(world, world.governance_key).open(envelope, Permit, SIMULATION) == permit
    world.client.close()


def test_new_bulletins_are_signed_by_the_new_key_alone(world, rotated):
    _old, world.governance_key = rotated()
    assert isinstance(world.bulletin("north"), BulletinV1)


def test_an_unfinished_hand_over_is_finished_by_the_same_command(world, rotated, monkeypatch):
    """Killed after the log, before the swap: the key beside is the only one that may follow."""
    old = world.governance_key
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            rotate_key(world.settings, "regular", world.clock)
    assert SigningKey.load(world.settings.signing_key).public == old
    beside = world.settings.signing_key.with_name("governance.pem.next")
    begun = SigningKey.load(beside).public
    with pytest.raises(UnreachableError, match=r"governance\.key_retired"):
        world.gateway().fetch_handovers()
    kept = beside.read_bytes()
    beside.unlink()
    SigningKey.generate().save(beside)
    with pytest.raises(ConflictError, match=r"key\.other"):
        rotate_key(world.settings, "regular", world.clock)
    beside.unlink()
    beside.write_bytes(kept)
    beside.chmod(0o600)
    done = rotate_key(world.settings, "regular", world.clock)
    assert (done.old_key, done.new_key, done.finished) == (old, begun, True)
    restart(world)
    assert len(world.gateway().fetch_handovers()) == 1
    world.client.close()


def test_a_service_whose_key_was_handed_over_does_not_even_start(world, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            rotate_key(world.settings, "regular", world.clock)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = world.settings.model_copy(update={"port": port})
    with pytest.raises(UnreachableError, match=r"governance\.key_retired"):
        serve_until_interrupted(settings, world.clock)


def killed(*_arguments):
    raise KeyboardInterrupt


POINTS = {
    "before anything is logged": "registry.documents.append",
    "before the transaction ends": "sqlalchemy.orm.SessionTransaction.commit",
    "before the swap": "pathlib.Path.replace",
    "after the swap": "governance.handovers.sync_directory",
}
KILL = """
    import os, signal, sys
    from datetime import datetime
    from pathlib import Path
    import pathlib, sqlalchemy.orm, registry.documents, governance.handovers
    from fedcore.tomlfile import load_toml
    from governance.settings import GovernanceSettings

    owner, name = sys.argv[1].rsplit(".", 1)
    owner = {"pathlib.Path": Path,
             "sqlalchemy.orm.SessionTransaction": sqlalchemy.orm.SessionTransaction,
             }.get(owner) or sys.modules[owner]
    setattr(owner, name,
            lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
    settings = load_toml(Path(sys.argv[2]), GovernanceSettings)
    moment = datetime.fromisoformat(sys.argv[3])
    governance.handovers.rotate_key(settings, "regular", lambda: moment)
"""


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.databases
def test_killed_at_any_point_there_is_one_whole_key_and_the_command_goes_on(world, tmp_path, point):
    old = world.governance_key
    settings = tmp_path / "governance.toml"
    settings.write_text(toml_of(world.settings))
    moment = world.clock.now.isoformat()
    command = [sys.executable, "-c", textwrap.dedent(KILL), POINTS[point], str(settings), moment]
    done = subprocess.run(command, check=False, env={**os.environ}, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    left = SigningKey.load(world.settings.signing_key).public
    again = rotate_key(world.settings, "regular", world.clock)
    assert (again.old_key, again.finished) == (left, point == "before the swap")
    restart(world)
    found = keys(world, old)
    assert found.current == again.new_key == SigningKey.load(world.settings.signing_key).public
    assert len(found.handovers) == (2 if point == "after the swap" else 1)
    world.client.close()


def test_the_command_says_both_keys(world, tmp_path):
    settings = tmp_path / "governance.toml"
    settings.write_text(toml_of(world.settings))
    result = CliRunner().invoke(app, ["rotate-key", "-s", str(settings), "--reason", "yearly"])
    assert result.exit_code == 0, result.output
    new = SigningKey.load(world.settings.signing_key).public
    assert f"old public key: {world.governance_key}" in result.output
    assert f"new public key: {new}" in result.output
