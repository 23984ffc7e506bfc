import re
import socket
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from fedcore import cli
from fedcore.signing import SigningKey
from fedcore.tls import CERTIFICATE_LIFETIME, Credential, issue_certificate
from fedserver.settings import ServerSettings


def fedpact(*arguments):
    entry = EntryPoint("server", "fedserver.cli:app [server]", cli.COMMANDS_GROUP)
    root = cli.RootCommand({"server": entry})
    result = CliRunner().invoke(root, ["server", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def init(tmp_path):
    def init(*more):
        return fedpact(
            "init",
            *("--directory", tmp_path / "server"),
            *("--host", "federation.example", "--host", "10.0.0.7"),
            *("--governance-url", "https://governance.example:8330"),
            *("--governance-key", "1" * 64),
            *more,
        )

    return init


@pytest.fixture
def file(tmp_path):
    return tmp_path / "server" / "server.toml"


def test_init_prints_the_key_for_the_operators_account_and_what_units_need(init, file):
    code, output = init("--port", "19092")
    assert code == 0, output
    settings = ServerSettings.load(file)
    (public,) = re.findall(r"public key: ([0-9a-f]{64})", output)
    assert SigningKey.load(settings.signing_key).public == public
    assert f"{file.parent / 'ca.pem'} and federation.example:19092" in output
    assert settings.port == 19092
    assert settings.api_key_file == file.parent / "api.key"


def test_a_second_init_is_refused(init):
    init()
    code, output = init()
    assert (code, "(settings.exist)" in output) == (1, True), output


def test_an_expired_certificate_keeps_the_server_from_starting(init, file):
    init()
    settings, folder = ServerSettings.load(file), file.parent
    authority = Credential((folder / "ca.pem").read_bytes(), (folder / "ca.key").read_bytes())
    files = [folder / "tls.crt", folder / "tls.key"]
    assert files == [settings.tls_certificate, settings.tls_key]
    for path in files:
        path.unlink()
    then = datetime.now(UTC) - CERTIFICATE_LIFETIME - timedelta(days=1)
    issue_certificate(authority, ["localhost"], then).save(*files)
    code, output = fedpact("start", "-s", file)
    assert (code, "(certificate.expired)" in output) == (1, True), output


def test_a_fresh_certificate_is_issued_by_a_command(init, file):
    init()
    before = (file.parent / "tls.crt").read_bytes()
    code, output = fedpact("certificate", "-s", file)
    assert (code, str(file.parent / "tls.crt") in output) == (0, True), output
    assert (file.parent / "tls.crt").read_bytes() != before


@pytest.mark.parametrize("name", ["tls.key", "server.pem", "work/control-secret"])
def test_a_key_that_others_can_read_keeps_the_server_from_starting(init, file, name):
    init()
    (file.parent / name).chmod(0o640)
    code, output = fedpact("start", "-s", file)
    assert (code, "(key.permissions)" in output) == (1, True), output


@pytest.mark.parametrize("name", ["port", "control_port", "health_port"])
def test_a_port_in_use_is_said_before_anything_is_started(init, file, name, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        init()
        port = other.getsockname()[1]
        lines = [
            line
            for line in file.read_text().splitlines()
            if not re.match(r"\w*port =|host =", line)
        ]
        ports = {"port": 0, "control_port": 0, "health_port": 0}
        with (
            socket.create_server(("127.0.0.1", 0)) as one,
            socket.create_server(("127.0.0.1", 0)) as two,
            socket.create_server(("127.0.0.1", 0)) as three,
        ):
            free = (one, two, three)
            ports = {key: s.getsockname()[1] for key, s in zip(ports, free, strict=True)}
        ports[name] = port
        lines += ['host = "127.0.0.1"', *(f"{key} = {value}" for key, value in ports.items())]
        file.write_text("\n".join(lines))
        code, output = fedpact("start", "-s", file)
    assert code == 1
    assert f"{name}: another program listens on port {port}" in output
    assert "(port.in_use)" in output
