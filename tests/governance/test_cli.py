"""`fedpact governance`: settings are described and named when they are wrong; help is quick."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fedcore.errors import InvalidRecordError
from governance.cli import app
from governance.settings import GovernanceSettings


def test_a_setting_that_is_unknown_is_named(tmp_path):
    runner = CliRunner()
    assert runner.invoke(app, ["init", "-d", str(tmp_path / "office")]).exit_code == 0
    path = tmp_path / "office" / "governance.toml"
    path.write_text(path.read_text() + "permit_vald_s = 5\n")
    with pytest.raises(InvalidRecordError, match="permit_vald_s"):
        runner.invoke(app, ["key", "--settings", str(path)], catch_exceptions=False)


def test_every_setting_is_described():
    fields = GovernanceSettings.model_fields
    assert not [name for name, field in fields.items() if not field.description]


def test_listing_the_commands_imports_no_web_server_no_database_and_no_statistics():
    heavy = {"fastapi", "uvicorn", "sqlmodel", "alembic", "httpx", "dp_accounting", "scipy.stats"}
    probe = f"import sys, governance.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
