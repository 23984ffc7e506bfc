"""`kill -9` at every durable write of a run: nothing is under-counted, nothing is half applied."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

WALK = Path(__file__).with_name("walk.py")
KNOWN = Path(__file__).parents[1] / "reference" / "write_points.json"
# After these the fast suite kills: an order is charged; a run is closed; an answer is kept.
SAMPLE = (
    "first ledger.db: commit of INSERT entries",
    "ledger.db: commit of INSERT entries",
    "ledger.db: commit of INSERT replies, INSERT entries",
)


# Each walker is one process that computes all the time.
WALKERS = 2


def walk(home, *words):
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(WALK), str(home), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """The points of a run, and a walk through those of the sample."""
    return walk(tmp_path_factory.mktemp("walk"), "sample", *SAMPLE)


def test_every_durable_write_has_a_case(sampled):
    known = json.loads(KNOWN.read_text())
    found = set(sampled["points"])
    assert found <= set(known), (
        f"new durable writes: {sorted(found - set(known))}. Run `pytest -m slow "
        "tests/flows/test_kill.py`, which kills at each of them; when that passes, say in "
        "tests/reference/write_points.json what a crash there leaves behind"
    )
    assert set(known) <= found, (
        f"writes that no longer happen: {sorted(set(known) - found)}. Remove them from "
        "tests/reference/write_points.json"
    )


def test_a_sample_of_kills_leaves_nothing_wrong_and_the_run_goes_on(sampled):
    assert len(sampled["results"]) == len(SAMPLE)
    assert {point: wrong for point, wrong in sampled["results"].items() if wrong} == {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_kill_at_every_durable_write_leaves_nothing_wrong_and_the_run_goes_on(tmp_path):
    with ThreadPoolExecutor(WALKERS) as pool:
        halves = [
            pool.submit(walk, tmp_path / str(part), "walk", str(part), str(WALKERS))
            for part in range(WALKERS)
        ]
        found = [half.result() for half in halves]
    points = found[0]["points"]
    results = {point: wrong for half in found for point, wrong in half["results"].items()}
    places = [result.split(" ", 2) for result in results]
    assert {int(index) for index, _, _ in places} == set(range(len(points)))
    sides = {(side, kind) for _, side, kind in places}
    assert sides == {(side, kind) for side in ("before", "after") for kind in points}
    assert {point: wrong for point, wrong in results.items() if wrong} == {}
