"""The service on its host: made whatever interrupts it, started only when it can serve."""

import re
import socket
import stat
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from fedcore.keyfiles import write_secret
from fedcore.signing import SigningKey
from fedcore.tls import (
    Credential,
    create_authority,
    hosts_of,
    issue_certificate,
    load_certificate,
    verify_server_credential,
)
from fedcore.tomlfile import load_toml
from governance.app import create_app, utc_now
from governance.settings import GovernanceSettings
from simulations.transport import AsgiTransport

WRITES = 3
HERE = ("localhost", "127.0.0.1")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "office"


def code_in(output):
    return re.search(r"^one-time code: (\S+)$", output, re.M)[1]  # type: ignore[index]


def claims(directory, code):
    """Return the status with which the service takes a code."""
    settings = load_toml(directory / "governance.toml", GovernanceSettings)
    transport = AsgiTransport(create_app(settings, utc_now))
    with httpx.Client(transport=transport, base_url="http://governance") as client:
        body = {"code": code, "name": "ada", "key_id": "0" * 16, "key_hash": "0" * 64}
        return client.post("/v1/claims", json=body).status_code


class TestInit:
    def test_it_makes_a_service_whose_code_makes_the_first_administrator(self, run, directory):
        exit_code, output = run("init", "-d", directory, "--realm", "simulation")
        assert exit_code == 0, output
        key = SigningKey.load(directory / "governance.pem")
        assert f"public key:    {key.public}" in output
        assert claims(directory, "a" * 32) == 403
        assert claims(directory, code_in(output)) == 204

    def test_secrets_are_for_their_owner_only(self, run, directory):
        run("init", "-d", directory)
        secrets = ("governance.pem", "tls-ca.key", "tls.key")
        assert {stat.S_IMODE((directory / name).stat().st_mode) for name in secrets} == {0o600}
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    def test_it_never_overwrites_a_service_and_says_how_to_go_on(self, run, directory):
        run("init", "-d", directory)
        before = {path.name: path.read_bytes() for path in directory.glob("*.[pkct]*")}
        exit_code, output = run("init", "-d", directory)
        assert exit_code == 1
        assert "settings.exist" in output
        assert "governance code" in output
        assert {path.name: path.read_bytes() for path in directory.glob("*.[pkct]*")} == before

    def test_the_code_is_not_in_the_directory(self, run, directory):
        code = code_in(run("init", "-d", directory)[1]).replace("-", "")
        assert not [path for path in directory.iterdir() if code.encode() in path.read_bytes()]

    def test_the_settings_are_those_that_were_asked_for(self, run, directory):
        wishes = ("--accept-version", "1.0", "--accept-version", "1.1", "--port", "9000")
        run("init", "-d", directory, *wishes)
        written = tomllib.loads((directory / "governance.toml").read_text())
        assert written["accepted_versions"] == ["1.0", "1.1"]
        assert (written["host"], written["port"]) == ("127.0.0.1", 9000)
        assert written["signing_key"] == str((directory / "governance.pem").resolve())

    def test_a_service_for_others_listens_for_others(self, run, directory):
        run("init", "-d", directory, "--host", "governance.example")
        written = tomllib.loads((directory / "governance.toml").read_text())
        assert written["host"] == "0.0.0.0"  # noqa: S104 - that is the claim

    def test_a_certificate_of_ones_own_is_taken_and_checked(self, run, directory, tmp_path):
        issued = credential(tmp_path, datetime.now(UTC))
        own = ("--tls-certificate", tmp_path / "own.crt", "--tls-key", tmp_path / "own.key")
        issued.save(tmp_path / "own.crt", tmp_path / "own.key")
        assert run("init", "-d", directory, *own)[0] == 0
        assert not (directory / "tls-ca.pem").exists()
        exit_code, output = run("init", "-d", tmp_path / "other", *own[:2])
        assert (exit_code, "go together" in output) == (1, True)

    @pytest.mark.parametrize("call", ["os.link", "pathlib.Path.replace"])
    @pytest.mark.parametrize("number", range(WRITES + 1))
    def test_interrupted_at_any_write_it_can_be_repeated(self, run, directory, call, number):
        """Three secrets are linked into place, three other files renamed; one more there is not."""
        assert kill_init(directory, call, number) == (-9 if number < WRITES else 0)
        exit_code, output = run("init", "-d", directory)
        if exit_code == 1:
            assert "settings.exist" in output
            exit_code, output = run("code", "-s", directory / "governance.toml")
        assert exit_code == 0, output
        assert claims(directory, code_in(output)) == 204

    def test_interrupted_before_its_words_are_out_the_code_can_be_made_anew(self, run, directory):
        assert kill_init(directory, "typer.echo", 0) == -9
        exit_code, output = run("code", "-s", directory / "governance.toml")
        assert exit_code == 0
        assert claims(directory, code_in(output)) == 204


