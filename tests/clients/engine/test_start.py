"""A node's programs are watched: one node per directory, none left behind, all started again."""

import os
import re
import signal
import subprocess
import sys
from datetime import timedelta

import httpx
import pytest

from clients.crm import load_token, token_path
from clients.engine import processes
from clients.engine.exits import ENDINGS, LOST, decide_ending, ending_of_exit, exit_code_of
from clients.engine.processes import claim, verify_port_free
from clients.engine.start import LONGEST_DELAY_S, child_environment, decide_delay, start_node
from clients.engine.supernode import supernode_command
from fedcore.errors import ConflictError, FedError, InvalidRecordError
from simulations.deployment_processes import free_port, wait_until

FLOWER_SAYS = {
    "Exit Code: 302\nUnable to parse": "key.unreadable",
    "Exit Code: 305\nFailed.\n[code: 2004] Failed to activate": "superlink.not_admitted",
    "Exit Code: 305\n[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate": "tls.untrusted",
    "Exit Code: 305\ncertificate verify failed: Hostname mismatch, x": "tls.other_host",
    "Exit Code: 305\ncertificate verify failed: IP address mismatch, x": "tls.other_host",
    "Exit Code: 305\ncertificate verify failed: certificate is not yet valid": "tls.not_yet_valid",
    "Exit Code: 305\ncertificate verify failed: certificate has expired": "tls.expired",
    "Exit Code: 305\nanything else": "superlink.lost",
    "Exit Code: 606\nUpgrade": "engine.other_version",
    "Exit Code: 600\naddress": "settings.invalid",
    "Exit Code: 999\nof a later release": "superlink.lost",
}


@pytest.mark.parametrize(("words", "code"), FLOWER_SAYS.items())
def test_flowers_last_words_become_a_reason_code_with_a_way_out(words, code):
    ending = decide_ending(words)
    assert ending is not None
    assert ending.code == code
    assert ending_of_exit(ending.exit_code) is ending
    assert ending.error().code == code


def test_other_words_of_flower_are_no_ending():
    assert decide_ending("Received successfully") is None


def test_exit_codes_are_distinct_and_none_that_python_uses():
    codes = [ending.exit_code for ending in ENDINGS]
    assert len(set(codes)) == len(codes)
    assert all(64 < code < 128 for code in codes)
    assert ending_of_exit(-9) is ending_of_exit(0) is ending_of_exit(1) is LOST


def test_a_usage_error_is_a_matter_of_settings_and_a_signal_is_none():
    assert ending_of_exit(exit_code_of(2, LOST)).code == "settings.invalid"
    assert exit_code_of(0, LOST) == exit_code_of(None, LOST) == 0
    assert exit_code_of(1, LOST) == LOST.exit_code


def test_a_program_that_fails_again_and_again_is_started_ever_more_rarely():
    delays = [decide_delay(failures) for failures in range(200)]
    assert delays[:4] == [0.0, 1.0, 2.0, 4.0]
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY_S


def test_a_port_in_use_is_named_with_its_setting():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError, match=f"health_port {port}") as error:
            verify_port_free(port, "health_port")
        assert error.value.code == "port.in_use"
    verify_port_free(port, "health_port")


def test_one_node_runs_per_state_directory(tmp_path, monkeypatch):
    # A holder that is alive is not waited for: this would take longer than a test may.
    monkeypatch.setattr(processes, "_ORPHANS_S", 3600.0)
    lock = claim(tmp_path / "running.lock")
    with pytest.raises(ConflictError, match=f"process {os.getpid()}") as error:
        claim(tmp_path / "running.lock")
    assert error.value.code == "node.running"
    os.close(lock)
    os.close(claim(tmp_path / "running.lock"))


def test_a_killed_nodes_last_process_is_waited_for(tmp_path):
    # The supervisor is dead, a child of it still holds the lock for a moment.
    holder = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from clients.engine.processes import claim\n"
        f"claim(Path({str(tmp_path / 'running.lock')!r}))\n"
        "if os.fork(): os._exit(0)\n"
        "time.sleep(1.5)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", holder], check=True, timeout=60)
    os.close(claim(tmp_path / "running.lock"))


