"""A unit rehearses a whole round through the real processes, and nothing of its own has moved."""

import os
import re
import subprocess
import sys

import pytest

from simulations.rehearsal import PASSED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def node(spare):
    return spare


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_rehearsal_passes_and_leaves_the_units_own_state_byte_for_byte(world, node):
    before = contents(node.state_dir)
    assert "ledger.db" in before
    done = node.run("rehearse", "--contract", world.contract.digest)
    assert done.exit_code == 0, done.output
    *steps, last = done.output.splitlines()
    assert last == PASSED
    assert len(steps) >= 6
    assert all(re.match(r" *\d+\.\d s  \S", step) for step in steps)
    assert contents(node.state_dir) == before
    assert {entry.kind for entry in node.ledger()} == {"open"}


def test_a_policy_that_fits_no_run_is_found_out_by_rehearsing(world, node):
    text = node.settings.read_text()
    try:
        node.set(purposes=["service-quality"])
        done = node.run("rehearse", "--contract", world.contract.digest)
    finally:
        node.settings.write_text(text)
    assert done.exit_code == 1
    assert "(rehearsal.no_purpose)" in done.output
    assert PASSED not in done.output


def test_a_contract_that_the_node_does_not_keep_is_not_fetched_for_it(node):
    done = node.run("rehearse", "--contract", "sha256:" + "0" * 64)
    assert done.exit_code == 1
    assert "(rehearsal.contract_missing)" in done.output


def test_without_the_extra_the_rehearsal_names_it(world, node, tmp_path):
    (tmp_path / "sqlmodel.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'sqlmodel'\", name='sqlmodel')\n"
    )
    contract = (
        node.state_dir / "contracts" / f"{world.contract.digest.removeprefix('sha256:')}.json"
    )
    done = subprocess.run(
        [sys.executable, "-m", "simulations.rehearsal", str(node.settings), str(contract)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "pip install 'fedpact[simulation]'" in done.stderr