def kill_init(directory, call, number):
    """Run `init` in a process that is killed at the nth use of a call; return its exit code."""
    script = f"""
import os, pathlib, signal, typer
left = [{number}]
real = {call}
def dying(*arguments, **more):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return real(*arguments, **more)
{call} = dying
import sys
sys.argv = ["fedpact", "governance", "init", "-d", {str(directory)!r}]
from fedcore.cli import main
main()
"""
    return subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True
    ).returncode


def credential(folder, now):
    authority = create_authority("a test", now)
    (folder / "authority.pem").write_bytes(authority.certificate)
    return issue_certificate(authority, ("127.0.0.1",), now)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("nonsense", "database.url_invalid"),
        ("mysql://x", "database.url_invalid"),
        ("sqlite:////nowhere/at/all/governance.db", "database.unreachable"),
        ("postgresql+psycopg://u:secret-word@127.0.0.1:9/x", "database.unreachable"),
    ],
)
def test_a_database_that_cannot_be_opened_is_said_in_a_sentence(run, directory, url, code):
    exit_code, output = run("init", "-d", directory, "--database-url", url)
    assert (exit_code, code in output) == (1, True), output
    assert "secret-word" not in output
    assert not (directory / "governance.toml").exists()


class TestCode:
    def test_a_fresh_code_takes_the_place_of_the_one_before(self, run, directory):
        first = code_in(run("init", "-d", directory)[1])
        second = code_in(run("code", "-s", directory / "governance.toml")[1])
        assert claims(directory, first) == 403
        assert claims(directory, second) == 204

    def test_there_is_none_once_there_is_an_account(self, run, directory):
        claims(directory, code_in(run("init", "-d", directory)[1]))
        exit_code, output = run("code", "-s", directory / "governance.toml")
        assert (exit_code, "account.exists" in output) == (1, True)


class TestCertificate:
    def test_a_fresh_one_is_for_the_same_hosts_and_of_the_same_authority(self, run, directory):
        run("init", "-d", directory, "--host", "governance.example")
        before = load_certificate((directory / "tls.crt").read_bytes())
        authority = (directory / "tls-ca.pem").read_bytes()
        assert run("certificate", "-s", directory / "governance.toml")[0] == 0
        after = load_certificate((directory / "tls.crt").read_bytes())
        assert after.serial_number != before.serial_number
        assert hosts_of(after) == hosts_of(before) == ("governance.example", *HERE)
        assert (directory / "tls-ca.pem").read_bytes() == authority
        after.verify_directly_issued_by(load_certificate(authority))
        verify_server_credential(directory / "tls.crt", directory / "tls.key", datetime.now(UTC))
        assert stat.S_IMODE((directory / "tls.key").stat().st_mode) == 0o600

    def test_it_mends_an_expired_one(self, run, directory):
        run("init", "-d", directory)
        authority = Credential(
            (directory / "tls-ca.pem").read_bytes(), (directory / "tls-ca.key").read_bytes()
        )
        old = issue_certificate(authority, HERE, datetime.now(UTC) - timedelta(days=900))
        (directory / "tls.crt").write_bytes(old.certificate)
        (directory / "tls.key").write_bytes(old.key)
        exit_code, output = run("serve", "-s", directory / "governance.toml")
        assert (exit_code, "certificate.expired" in output) == (1, True)
        assert run("certificate", "-s", directory / "governance.toml")[0] == 0
        verify_server_credential(directory / "tls.crt", directory / "tls.key", datetime.now(UTC))

    def test_it_can_be_for_other_hosts(self, run, directory):
        run("init", "-d", directory)
        line = ("certificate", "-s", directory / "governance.toml", "--host", "new.example")
        assert run(*line)[0] == 0
        assert hosts_of(load_certificate((directory / "tls.crt").read_bytes())) == ("new.example",)

    def test_one_of_another_authority_is_left_alone(self, run, directory, tmp_path):
        credential(tmp_path, datetime.now(UTC)).save(tmp_path / "own.crt", tmp_path / "own.key")
        own = ("--tls-certificate", tmp_path / "own.crt", "--tls-key", tmp_path / "own.key")
        run("init", "-d", directory, *own)
        before = (tmp_path / "own.crt").read_bytes()
        exit_code, output = run("certificate", "-s", directory / "governance.toml")
        assert (exit_code, "certificate.foreign" in output) == (1, True)
        assert (tmp_path / "own.crt").read_bytes() == before


