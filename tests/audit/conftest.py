"""The audits of `benchmarks/audit.py`, and what stands in for a broken product."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

_FILE = Path(__file__).parents[2] / "benchmarks" / "audit.py"
_SPEC: Any = importlib.util.spec_from_file_location("bench_audit", _FILE)
_AUDIT: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["bench_audit"] = _AUDIT
_SPEC.loader.exec_module(_AUDIT)


@pytest.fixture(scope="session")
def audit() -> Any:
    """The benchmark, as a module."""
    return _AUDIT


@pytest.fixture(scope="session")
def bounds() -> Any:
    """What is proved from counts."""
    return _AUDIT.bounds


@pytest.fixture(scope="session")
def worlds() -> Any:
    """Federations whose customers' gradients are orthogonal."""
    return _AUDIT.worlds


@pytest.fixture(scope="session")
def runs() -> Any:
    """The two audits."""
    return _AUDIT.runs
