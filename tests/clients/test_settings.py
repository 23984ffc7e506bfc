from pathlib import Path

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


def test_a_file_of_the_first_version_asks_nothing_more_of_server_and_runs(tmp_path):
    settings = loaded(tmp_path)
    assert (settings.tasks, settings.run_epsilon_cap) == (None, None)
    assert (settings.accepted_server_versions, settings.maintenance_windows) == (None, ())
    assert (settings.superlink, settings.superlink_ca, settings.governance_ca) == (None,) * 3
    assert (settings.health_port, settings.runtime_port) == (8340, 8341)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("superlink", '"superlink.example:9092"'),
        ("superlink", '"192.0.2.7:1"'),
        ("superlink", '"[2001:db8::1]:65535"'),
        ("superlink_ca", '"superlink-ca.pem"'),
        ("governance_ca", '"governance-ca.pem"'),
        ("health_port", "8350"),
        ("runtime_port", "8351"),
        ("tasks", '["churn"]'),
        ("run_epsilon_cap", "4.0"),
        ("accepted_server_versions", '["0.1.0", "0.2.0"]'),
        ("maintenance_windows", '["Sat 02:00-06:00", "Sun 22:00-04:00"]'),
    ],
)
def test_what_a_unit_may_say_about_its_server_and_its_policy_is_kept(tmp_path, name, value):
    assert getattr(loaded(tmp_path, **{name: value}), name) is not None


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
        ("governance_url", '"https://[::1"'),
        ("governance_url", '"https://a b:xx"'),
        ("governance_url", '"https://"'),
        ("governance_url", '"governance.example"'),
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
        ("superlink", '"https://superlink.example:9092"'),
        ("superlink", '"superlink.example"'),
        ("superlink", '"superlink.example:70000"'),
        ("superlink", '"superlink.example:0"'),
        ("health_port", "0"),
        ("runtime_port", "65536"),
        ("runtime_port", "8340"),
        ("tasks", "[]"),
        ("tasks", '["Churn Task"]'),
        ("run_epsilon_cap", "0"),
        ("run_epsilon_cap", "inf"),
        ("run_epsilon_cap", "4.1"),
        ("accepted_server_versions", "[]"),
        ("accepted_server_versions", '[""]'),
        ("maintenance_windows", '["Saturday"]'),
        ("maintenance_windows", '["Sat 02:00-06:00", "Sat 02:00-02:00"]'),
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


TABLE = '{url_file = "source.url", table = "crm.customers"}'


def test_customers_may_be_in_a_database(tmp_path):
    source = loaded(tmp_path, source=TABLE).source
    assert (source.url_file, source.name) == (Path("source.url"), "crm.customers")
    query = loaded(tmp_path, source='{url = "sqlite:///crm.db", query = "SELECT 1"}').source
    assert (query.url, query.name) == ("sqlite:///crm.db", "query")


def test_a_source_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDPACT_NODE_SOURCE", "/srv/customers.csv")
    assert loaded(tmp_path, source=None).source == Path("/srv/customers.csv")


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("{}", "source.sql: .*url"),
        ('{url = "sqlite:///c.db"}', "`table` or `query`"),
        ('{table = "c"}', "`url` or `url_file`"),
        ('{url = "sqlite:///c.db", url_file = "u", table = "c"}', "`url` or `url_file`"),
        ('{url = "sqlite:///c.db", table = "c", query = "SELECT 1"}', "`table` or `query`"),
        ('{url = "sqlite:///c.db", query = "SELECT 1; SELECT 2"}', "semicolon"),
        ('{url = "sqlite:///c.db", tabel = "c"}', "source.sql.tabel"),
        ("3", "source.file"),
    ],
)
def test_a_source_that_names_too_little_or_too_much_is_refused(tmp_path, value, rule):
    with pytest.raises(InvalidRecordError, match=rule) as error:
        loaded(tmp_path, source=value)
    assert error.value.code == "settings.invalid"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://north:Miss-Marple-7@db/crm",
        "postgresql+psycopg://north@db/crm?password=Miss-Marple-7",
        "postgresql+psycopg://north@db/crm?sslpassword=Miss-Marple-7",
    ],
)
def test_a_password_is_not_kept_in_the_settings_and_not_repeated(tmp_path, url):
    with pytest.raises(InvalidRecordError, match="url_file") as error:
        loaded(tmp_path, source=f'{{url = "{url}", table = "customers"}}')
    chained = error.value.__cause__
    assert "Marple" not in f"{error.value.public}{error.value.detail}{chained}"
    assert loaded(tmp_path, source=TABLE)
    without = url.replace(":Miss-Marple-7", "").partition("?")[0]
    assert loaded(tmp_path, source=f'{{url = "{without}", table = "customers"}}')


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("columns", '{tenure = "a", charges = "a"}', "columns: a is named twice"),
        ("columns", '{tenure = ""}', "columns.tenure"),
        ("values", '{churn = {Yes = ["1"], No = ["0", "1"]}}', "values.churn: one spelling"),
        ("values", '{churn = {Yes = [" 1"]}}', "values.churn.Yes.0"),
        ("values", '{churn = {Yes = [""]}}', "values.churn.Yes.0"),
        ("values", '{churn = ["1"]}', "values.churn"),
    ],
)
def test_a_mapping_that_says_two_things_is_refused(tmp_path, name, value, rule):
    with pytest.raises(InvalidRecordError, match=rule) as error:
        loaded(tmp_path, **{name: value})
    assert error.value.code == "settings.invalid"
    sound = loaded(
        tmp_path,
        columns='{tenure = "a", charges = "b"}',
        values='{churn = {Yes = ["1"], No = ["0"]}}',
    )
    assert sound.columns == {"tenure": "a", "charges": "b"}
    assert sound.values == {"churn": {"Yes": ("1",), "No": ("0",)}}
