"""A real server started, disturbed and stopped by the command line."""

import os
import signal
import socket
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from fedcore.errors import ConflictError, InvalidRecordError, RefusedError, UnreachableError
from fedserver.engine.control import Control
from fedserver.engine.following import follow, stop_and_wait, submit
from fedserver.engine.outcome import Journal
from fedserver.engine.runs import Submission, load_run, verify_new, verify_resumable
from fedserver.engine.supervisor import child_environment, listen

PLAN = "sha256:" + "a" * 64


def new_key():
    return public_key_to_bytes(ec.generate_private_key(ec.SECP384R1()).public_key())


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_port_in_use_is_named_with_its_setting():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConflictError) as caught, listen("127.0.0.1", port, "health_port"):
            pass
    assert caught.value.code == "port.in_use"
    assert f"health_port: another program listens on port {port}" in caught.value.public
    with listen("127.0.0.1", port, "health_port") as own:
        assert own.getsockname()[1] == port


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(InvalidRecordError) as caught, listen("203.0.113.7", 19092, "port"):
        pass
    assert caught.value.code == "port.unusable"


def test_flowers_settings_of_the_caller_do_not_count(server, monkeypatch):
    monkeypatch.setenv("FLWR_INTERNAL_GRPC_CONTROL_API", "1")
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    found = child_environment(server.settings, server.file)
    ours = {name: value for name, value in found.items() if name.startswith("FLWR_")}
    assert "FLWR_INTERNAL_GRPC_CONTROL_API" not in ours
    assert ours["FLWR_TELEMETRY_ENABLED"] == "0"
    assert Path(ours["FLWR_HOME"]).is_relative_to(server.settings.work_dir)
    assert found["FEDPACT_SERVER_SETTINGS"] == str(server.file)


@pytest.mark.slow
def test_nodes_survive_every_end_and_nothing_outlives_the_server(server, until):
    server.start().up()
    with Control.connected(server.settings) as control:
        number = control.register_node("north", new_key())

    def still_there():
        with Control.connected(server.settings) as control:
            return [node.node_id for node in control.nodes()] == [number]

    killed = server.health()["superlink"]["pid"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: server.health().get("superlink", {}).get("pid") not in (None, killed), "another")
    server.up()
    assert still_there()
    assert "superlink.died" in server.log
    first = server.health()["superlink"]["pid"]
    assert server.stop() == 0
    assert not alive(first)
    assert server.health() == {}
    server.start().up()
    assert still_there()
    second = server.health()["superlink"]["pid"]
    server.process.kill()
    until(lambda: not alive(second), "the SuperLink to end with the server")


@pytest.fixture
def silent(running):
    """Let governance accept connections and never answer, so that a run hangs."""
    before = running.file.read_text()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running.file.write_text(before.replace(':9"', f':{listener.getsockname()[1]}"'))
        yield
    running.file.write_text(before)


@pytest.mark.slow
def test_a_run_that_cannot_get_its_permit_fails_with_the_reason_and_can_go_on(running):
    work_dir, lines = running.settings.work_dir, list[str]()
    with Control.connected(running.settings) as control:
        first = submit(work_dir, "run-1", Submission(plan=PLAN), control)
        with pytest.raises(RefusedError) as caught:
            follow(work_dir, "run-1", control, lines.append)
        assert caught.value.codes == ("governance.unreachable",)
        status = load_run(work_dir, "run-1")
        assert (status.state, status.flower_run) == ("failed", first)
        second = submit(work_dir, "run-1", status.submission, control)
        with pytest.raises(RefusedError):
            follow(work_dir, "run-1", control, lines.append)
    assert load_run(work_dir, "run-1").submission.flower_runs == (first, second)
    assert lines == []
    code, output = running.fedpact("runs")
    assert code == 0
    assert "run-1" in output
    assert "governance.unreachable" in output


def only_process(server):
    """Return the process of the one run that is going on, once those of ended runs are gone."""
    pids = server.health()["runs"]
    return pids[0] if len(pids) == 1 else None


@pytest.mark.slow
@pytest.mark.usefixtures("silent")
def test_a_killed_run_is_interrupted_and_no_run_is_done_twice_at_once(running, until):
    work_dir = running.settings.work_dir
    with Control.connected(running.settings) as control:
        submit(work_dir, "run-2", Submission(plan=PLAN), control)
        until(lambda: load_run(work_dir, "run-2").state == "running", "the run")
        pid = until(lambda: only_process(running), "its process alone")
        for verify in (
            lambda: verify_new(work_dir, "run-2"),
            lambda: verify_resumable(load_run(work_dir, "run-2")),
            lambda: Journal(work_dir, "run-2", 1).__enter__(),
        ):
            with pytest.raises(ConflictError) as refused:
                verify()
            assert refused.value.code == "run.running"
        os.kill(pid, signal.SIGKILL)
        until(lambda: load_run(work_dir, "run-2").state == "interrupted", "the end")
        with pytest.raises(UnreachableError) as caught:
            follow(work_dir, "run-2", control, print)
        assert caught.value.code == "run.interrupted"


@pytest.mark.slow
@pytest.mark.usefixtures("silent")
def test_a_stopped_run_ends_and_says_so(running, until):
    work_dir = running.settings.work_dir
    with Control.connected(running.settings) as control:
        submit(work_dir, "run-3", Submission(plan=PLAN), control)
        until(lambda: load_run(work_dir, "run-3").state == "running", "the run")
        pid = until(lambda: only_process(running), "its process alone")
        stop_and_wait(work_dir, "run-3", control)
        assert load_run(work_dir, "run-3").state == "stopped"
        with pytest.raises(ConflictError) as caught:
            follow(work_dir, "run-3", control, print)
        assert caught.value.code == "run.stopped"
        with pytest.raises(ConflictError) as caught:
            stop_and_wait(work_dir, "run-3", control)
        assert caught.value.code == "run.not_running"
    until(lambda: not alive(pid), "the run's process to end")
