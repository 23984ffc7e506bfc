"""The code-less bundle is what Flower's own builder makes, to the byte."""

import io
import tomllib
import zipfile

import pytest
from flwr.cli.build import build_fab_from_files

from fedcore import apps, wire


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_flower_builds_exactly_the_agreed_files():
    bundle, _ = build_fab_from_files(apps.app_files())
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        built = {name: archive.read(name) for name in archive.namelist()}
    assert list(built.items()) == list(apps.bundle_files().items())


def test_the_run_configuration_holds_plan_digest_and_run_id_and_nothing_else():
    flower = tomllib.loads(apps.app_files()["pyproject.toml"].decode())["tool"]["flwr"]["app"]
    assert flower["config"] == apps.app_configuration() == {wire.PLAN_DIGEST: "", wire.RUN_ID: ""}
    assert flower["components"] == {
        "serverapp": apps.SERVER_COMPONENT,
        "clientapp": apps.CLIENT_COMPONENT,
    }
    assert flower["publisher"] == apps.PUBLISHER


def test_no_file_of_the_bundle_is_code():
    assert set(apps.bundle_files()) == {"pyproject.toml", "LICENSE", "fedapp.toml", ".info/CONTENT"}
