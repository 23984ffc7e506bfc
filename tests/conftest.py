"""What holds for every test: one thread per library, no telemetry, real data only where it is."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch, numpy or flwr is imported: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

# A loaded machine is slow, not wrong; a failure prints how to repeat it.
settings.register_profile("house", deadline=None, print_blob=True)
# What decides over a submission draws the same examples each time; people's machines draw new ones.
settings.register_profile("ci", settings.get_profile("house"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "house")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets that `FEDPACT_DATA` names; they are not in the repository."""
    folder = os.environ.get("FEDPACT_DATA")
    if not folder:
        pytest.skip("FEDPACT_DATA does not name the folder of real data sets")
    return Path(folder)
