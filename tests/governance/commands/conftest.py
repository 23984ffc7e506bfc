"""A service that runs as a process of its own, over TLS, as its operator has made it."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_FILE = Path(__file__).parents[2] / "services.py"
_SPEC: Any = importlib.util.spec_from_file_location("services_of_commands", _FILE)
_SERVICES: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_SERVICES)


@pytest.fixture(scope="session")
def run() -> Callable[..., tuple[int, str]]:
    """Runs `fedpact governance` in this process; returns exit code and output."""

    def governance(*arguments: object, typed: str | None = None) -> tuple[int, str]:
        return _SERVICES.fedpact("governance", *arguments, typed=typed)  # type: ignore[no-any-return]

    return governance


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A service with an administrator (`admin.key`) and a compliance officer (`carla.key`)."""
    made = _SERVICES.Service(tmp_path_factory.mktemp("service") / "office")
    process = made.open()
    yield made
    process.terminate()
    process.wait(30)
