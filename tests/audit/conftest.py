"""The audits of `benchmarks/audit.py`, and what stands in for a broken product."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_FILE = Path(__file__).parents[2] / "benchmarks" / "audit.py"
_SPEC: Any = importlib.util.spec_from_file_location("bench_audit", _FILE)
_AUDIT: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["bench_audit"] = _AUDIT
_SPEC.loader.exec_module(_AUDIT)


@dataclass(frozen=True)
class Fault:
    """How many updates of each unit show a fault of the mechanism.

    Attributes:
        added: what the canary adds then, in units of the clip.
        noise: what share of the plan's noise there is.
    """

    count: int
    added: float
    noise: float


@pytest.fixture(scope="session")
def faults() -> dict[str, Fault]:
    """The faults of the mechanism that an audit of a logistic model of 64 inputs must notice.

    Gradients have norm 4, and the mean over 13 customers 4 / sqrt(13), which is clipped to 1.
    """
    return {
        "halved noise": Fault(1500, 1.0, 0.5),
        "noise on the mean": Fault(200, 1.0, 1 / 12),
        "clipped per batch": Fault(400, 13**0.5, 1.0),
    }


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
