"""What operators get wrong: an exit code, and a sentence that says what to do."""

import shutil
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import uvicorn

from fedcore.tls import Credential, issue_certificate
from fedcore.tomlfile import load_toml
from governance.app import create_app
from governance.settings import GovernanceSettings
from simulations.deployment_processes import free_port, is_listening, wait_until
from simulations.deployment_sites import set_toml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# A second node with one key might be the first one, started again: the server decides after this.
PATIENCE_S = 240.0


def refused(done, code):
    assert done.exit_code == 1, done.output
    last = done.output.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert last.endswith(f"({code})"), done.output
    assert len(last.split()) >= 6


@contextmanager
def changed(node, **settings):
    """Give a node other settings for a while."""
    before = node.settings.read_text()
    node.set(**settings)
    try:
        yield node
    finally:
        node.settings.write_text(before)


@pytest.fixture(scope="module")
def second_server(world, tmp_path_factory):
    """Another server's folder, provisioned and never started."""
    folder = tmp_path_factory.mktemp("second-server") / "server"
    ports = {name: str(free_port()) for name in ("--port", "--control-port", "--health-port")}
    world.server.shell.must(
        "server", "init", "-d", folder, "--host", "localhost",
        "--governance-url", world.governance.url, "--governance-key", world.governance_key,
        "--governance-ca", world.governance.ca, *[word for pair in ports.items() for word in pair],
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module", autouse=True)
def twin(world, worlds, tmp_path_factory):
    """A second machine with the state, hence the keys, of a unit whose node is running."""
    worlds.mend(world)
    node, folder = world.node("beta"), tmp_path_factory.mktemp("twin")
    # Its pipes and passing secrets stay; they are of the running processes.
    passing = shutil.ignore_patterns("engine")
    shutil.copytree(node.state_dir, folder / "state", ignore=passing)
    shutil.copy(node.settings, folder / "node.toml")
    set_toml(
        folder / "node.toml",
        state_dir=str(folder / "state"),
        health_port=free_port(),
        runtime_port=free_port(),
    )
    return world.server.shell.process("twin", "node", "start", "-s", folder / "node.toml").start()


def test_two_nodes_with_one_key_the_second_is_not_admitted(sound, twin):
    assert twin.wait(PATIENCE_S) == 1
    assert "(superlink.not_admitted)" in twin.output()
    assert sound.node("beta").health() == 200


def test_a_port_in_use_is_named_by_governance(sound):
    done = sound.governance.shell.run("governance", "serve", "-s", sound.governance.settings)
    refused(done, "port.in_use")


def test_a_port_in_use_is_named_by_the_server(sound, second_server):
    before = (second_server / "server.toml").read_text()
    set_toml(second_server / "server.toml", port=sound.governance.port)
    done = sound.server.shell.run("server", "start", "-s", second_server / "server.toml")
    (second_server / "server.toml").write_text(before)
    refused(done, "port.in_use")


def test_a_port_in_use_is_named_by_the_node(sound, spare):
    with changed(spare, health_port=sound.node("alpha").health_port):
        refused(spare.run("start"), "port.in_use")


def test_an_authority_that_did_not_sign_the_superlinks_certificate(sound, spare):
    with changed(spare, superlink_ca=str(sound.governance.ca)):
        refused(spare.run("start"), "tls.untrusted")


def test_an_authority_that_did_not_sign_governances_certificate(sound, spare):
    with changed(spare, governance_ca=str(sound.server.ca)):
        refused(spare.run("sync"), "tls.untrusted")
    assert spare.run("sync").exit_code == 0


def test_an_expired_certificate_is_not_served(sound, second_server):
    authority = Credential(
        (second_server / "ca.pem").read_bytes(), (second_server / "ca.key").read_bytes()
    )
    long_ago = datetime.now(UTC) - timedelta(days=1000)
    old = issue_certificate(authority, ["localhost"], long_ago)
    kept = {name: (second_server / name).read_bytes() for name in ("tls.crt", "tls.key")}
    (second_server / "tls.crt").write_bytes(old.certificate)
    (second_server / "tls.key").write_bytes(old.key)
    done = sound.server.shell.run("server", "start", "-s", second_server / "server.toml")
    for name, data in kept.items():
        (second_server / name).write_bytes(data)
    refused(done, "certificate.expired")


@pytest.mark.parametrize("name", ["node.pem", "transport.key", "pseudonym.key"])
def test_a_key_that_others_can_read_is_not_used(spare, name):
    (spare.state_dir / name).chmod(0o644)
    done = spare.run("start")
    (spare.state_dir / name).chmod(0o600)
    refused(done, "key.permissions")


def test_a_clock_that_is_an_hour_off_is_found_and_stops_the_node(sound, spare):
    with governance_at(sound, timedelta(hours=1)):
        found = spare.run("doctor")
        assert found.exit_code == 1
        assert "clock.skewed" in found.output
        assert spare.run("sync").exit_code == 1
        refused(spare.run("start"), "clock.skewed")
    assert spare.run("doctor").exit_code == 0


@contextmanager
def governance_at(world, offset):
    """Have governance served in this process for a while, with another clock, on its own port."""
    world.governance.service.stop()
    settings = load_toml(world.governance.settings, GovernanceSettings)
    application = create_app(settings, lambda: datetime.now(UTC) + offset)
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        log_level="error",
        ws="none",
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: is_listening(settings.port), "the shifted governance", 60)
        yield
    finally:
        server.should_exit = True
        thread.join()
        world.governance.start()


def test_a_node_that_is_not_enrolled_is_not_started(world, worlds):
    node = world.settle(worlds.setup_of("zeta"))
    refused(node.run("start"), "node.not_enrolled")


def test_software_that_governance_does_not_accept(sound, worlds, spare):
    with worlds.governed(sound, accepted_versions=["9.9.9"]):
        plan = worlds.plan_for(worlds.PAIR, 1)
        sound.register(plan)
        command = sound.run(plan, "other-version")
        assert command.wait(240) == 1
        assert "permit.version_not_accepted" in command.output()
        found = spare.run("doctor")
        assert found.exit_code == 1
        assert "version.not_accepted" in found.output


@pytest.mark.parametrize("act", ["resume", "stop"])
def test_an_unknown_run_is_neither_resumed_nor_stopped(sound, act):
    done = sound.server.shell.run("server", act, "never-begun", "-s", sound.server.settings)
    refused(done, "run.unknown")
