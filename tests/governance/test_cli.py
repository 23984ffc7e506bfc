"""`fedpact governance`: from nothing to a service that answers."""

import stat
import tomllib
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from fedcore.errors import ConflictError, InvalidRecordError
from fedcore.signing import SigningKey
from fedcore.tomlfile import load_toml
from governance.app import create_app, utc_now
from governance.cli import app
from governance.settings import GovernanceSettings
from simulations.transport import AsgiTransport


def run(*arguments):
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "office"


def test_init_makes_a_service_whose_first_key_opens_it(directory):
    output = run("init", "--directory", str(directory), "--realm", "simulation")
    api_key = output.split()[-1]
    settings = load_toml(directory / "governance.toml", GovernanceSettings)
    transport = AsgiTransport(create_app(settings, utc_now))
    with httpx.Client(transport=transport, base_url="http://governance") as client:
        health = client.get("/healthz").json()
        assert health["public_key"] in output
        assert health["realm"] == "simulation"
        headers = {"Authorization": f"Bearer {api_key}"}
        assert client.get("/v1/models", headers=headers).json() == {"models": []}


def test_the_signing_key_is_for_its_owner_only(directory):
    run("init", "--directory", str(directory))
    key = directory / "governance.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    shown = run("key", "--settings", str(directory / "governance.toml")).strip()
    assert shown == SigningKey.load(key).public


def test_init_never_overwrites_a_service(directory):
    run("init", "--directory", str(directory))
    before = {path.name: path.read_bytes() for path in directory.glob("governance.[pt]*")}
    with pytest.raises(ConflictError, match=r"settings\.exist"):
        run("init", "--directory", str(directory))
    assert {path.name: path.read_bytes() for path in directory.glob("governance.[pt]*")} == before


def test_the_api_key_is_not_in_the_directory(directory):
    secret = run("init", "--directory", str(directory)).split("_")[-1].strip()
    assert len(secret) == 64
    assert not [path for path in directory.iterdir() if secret.encode() in path.read_bytes()]


def test_the_written_settings_are_those_that_were_asked_for(directory):
    run("init", "-d", str(directory), "--accept-version", "1.0", "--accept-version", "1.1")
    written = tomllib.loads((directory / "governance.toml").read_text())
    assert written["accepted_versions"] == ["1.0", "1.1"]
    assert Path(written["signing_key"]).is_absolute()


def test_a_setting_that_is_unknown_is_named(directory):
    run("init", "--directory", str(directory))
    path = directory / "governance.toml"
    path.write_text(path.read_text() + "permit_vald_s = 5\n")
    with pytest.raises(InvalidRecordError, match="permit_vald_s"):
        run("key", "--settings", str(path))


def test_every_setting_is_described():
    fields = GovernanceSettings.model_fields
    assert not [name for name, field in fields.items() if not field.description]
