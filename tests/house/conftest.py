"""The source files that the house rules are about."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGES = ("fedcore", "fedserver", "clients", "governance", "registry", "simulations")


@dataclass(frozen=True)
class Source:
    """One Python file: its path below the repository, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        return [node for node in ast.walk(self.tree) if isinstance(node, kinds)]


def _read(root: Path, folder: str) -> list[Source]:
    paths = sorted((root / folder).rglob("*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    return [
        Source(path.relative_to(root), text, ast.parse(text, str(path)))
        for path, text in texts.items()
    ]


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the repository."""
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def product(root) -> list[Source]:
    """Every file of the packages."""
    return [source for package in PACKAGES for source in _read(root, package)]


@pytest.fixture(scope="session")
def around(root) -> list[Source]:
    """Every Python file beside the packages."""
    return [
        source for folder in ("tests", "benchmarks", "migrations") for source in _read(root, folder)
    ]
