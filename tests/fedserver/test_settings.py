from pathlib import Path

import pytest
from pydantic import ValidationError

from fedcore.errors import InvalidRecordError
from fedcore.record import Realm
from fedserver.settings import ServerSettings

GOOD = {
    "work_dir": '"runs"',
    "governance_url": '"http://127.0.0.1:9"',
    "governance_key": f'"{"ab" * 32}"',
    "api_key_file": '"api.key"',
    "signing_key": '"server.pem"',
    "model_name": '"churn"',
}


def loaded(tmp_path, **changes):
    lines = [f"{k} = {v}" for k, v in {**GOOD, **changes}.items() if v is not None]
    path = tmp_path / "server.toml"
    path.write_text("\n".join(lines))
    return ServerSettings.load(path)


def test_a_file_with_the_needed_names_makes_a_production_server(tmp_path):
    settings = loaded(tmp_path)
    assert settings.realm is Realm.PRODUCTION
    assert settings.work_dir == Path("runs")
    with pytest.raises(ValidationError, match="frozen"):
        settings.realm = Realm.SIMULATION


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_setting_is_named(tmp_path, name):
    with pytest.raises(InvalidRecordError, match=f"server.toml: {name}") as error:
        loaded(tmp_path, **{name: None})
    assert error.value.code == "settings.invalid"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("realm", '"test"'),
        ("governance_url", '"https://[::1"'),
        ("governance_url", '"https://a b:xx"'),
        ("governance_url", '"https://"'),
        ("governance_url", '"governance.example"'),
        ("governance_key", '"AB"'),
        ("model_name", '"Churn Model"'),
        ("poll_interval_s", "0"),
        ("poll_interval_s", "61"),
        ("poll_interval_s", "nan"),
        ("api_key", '"secret in the file"'),
    ],
)
def test_a_setting_out_of_range_or_unknown_is_named_without_its_value(tmp_path, name, value):
    with pytest.raises(InvalidRecordError, match=name) as error:
        loaded(tmp_path, **{name: value})
    assert error.value.code == "settings.invalid"
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("content", [b"work_dir = ", b"\xff\xfe", None])
def test_a_file_that_is_no_toml_is_unreadable(tmp_path, content):
    path = tmp_path / "server.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRecordError) as error:
        ServerSettings.load(path)
    assert error.value.code == "settings.unreadable"
