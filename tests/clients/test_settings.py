import pytest
from pydantic import ValidationError

from clients.settings import NodeSettings
from fedcore.errors import InvalidRecordError
from fedcore.record import Realm

GOOD = {
    "unit": '"north"',
    "state_dir": '"state"',
    "source": '"customers.csv"',
    "governance_url": '"http://127.0.0.1:9"',
    "governance_key": f'"{"ab" * 32}"',
    "subject_namespace": '"customer-number"',
    "epsilon_cap": "4.0",
    "delta": "1e-5",
    "size_band": "1024",
    "purposes": '["retention"]',
}


def loaded(tmp_path, **changes):
    lines = [f"{k} = {v}" for k, v in {**GOOD, **changes}.items() if v is not None]
    path = tmp_path / "node.toml"
    path.write_text("\n".join(lines))
    return NodeSettings.load(path)


def test_a_file_with_the_needed_names_makes_a_careful_production_node(tmp_path):
    settings = loaded(tmp_path)
    assert settings.realm is Realm.PRODUCTION
    assert (settings.minimum_cohort, settings.faulty_rows) == (2, "refuse")


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_setting_is_named(tmp_path, name):
    loaded(tmp_path)
    with pytest.raises(InvalidRecordError, match=f"node.toml: {name}") as error:
        loaded(tmp_path, **{name: None})
    assert error.value.code == "settings.invalid"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("unit", '"North Unit"'),
        ("realm", '"test"'),
        ("governance_key", '"abc"'),
        ("epsilon_cap", "0"),
        ("epsilon_cap", "inf"),
        ("epsilon_cap", "nan"),
        ("delta", "0"),
        ("delta", "0.01"),
        ("delta", "nan"),
        ("delta", "1e-4"),
        ("size_band", "1"),
        ("size_band", "1000"),
        ("purposes", "[]"),
        ("minimum_cohort", "0"),
        ("faulty_rows", '"ignore"'),
        ("epsilon", "3"),
    ],
)
def test_a_setting_out_of_range_or_unknown_is_named(tmp_path, name, value):
    with pytest.raises(InvalidRecordError, match=name) as error:
        loaded(tmp_path, **{name: value})
    assert error.value.code == "settings.invalid"


@pytest.mark.parametrize("content", [b"unit = ", b"\xff\xfe", None])
def test_a_file_that_is_no_toml_is_unreadable(tmp_path, content):
    path = tmp_path / "node.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRecordError) as error:
        NodeSettings.load(path)
    assert error.value.code == "settings.unreadable"
    assert str(path) in error.value.public


def test_settings_cannot_be_changed_after_they_were_read(tmp_path):
    with pytest.raises(ValidationError, match="frozen"):
        loaded(tmp_path).epsilon_cap = 100.0
