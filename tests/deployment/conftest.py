"""Worlds of real processes for tests; each module opens its own and shares it."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def _load(name: str) -> Any:
    path = Path(__file__).with_name(f"{name}.py")
    spec: Any = importlib.util.spec_from_file_location(f"deployment_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_WORLDS, _ATTACKER = _load("worlds"), _load("attacker")


@pytest.fixture(scope="session")
def worlds() -> Any:
    """The module of deployments."""
    return _WORLDS


@pytest.fixture(scope="session")
def attackers() -> Any:
    """The module of malicious operators."""
    return _ATTACKER


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One production deployment of three units for all tests; each leaves it able to go on."""
    root = tmp_path_factory.mktemp("deployment") / "world"
    with _WORLDS.prepared(root, _WORLDS.UNITS) as deployment:
        yield deployment


@pytest.fixture
def sound(world: Any) -> Any:
    """The world with everything running and well, whatever the test before has done to it."""
    _WORLDS.mend(world)
    return world


@pytest.fixture(scope="session")
def spare(world: Any) -> Any:
    """A unit that is enrolled and checked, and whose node has never been started."""
    _WORLDS.mend(world)
    found = world.join(_WORLDS.setup_of("delta"))
    del world.nodes["delta"]
    world.server.admit()
    return found
