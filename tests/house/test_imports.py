"""Who may import whom. `make lint` checks the contracts; here they are shown to bite."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGES = ("fedcore", "fedserver", "clients", "governance", "registry", "simulations")

# For each contract of pyproject.toml one import that breaks it: (contract id, module, import).
FORBIDDEN = [
    ("directions", "registry/probe.py", "import governance.app"),
    ("floors-of-fedcore", "fedcore/record.py", "import fedcore.plans"),
    ("no-database-outside-governance", "clients/probe.py", "import registry.database"),
    ("governance-without-torch", "governance/probe.py", "import fedcore.wire"),
    ("torch-in-two-rooms", "fedcore/probe.py", "import torch.nn"),
    ("flwr-in-one-file", "fedcore/probe.py", "import flwr.app"),
    ("httpx-in-one-file", "fedcore/probe.py", "import httpx"),
    ("decisions-are-pure", "governance/decisions/probe.py", "import time"),
    ("tables-stay-in-registry", "simulations/probe.py", "import registry.tables"),
    ("node-sql-in-three-files", "clients/probe.py", "import sqlite3"),
    ("node-http-in-one-file", "clients/probe.py", "import starlette.applications"),
]

# What `governance/decisions` may use beside fedcore: no clock, no chance, no input or output.
PURE = {
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "math",
    "typing",
}

BLOCKED_IMPORT = """
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "opacus", "flwr"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocked())
importlib.import_module(sys.argv[1])
"""


@pytest.fixture(scope="module")
def contracts(root):
    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return {c["id"]: c["name"] for c in pyproject["tool"]["importlinter"]["contracts"]}


@pytest.fixture
def copy(root, tmp_path):
    """A copy of the packages, to break rules in."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / package, tmp_path / package, ignore=ignored)
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder):
    """The exit code and the text of `lint-imports`, run on the packages in `folder`."""
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--no-logo"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_all_import_contracts_are_kept(root, contracts):
    code, report = lint(root)
    assert code == 0, report
    assert f"{len(contracts)} kept, 0 broken" in report


def test_every_contract_is_broken_by_an_import_that_it_forbids(copy, contracts):
    assert {contract for contract, _, _ in FORBIDDEN} == set(contracts)
    for _, module, statement in FORBIDDEN:
        with (copy / module).open("a", encoding="utf-8") as file:
            file.write(f"{statement}\n")
    code, report = lint(copy)
    assert code == 1
    assert [name for name in contracts.values() if f"{name} BROKEN" not in report] == []


@pytest.mark.parametrize("module", ["governance.app", "registry.database", "fedcore.verify"])
def test_governance_imports_where_torch_opacus_and_flwr_are_not_installed(root, module):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED_IMPORT, module],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def imported_names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_decisions_use_fedcore_and_pure_modules_only(product):
    decisions = [s for s in product if s.path.parts[:2] == ("governance", "decisions")]
    assert [
        f"{source.path}: {name}"
        for source in decisions
        for name in imported_names(source.tree)
        if name.partition(".")[0] not in PURE | {"fedcore"}
        and not name.startswith("governance.decisions")
    ] == []


def test_decisions_take_the_time_and_never_ask_for_it(product):
    decisions = [s for s in product if s.path.parts[:2] == ("governance", "decisions")]
    clocks = {"now", "utcnow", "today"}
    assert [
        f"{source.path}:{node.lineno}"
        for source in decisions
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in clocks
    ] == []


def test_every_library_that_is_imported_is_declared(root, product):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shipped = {k: v for k, v in project["optional-dependencies"].items() if k != "dev"}
    texts = chain(project["dependencies"], *shipped.values())
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    known = packages_distributions()
    tops = {name.partition(".")[0] for s in product for name in imported_names(s.tree)}
    foreign = tops - set(PACKAGES) - sys.stdlib_module_names
    assert {
        top for top in foreign if not {canonicalize_name(d) for d in known.get(top, [])} & declared
    } == set()
