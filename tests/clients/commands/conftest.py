"""A unit that was set up, and its commands."""

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fedcore import cli
from simulations import deployment_processes


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A loopback port on which nobody listens."""
    return deployment_processes.free_port


@pytest.fixture
def node() -> Callable[..., tuple[int, str]]:
    """Call `fedpact node ...`; returns exit code and output."""

    def call(*arguments: object) -> tuple[int, str]:
        entry = EntryPoint("node", "clients.cli:app [node]", cli.COMMANDS_GROUP)
        result = CliRunner().invoke(
            cli.RootCommand({"node": entry}), ["node", *map(str, arguments)], env={"COLUMNS": "200"}
        )
        failed = result.exception
        assert failed is None or isinstance(failed, SystemExit), failed
        return result.exit_code, result.output

    return call


@pytest.fixture
def write_settings(tmp_path: Path) -> Callable[..., Path]:
    """Write the settings of a unit, with changes."""

    def write(**changes: Any) -> Path:
        values = {
            "unit": "north",
            "state_dir": str(tmp_path / "state"),
            "source": str(tmp_path / "customers.csv"),
            "governance_url": "http://127.0.0.1:9",
            "governance_key": "ab" * 32,
            "subject_namespace": "customer-number",
            "epsilon_cap": 4.0,
            "delta": 1e-5,
            "size_band": 1024,
            "purposes": ["retention"],
            **changes,
        }
        path = tmp_path / "node.toml"
        path.write_text(
            "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
        )
        return path

    return write
