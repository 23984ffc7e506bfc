"""Whole worlds for tests: made once, copied and opened again for each test."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

_FILE = Path(__file__).with_name("worlds.py")
_SPEC: Any = importlib.util.spec_from_file_location("flow_worlds", _FILE)
_WORLDS: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["flow_worlds"] = _WORLDS
_SPEC.loader.exec_module(_WORLDS)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Log lines of a hundred small runs help nobody; `structlog.testing` still sees them."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def worlds() -> Any:
    """The module of small worlds."""
    return _WORLDS


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed federation with three enrolled units and a DPIA in force."""
    root = tmp_path_factory.mktemp("template") / "world"
    _WORLDS.make_template(root)
    return root


@pytest.fixture
def build(template: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens worlds of their own: `build(plan, rows=..., **policy)`."""
    made: list[Any] = []

    def make(plan: Any = None, **changes: Any) -> Any:
        root = tmp_path / f"world-{len(made)}"
        _WORLDS.copy_world(template, root)
        made.append(_WORLDS.open_world(root, plan or _WORLDS.make_plan(), **changes))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def pair(worlds: Any) -> Any:
    """A plan over two units and two rounds: the smallest run."""
    return worlds.make_plan(("north", "south"), rounds=2)


@pytest.fixture
def server(build: Any, worlds: Any) -> Any:
    """A server that sends what it is told to, in a world of two units and three rounds."""
    return worlds.Server(build(worlds.make_plan(("north", "south"), rounds=3)))
