"""Stages for the node's engine: a desk without a SuperLink, and a real SuperLink."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _module(name: str) -> ModuleType:
    spec: Any = importlib.util.spec_from_file_location(
        f"engine_{name}", Path(__file__).with_name(f"{name}.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def staging() -> Any:
    """The module of stages and nodes."""
    return _module("stage")


@pytest.fixture(scope="session")
def desks() -> Any:
    """The module of desks."""
    return _module("desk")


@pytest.fixture
def desk(desks: Any, tmp_path: Path) -> Iterator[Any]:
    """A SuperNode's loopback interface, with tasks put on it by hand."""
    with desks.Desk(tmp_path) as desk:
        yield desk


@pytest.fixture
def stage(staging: Any, tmp_path: Path) -> Iterator[Any]:
    """A SuperLink."""
    opened = staging.open_stage(tmp_path / "stage")
    yield opened
    opened.superlink.kill()


@pytest.fixture
def started(staging: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a registered node of ours; it is ended with the test."""
    with ExitStack() as nodes:

        def start(stage: Any, environment: dict[str, str] | None = None) -> Any:
            node = staging.make_node(tmp_path / "node", stage)
            node.process.environment = environment or {}
            nodes.callback(node.process.kill)
            stage.register(node.transport_key)
            node.process.start()
            node.wait_well()
            return node

        yield start
