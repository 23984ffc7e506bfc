import socket

import httpx
import pytest

from fedcore.errors import (
    ConflictError,
    FedError,
    ForbiddenError,
    InvalidRecordError,
    NotFoundError,
)
from fedserver.engine import control as control_module
from fedserver.engine.control import Control
from fedserver.engine.secret import create_secret
from fedserver.settings import ServerSettings


@pytest.fixture
def settings(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    return ServerSettings(
        work_dir=tmp_path,
        governance_url="https://governance.example",
        governance_key="1" * 64,
        api_key_file=tmp_path / "api.key",
        signing_key=tmp_path / "server.pem",
        model_name="churn",
        control_port=port,
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda control: control.start_run("sha256:" + "a" * 64, "run-1"),
        lambda control: control.stop_run(1),
        lambda control: control.has_finished(1),
        lambda control: control.nodes(),
        lambda control: control.register_node("north", b"key"),
        lambda control: control.unregister_node(1),
        lambda control: control.sweep(),
    ],
)
def test_without_a_superlink_every_command_says_so(settings, call):
    create_secret(settings.work_dir)
    with Control.connected(settings) as control, pytest.raises(FedError) as caught:
        call(control)
    assert caught.value.code == "superlink.unreachable"
    assert "fedpact server start" in caught.value.public


def test_without_the_secret_nothing_is_tried(settings):
    with pytest.raises(InvalidRecordError) as caught, Control.connected(settings):
        pass
    assert caught.value.code == "key.unreadable"


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (
            403,
            '{"code": "bundle.foreign", "detail": "Ours only."}',
            ForbiddenError,
            "bundle.foreign",
        ),
        (403, '{"code": 7}', ConflictError, "superlink.refused"),
        (403, "<html>", ConflictError, "superlink.refused"),
        (404, '{"code": 16}', NotFoundError, "superlink.refused"),
        (409, '{"code": 23}', ConflictError, "superlink.refused"),
        (500, "", ConflictError, "superlink.refused"),
    ],
)
def test_a_refusal_keeps_its_code_and_flowers_own_get_one(status, body, error, code):
    found = control_module._refused(httpx.Response(status, text=body))
    assert (type(found), found.code) == (error, code)
