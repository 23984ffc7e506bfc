"""What a real SuperLink behind our doors answers, over the network."""

import sqlite3
import ssl
from base64 import b64encode
from contextlib import closing

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.control_pb2 import RegisterNodeRequest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, RegisterNodeFleetRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    TaskType,
)
from flwr.supercore.date import now
from flwr.supercore.interceptors import SuperExecAuthHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.runtime import RuntimeHttpClient

from fedcore.errors import ConflictError, ForbiddenError
from fedserver.engine import control as control_module
from fedserver.engine.control import UNREGISTERED, Control
from fedserver.engine.following import forget_messages
from fedserver.engine.gate import CONTROL, RUNTIME, start_request
from fedserver.engine.runs import Submission, save_submission
from fedserver.engine.secret import load_secret
from fedserver.engine.superlink import DATABASE

pytestmark = pytest.mark.slow
PROTOBUF = {"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE}
PLAN = "sha256:" + "a" * 64


@pytest.fixture
def outside(running):
    """The nodes' side, as anybody on the network meets it."""
    context = ssl.create_default_context(cafile=str(running.settings.tls_ca))
    with httpx.Client(
        base_url=f"https://localhost:{running.settings.port}", verify=context, headers=PROTOBUF
    ) as client:
        yield client


@pytest.fixture
def inside(running):
    """This machine's side, without the secret."""
    with httpx.Client(
        base_url=f"http://127.0.0.1:{running.settings.control_port}", headers=PROTOBUF
    ) as client:
        yield client


@pytest.fixture
def control(running):
    with Control.connected(running.settings) as connected:
        yield connected


def new_key():
    return public_key_to_bytes(ec.generate_private_key(ec.SECP384R1()).public_key())


def test_the_network_finds_neither_commands_nor_tasks(running, outside):
    bearer = {"authorization": f"Bearer {load_secret(running.settings.work_dir)}"}
    for path in sorted(CONTROL | RUNTIME):
        assert outside.post(path, content=b"", headers=bearer).status_code == 404


def test_nobody_registers_a_node_without_the_secret(inside, control):
    body = RegisterNodeRequest(public_key=new_key(), name="intruder").SerializeToString()
    refused = inside.post("/v1/control/register-node", content=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "control.forbidden")
    assert "intruder" not in {node.name for node in control.nodes()}


def test_nobody_starts_a_run_without_the_secret(inside):
    body = start_request(PLAN, "run-1").SerializeToString()
    refused = inside.post("/v1/control/start-run", content=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "control.forbidden")


def test_with_the_secret_the_same_is_done(control):
    assert control.register_node("north", new_key())
    assert "north" in {node.name for node in control.nodes()}


def test_even_with_the_secret_a_foreign_bundle_is_refused_and_ours_is_not(running, monkeypatch):
    foreign = start_request(PLAN, "run-1")
    foreign.fab.content += b"\0"
    with Control.connected(running.settings) as control:
        number = control.start_run(PLAN, "run-own")
        assert number
        control.stop_run(number)
        monkeypatch.setattr(control_module, "start_request", lambda *_: foreign)
        with pytest.raises(ForbiddenError) as caught:
            control.start_run(PLAN, "run-1")
    assert caught.value.code == "bundle.foreign"


def test_a_wrong_secret_is_refused(running, tmp_path):
    other = tmp_path / "control-secret"
    other.touch(mode=0o600)
    other.write_text("f" * 64)
    settings = running.settings.model_copy(update={"work_dir": tmp_path})
    with Control.connected(settings) as control, pytest.raises(ForbiddenError) as caught:
        control.nodes()
    assert caught.value.code == "control.forbidden"


def test_a_key_that_was_unregistered_stays_so(control):
    key = new_key()
    number = control.register_node("west", key)
    with pytest.raises(ConflictError):
        control.register_node("west", key)
    control.unregister_node(number)
    assert {node.status for node in control.nodes() if node.name == "west"} == {UNREGISTERED}
    with pytest.raises(ConflictError) as caught:
        control.register_node("west", key)
    assert caught.value.code == "transport.used_before"


def test_an_unknown_flower_run_has_finished_and_cannot_be_stopped(control):
    assert control.has_finished(4711)
    assert not control.stop_run(4711)


def test_nobody_takes_a_task_without_the_executors_secret(running):
    def taken(secret):
        client = RuntimeHttpClient.from_server_address(
            server_address=f"127.0.0.1:{running.settings.control_port}",
            insecure=True,
            root_certificates=None,
            interceptors=[
                SuperExecAuthHttpInterceptor(
                    master_secret=secret,
                    protected_methods={"/flwr.proto.Runtime/AcquireTask"},
                )
            ],
        )
        try:
            client.AcquireTask(AcquireTaskRequest(supported_task_types={TaskType.SERVER_APP}))
        except httpx.HTTPStatusError as error:
            return error.response.status_code
        finally:
            client.close()
        return 200

    assert taken(b"guessed") == 401
    assert taken(load_secret(running.settings.work_dir).encode()) == 401


@pytest.mark.parametrize(
    ("path", "request_type"),
    [("activate-node", ActivateNodeRequest), ("register-node", RegisterNodeFleetRequest)],
)
def test_nobody_without_a_signature_becomes_a_node(outside, control, path, request_type):
    before = len(control.nodes())
    body = request_type(public_key=new_key()).SerializeToString()
    assert outside.post(f"/v1/fleet/{path}", content=body).status_code == 401
    assert len(control.nodes()) == before


def signed(key):
    """Return the headers by which a SuperNode with this key proves that it has it."""
    timestamp = now().isoformat()
    return {
        FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public_key_to_bytes(key.public_key())).decode(),
        FLEET_HTTP_SIGNATURE_HEADER: b64encode(sign_message(key, timestamp.encode())).decode(),
        TIMESTAMP_HEADER: timestamp,
    }


