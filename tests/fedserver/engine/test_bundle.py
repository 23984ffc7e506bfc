import hashlib
import io
import zipfile
from typing import Any

import pytest
from flwr.cli.build import build_fab_from_files
from flwr.cli.config_utils import get_fab_metadata
from flwr.superlink.servicer.control import control_handlers

from fedcore import wire
from fedcore.apps import app_files, bundle_files
from fedserver.engine.bundle import build_bundle, bundle_hash


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_the_bundle_is_what_flowers_own_builder_makes_of_the_same_files():
    assert build_bundle() == build_fab_from_files(app_files())[0]


def test_the_bundle_is_the_same_each_time_and_is_named_by_its_hash():
    assert build_bundle() == build_bundle()
    assert bundle_hash() == hashlib.sha256(build_bundle()).hexdigest()


def test_the_bundle_holds_exactly_the_agreed_files_and_no_code():
    with zipfile.ZipFile(io.BytesIO(build_bundle())) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == bundle_files()
    assert not [name for name in found if name.endswith((".py", ".so", ".pyc", ".pth"))]


def test_flower_reads_the_bundle_and_takes_plan_and_run_id_as_its_configuration():
    publisher_and_name, _ = get_fab_metadata(build_bundle())
    assert publisher_and_name == "fedpact/fedpact"
    handlers: Any = control_handlers
    config = handlers.get_fab_config(build_bundle())["tool"]["flwr"]["app"]["config"]
    assert set(config) == {wire.PLAN_DIGEST, wire.RUN_ID}
