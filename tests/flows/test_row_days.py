"""A row leaves a node's reading by the node's own clock, on the day after its last one."""

from datetime import timedelta

import polars as pl
import pytest

from fedcore.contracts import DayRule
from fedcore.errors import DataError
from simulations.clock import ManualClock
from simulations.federation import Federation
from simulations.noise import SeededNoise

COUNT = 8


@pytest.fixture
def contract(worlds):
    changes = {"row_day": DayRule(column="seen", rule="iso-day/1"), "retention_days": 10}
    return worlds.make_contract().model_copy(update=changes)


@pytest.fixture
def federation(worlds, contract, tmp_path):
    """One unit whose rows are from the last days, one day apart: the oldest has one day left."""
    made = Federation(tmp_path, contract, ManualClock(worlds.START), SeededNoise(1))
    today = worlds.START.date()
    days = [(today - timedelta(days=10 - place)).isoformat() for place in range(COUNT)]
    rows = worlds.make_rows("north", COUNT).with_columns(pl.Series("seen", days))
    made.enrol(worlds.setup_of("north", rows))
    yield made
    made.close()


def test_each_day_a_node_reads_one_row_less_and_its_check_says_how_many(
    worlds, contract, federation
):
    plan = worlds.make_plan(contract=contract.digest)
    for past in range(COUNT):
        with federation.units["north"].node() as node:
            assert node.check(contract.digest).past_retention == past
            assert len(node.examples(plan).labels) == COUNT - past
        federation.clock.tick(timedelta(days=1))
    with federation.units["north"].node() as node, pytest.raises(DataError) as error:
        node.check(contract.digest)
    assert error.value.code == "data.empty"