def test_a_node_without_a_federation_server_is_not_started(staging, tmp_path):
    node = staging.make_node(tmp_path, None)
    text = node.settings.read_text().replace('superlink = "127.0.0.1:1"\n', "")
    node.settings.write_text(text)
    with pytest.raises(InvalidRecordError, match="superlink"):
        start_node(node.settings)


def test_a_check_that_refuses_holds_the_start_up_and_leaves_no_lock(staging, tmp_path):
    node = staging.make_node(tmp_path, None)

    def refuse(settings):
        raise FedError("clock.behind", "set the clock")

    for _ in range(2):
        with pytest.raises(FedError, match="set the clock"):
            start_node(node.settings, (refuse,))


def test_a_state_directory_that_cannot_be_written_is_no_traceback(staging, tmp_path):
    node = staging.make_node(tmp_path, None)
    (node.loaded.state_dir / "engine").write_text("a file is in the way")
    with pytest.raises(ConflictError) as error:
        start_node(node.settings)
    assert error.value.code == "state.unwritable"


def test_a_token_that_others_may_read_holds_the_start_up(staging, tmp_path):
    node = staging.make_node(tmp_path, None)
    token_path(node.loaded.state_dir).chmod(0o644)
    with pytest.raises(InvalidRecordError) as error:
        start_node(node.settings)
    assert error.value.code == "key.permissions"


def test_flower_listens_on_loopback_only_and_runs_nothing_itself(staging, tmp_path):
    node = staging.make_node(tmp_path, None)
    command = supernode_command(node.loaded, node.settings)
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--host"] == "127.0.0.1"
    assert options["--isolation"] == "process"
    assert options["--superexec-auth-secret-file"].startswith(str(node.loaded.state_dir))
    assert not {"--insecure", "--allow-runtime-dependency-installation"} & set(command)


