"""What is shipped: the packages, their data and the licence; nothing else."""

import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOMS = {"fedcore", "fedserver", "clients", "governance", "registry", "simulations", "migrations"}


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # The build backend is of the development extra: nothing is fetched.
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(root)], check=True)
    (path,) = folder.glob("fedpact-*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def content(wheel, name):
    (path,) = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path)


def test_the_wheel_holds_the_packages_and_nothing_beside_them(wheel):
    tops = {Path(name).parts[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == ROOMS


def test_the_wheel_holds_every_tracked_file_of_the_packages(root, wheel):
    tracked = {
        str(path.relative_to(root))
        for room in ROOMS
        for path in (root / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert tracked - set(wheel.namelist()) == set()


def test_migrations_are_data_that_cannot_be_imported_as_a_package(wheel):
    migrations = [name for name in wheel.namelist() if name.startswith("migrations/")]
    assert "migrations/env.py" in migrations
    assert "migrations/script.py.mako" in migrations
    assert any(name.startswith("migrations/versions/") for name in migrations)
    assert not any(name.endswith("__init__.py") for name in migrations)


def test_the_wheel_carries_its_licence_and_says_which(root, wheel):
    assert content(wheel, "licenses/LICENSE") == (root / "LICENSE").read_bytes()
    assert message_from_bytes(content(wheel, "METADATA"))["License-Expression"] == "Apache-2.0"


def test_the_wheel_says_that_the_packages_are_typed(wheel):
    typed = {name.partition("/")[0] for name in wheel.namelist() if name.endswith("/py.typed")}
    assert typed == ROOMS - {"migrations"}