class TestServe:
    """What keeps a service from serving is said in one sentence, before it takes a request."""

    @pytest.fixture
    def office(self, run, directory):
        run("init", "-d", directory)
        return directory

    def refusal(self, run, office):
        exit_code, output = run("serve", "-s", office / "governance.toml")
        assert exit_code == 1
        return output

    def test_a_port_in_use(self, run, office):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            path = office / "governance.toml"
            path.write_text(path.read_text().replace("port = 8330", f"port = {port}"))
            output = self.refusal(run, office)
        assert "port.in_use" in output
        assert str(port) in output

    def test_an_address_that_is_not_this_machines(self, run, office):
        path = office / "governance.toml"
        path.write_text(path.read_text().replace('"127.0.0.1"', '"192.0.2.1"'))
        assert "port.unusable" in self.refusal(run, office)

    def test_an_expired_certificate(self, run, office):
        old = credential(office, datetime.now(UTC) - timedelta(days=900))
        (office / "tls.crt").write_bytes(old.certificate)
        (office / "tls.key").write_bytes(old.key)
        output = self.refusal(run, office)
        assert "certificate.expired" in output
        assert "issue a new one" in output

    def test_a_certificate_of_another_key(self, run, office):
        (office / "tls.crt").write_bytes(credential(office, datetime.now(UTC)).certificate)
        assert "certificate.other_key" in self.refusal(run, office)

    def test_a_certificate_that_is_none(self, run, office):
        (office / "tls.crt").write_text("nothing")
        assert "certificate.unreadable" in self.refusal(run, office)

    @pytest.mark.parametrize("name", ["tls.key", "governance.pem"])
    def test_a_key_that_others_may_read(self, run, office, name):
        (office / name).chmod(0o644)
        output = self.refusal(run, office)
        assert "key.permissions" in output
        assert "chmod 600" in output

    @pytest.mark.parametrize("name", ["tls.key", "governance.pem"])
    def test_a_key_that_is_gone_or_none(self, run, office, name):
        (office / name).unlink()
        assert "key.unreadable" in self.refusal(run, office)
        write_secret(office / name, b"nothing")
        assert "key.unreadable" in self.refusal(run, office)

    def test_half_a_certificate_in_the_settings(self, run, office):
        path = office / "governance.toml"
        lines = [line for line in path.read_text().splitlines() if "tls_key" not in line]
        path.write_text("\n".join(lines))
        output = self.refusal(run, office)
        assert "settings.invalid" in output
        assert "tls_certificate" in output


def test_the_key_is_shown(run, directory):
    run("init", "-d", directory)
    exit_code, output = run("key", "-s", directory / "governance.toml")
    assert (exit_code, output.strip()) == (0, SigningKey.load(directory / "governance.pem").public)