def test_a_key_must_be_registered_before_its_node_comes(outside, control):
    key = ec.generate_private_key(ec.SECP384R1())
    public = public_key_to_bytes(key.public_key())
    body = ActivateNodeRequest(public_key=public, heartbeat_interval=30).SerializeToString()
    before = len(control.nodes())
    refused = outside.post("/v1/fleet/activate-node", content=body, headers=signed(key))
    assert 400 <= refused.status_code < 500
    assert len(control.nodes()) == before
    number = control.register_node("east", public)
    taken = outside.post("/v1/fleet/activate-node", content=body, headers=signed(key))
    assert taken.status_code == 200
    control.unregister_node(number)
    again = outside.post("/v1/fleet/activate-node", content=body, headers=signed(key))
    assert 400 <= again.status_code < 500


def test_messages_of_finished_runs_are_swept(control):
    number = control.start_run(PLAN, "run-swept")
    control.stop_run(number)
    control.sweep()
    assert control.has_finished(number)


def test_what_flower_keeps_of_a_run_goes_when_it_is_to_be_forgotten(running, control):
    number = control.start_run(PLAN, "run-old")
    control.stop_run(number)
    work_dir = running.settings.work_dir
    save_submission(work_dir, "run-old", Submission(plan=PLAN, flower_runs=(number,)))
    signed = number - 2**64 if number >= 2**63 else number
    with closing(sqlite3.connect(work_dir / DATABASE, timeout=30)) as database:
        object_row = (
            "INSERT INTO objects (object_id, content, is_available, ref_count) VALUES (?, ?, 1, 0)"
        )
        database.execute(object_row, ("an-update", b"weights"))
        database.execute("INSERT INTO run_objects VALUES (?, 'an-update')", (signed,))
        database.commit()
        forget_messages(running.settings, "run-never-submitted")
        kept = "SELECT content FROM objects WHERE object_id = 'an-update'"
        assert database.execute(kept).fetchone() == (b"weights",)
        forget_messages(running.settings, "run-old")
        assert database.execute(kept).fetchone() is None
