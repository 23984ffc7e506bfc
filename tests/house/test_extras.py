"""Each extra is enough for its commands, and the base install for `verify`.

An extra "installed alone" is a folder with links to just those installed distributions that the
extra requires, directly or through others, seen by an interpreter that has no other packages
(`-S`). A real environment for each would unpack torch four times and take longer than all other
tests together. What differs: pip chose the versions once, for the development extra.
"""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow

GROUPS = {
    "node": "node",
    "server": "server",
    "governance": "governance",
    "simulation": "simulate",
    "demo": "demo",
}
# A group that imports late shows its help without the extra; its work is what needs it.
NEEDING = {
    **{extra: [command, "--help"] for extra, command in GROUPS.items()},
    "server": ["server", "start", "-s", "none.toml"],
    "governance": ["governance", "serve", "-s", "none.toml"],
}
RUN = "import sys; from fedcore.cli import main; sys.argv[0] = 'fedpact'; main()"


def closure(extra):
    """The names of all distributions that `fedpact[extra]` requires, itself included."""
    seen = set()
    pending = [("fedpact", frozenset({extra} if extra else ()))]
    while pending:
        name, extras = pending.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            wanted = [{"extra": one} for one in extras] or [{"extra": ""}]
            marker = requirement.marker
            if marker is None or any(marker.evaluate(environment) for environment in wanted):
                pending.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {name for name, _ in seen}


def link(name, folder):
    """Link the top-level files and folders of an installed distribution into `folder`."""
    installed = distribution(name)
    site = Path(str(installed.locate_file("")))
    tops = {Path(str(path)).parts[0] for path in installed.files or []}
    for top in tops - {"..", "__pycache__"}:
        if not (folder / top).exists():
            (folder / top).symlink_to(site / top)


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    """Return a function that makes the folder of an environment with one extra (or none)."""
    made = {}

    def make(extra):
        if extra not in made:
            made[extra] = tmp_path_factory.mktemp(extra or "base")
            for name in sorted(closure(extra)):
                link(name, made[extra])
        return made[extra]

    return make


def fedpact(folder, root, *arguments):
    """Run `fedpact` where only what lies in `folder`, and our own packages, can be imported."""
    environment = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(root)]),
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "COLUMNS": "100",
    }
    return subprocess.run(
        [sys.executable, "-S", "-c", RUN, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_environment_of_an_extra_hides_all_other_distributions(site):
    program = "from importlib.metadata import distribution; distribution({!r})"
    for name, there in (("rfc8785", True), ("torch", False), ("pytest", False)):
        command = [sys.executable, "-S", "-c", program.format(name)]
        environment = {"PYTHONPATH": str(site(""))}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert (done.returncode == 0) is there


@pytest.mark.parametrize(
    "arguments", [("verify", "--help"), ("log", "--help"), ("log", "verify", "--help")]
)
def test_the_base_install_is_enough_for_an_auditor(site, root, arguments):
    done = fedpact(site(""), root, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Usage: fedpact" in done.stdout


@pytest.mark.parametrize(("extra", "command"), GROUPS.items())
def test_each_extra_alone_is_enough_for_its_command(site, root, extra, command):
    done = fedpact(site(extra), root, command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"Usage: fedpact {command}" in done.stdout


@pytest.mark.parametrize(
    ("extra", "modules"),
    [
        ("", ["fedcore.verify", "fedcore.bundle"]),
        ("node", ["clients.app"]),
        ("server", ["fedserver.app"]),
        ("governance", ["governance.app"]),
        ("simulation", ["simulations.federation"]),
    ],
)
def test_each_extra_alone_is_enough_for_the_program_behind_its_command(site, root, extra, modules):
    program = "; ".join(f"import {module}" for module in modules)
    environment = {
        "PYTHONPATH": os.pathsep.join([str(site(extra)), str(root)]),
        "HOME": str(site(extra)),
        "FLWR_TELEMETRY_ENABLED": "0",
    }
    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("extra", "arguments"), NEEDING.items())
def test_the_base_install_names_the_extra_that_a_command_needs(site, root, extra, arguments):
    done = fedpact(site(""), root, *arguments)
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"pip install 'fedpact[{extra}]'" in done.stderr


def test_every_version_that_the_extras_need_is_pinned(root):
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert [str(pin) for pin in pins if [s.operator for s in pin.specifier] != ["=="]] == []
    assert [str(pin) for pin in pins if pin.url or "+" in str(pin.specifier)] == []
    pinned = {canonicalize_name(pin.name) for pin in pins}
    # setuptools comes with Python's own venv; torch names it only to be sure of it.
    # A build of torch for graphics cards names their runtime itself, each with an exact version.
    needed = {n for n in closure("dev") if not n.startswith(("nvidia-", "cuda-", "triton"))}
    assert needed - pinned - {"fedpact", "setuptools"} == set()


def test_every_pin_lies_in_the_declared_range(root):
    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = pyproject["optional-dependencies"].values()
    declared = [Requirement(text) for text in [*pyproject["dependencies"], *chain(*extras)]]
    outside = []
    for requirement in declared:
        try:
            version = distribution(requirement.name).version
        except PackageNotFoundError:
            outside.append(requirement.name)
        else:
            outside += [] if requirement.specifier.contains(version) else [requirement.name]
    assert outside == []