@pytest.mark.parametrize("own", [{}, {"no_proxy": "intranet"}, {"NO_PROXY": "intranet"}])
def test_a_proxy_of_the_site_does_not_see_what_goes_over_loopback(own):
    environment = child_environment({**own, "HTTPS_PROXY": "http://proxy.example:3128"})
    assert environment["no_proxy"] == environment["NO_PROXY"]
    assert environment["NO_PROXY"].split(",") == [*own.values(), "127.0.0.1"]
    assert environment["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["OMP_NUM_THREADS"] == "1"


@pytest.mark.slow
class TestRunning:
    def test_it_says_that_it_is_well_and_of_which_unit_it_is(self, stage, started):
        node = started(stage)
        url = f"http://127.0.0.1:{node.loaded.health_port}/healthz"
        answer = httpx.get(url)
        assert answer.json()["status"] == "ok"
        assert answer.json()["unit"] == "unit-a"
        assert httpx.get(url, headers={"host": "evil.example"}).status_code == 400

    def test_it_takes_opt_outs_in_from_whoever_has_the_token(self, stage, started):
        node = started(stage)
        url = f"http://127.0.0.1:{node.loaded.health_port}/opt-outs"
        headers = {"content-type": "application/json"}
        assert httpx.post(url, content=b"{}", headers=headers).status_code == 401
        headers["authorization"] = f"Bearer {load_token(node.loaded.state_dir)}"
        assert httpx.post(url, content=b"{}", headers=headers).status_code == 422

    def test_sigterm_ends_all_of_it(self, stage, started):
        node = started(stage)
        assert len(node.process.descendants()) == 3
        os.kill(node.process.pid, signal.SIGTERM)
        assert node.process.wait(20) == 0
        # What has ended may be listed until the system has taken note of it.
        wait_until(lambda: node.process.descendants() == [], "the end of all", 15)

    def test_nothing_outlives_a_supervisor_that_was_killed(self, stage, started):
        node = started(stage)
        os.kill(node.process.pid, signal.SIGKILL)
        wait_until(lambda: node.process.descendants() == [], "no orphans", 15)

    def test_a_second_one_is_refused_at_once(self, stage, started):
        node = started(stage)
        done = subprocess.run(node.process.command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "(node.running)" in done.stderr

    def test_an_executor_that_was_killed_is_started_again(self, stage, started):
        node = started(stage)
        executor = int((node.loaded.state_dir / "engine/executor.ready").read_text())
        os.kill(executor, signal.SIGKILL)
        wait_until(lambda: not node.is_well(), "the node to be unwell", 5)
        node.wait_well()
        assert int((node.loaded.state_dir / "engine/executor.ready").read_text()) != executor
        stage.submit(stage.app("agreed", {}), "afterwards")
        assert stage.answers("afterwards")[0]["reason"] == "node.unavailable"

    def test_a_superlink_that_comes_back_gets_its_node_back(self, stage, started):
        node = started(stage)
        stage.superlink.kill()
        wait_until(lambda: not node.is_well(), "the node to be unwell", 30)
        stage.superlink.start()
        node.wait_well(60)

    def test_a_node_that_the_server_does_not_know_ends_with_a_sentence(
        self, stage, staging, tmp_path
    ):
        node = staging.make_node(tmp_path / "node", stage)
        node.process.command = staging.command_of(node.settings, 0.5)
        node.process.start()
        assert node.process.wait(60) == 1
        assert "(superlink.not_admitted)" in node.process.output()

    def test_a_second_node_with_the_same_key_ends_and_the_first_goes_on(
        self, stage, started, staging, tmp_path
    ):
        first = started(stage)
        second = staging.make_node(tmp_path / "second", stage)
        key = (first.loaded.state_dir / "transport.key").read_bytes()
        (second.loaded.state_dir / "transport.key").write_bytes(key)
        second.process.command = staging.command_of(second.settings, 0.5)
        second.process.start()
        assert second.process.wait(60) == 1
        assert "(superlink.not_admitted)" in second.process.output()
        assert first.is_well()

    def test_a_server_that_answers_nonsense_is_asked_again_ever_more_rarely(
        self, staging, tmp_path
    ):
        with staging.nonsense(tmp_path / "server") as port:
            authority = str(tmp_path / "server/ca.pem")
            node = staging.make_node(
                tmp_path / "node", None, superlink=f"127.0.0.1:{port}", superlink_ca=authority
            )
            node.process.start()
            try:
                node.process.wait_for("code=superlink.lost", 90, times=3)
                assert node.process.is_running()
                assert not node.is_well()
                assert node.process.stop() == 0
            finally:
                node.process.kill()

    def test_a_node_that_is_put_out_ends_with_a_sentence(self, stage, staging, tmp_path):
        node = staging.make_node(tmp_path / "node", stage)
        node.process.command = staging.command_of(node.settings, 0.5)
        stage.register(node.transport_key)
        node.process.start()
        node.wait_well()
        found = re.search(r"SuperNode ID: (\d+)", node.process.output())
        assert found is not None
        stage.flwr("supernode", "unregister", found[1], "stage")
        assert node.process.wait(60) == 1
        assert "(superlink.not_admitted)" in node.process.output()

    @pytest.mark.parametrize(
        ("certificate", "code"),
        [
            ({"age": timedelta(days=900)}, "tls.expired"),
            ({"host": "superlink.example"}, "tls.other_host"),
        ],
    )
    def test_a_servers_certificate_that_does_not_hold_ends_with_a_sentence(
        self, staging, tmp_path, certificate, code
    ):
        stage = staging.open_stage(tmp_path / "stage", **certificate)
        try:
            node = staging.make_node(tmp_path / "node", stage)
            node.process.start()
            assert node.process.wait(60) == 1
        finally:
            stage.superlink.kill()
        assert f"({code})" in node.process.output()

    def test_a_wrong_authority_ends_with_a_sentence(self, stage, staging, tmp_path):
        other = staging.other_authority(tmp_path)
        node = staging.make_node(tmp_path / "node", stage, superlink_ca=str(other))
        node.process.start()
        assert node.process.wait(60) == 1
        assert "(tls.untrusted)" in node.process.output()

    def test_a_key_that_is_none_ends_with_a_sentence(self, stage, staging, tmp_path):
        node = staging.make_node(tmp_path / "node", stage)
        (node.loaded.state_dir / "transport.key").write_text("no key")
        node.process.start()
        assert node.process.wait(60) == 1
        assert "(key.unreadable)" in node.process.output()

    def test_a_port_in_use_ends_with_a_sentence(self, stage, staging, tmp_path):
        import socket

        port = free_port()
        node = staging.make_node(tmp_path / "node", stage, runtime_port=port)
        with socket.create_server(("127.0.0.1", port)):
            node.process.start()
            assert node.process.wait(60) == 1
        assert f"runtime_port {port}" in node.process.output()
        assert "(port.in_use)" in node.process.output()
