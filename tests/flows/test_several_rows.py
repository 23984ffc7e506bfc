"""Several rows of a customer at a node: one Example, one word that counts, one line of record."""

import polars as pl
import pytest

from clients.settings import NodeSettings
from clients.subject_reports import make_report
from fedcore.contracts import RowsRule
from fedcore.errors import DataError
from simulations.clock import ManualClock
from simulations.federation import Federation
from simulations.noise import SeededNoise
from simulations.paperwork import make_dpia

COUNT = 12


@pytest.fixture
def contract(worlds):
    rule = RowsRule(most=3, rule="drawn/1")
    return worlds.make_contract().model_copy(update={"rows_per_customer": rule})


@pytest.fixture
def federation(worlds, contract, tmp_path):
    """At one of two units N000 has one row, the next customers more, and from N004 on five."""
    made = Federation(tmp_path, contract, ManualClock(worlds.START), SeededNoise(1))
    rows = worlds.make_rows("north", COUNT)
    more = [rows.slice(place).with_columns(tenure=pl.lit(str(place))) for place in range(1, 5)]
    made.enrol(worlds.setup_of("north", pl.concat([rows, *more])))
    made.enrol(worlds.setup_of("south", worlds.make_rows("south", COUNT))).check()
    yield made
    made.close()


def test_a_run_records_each_customer_once_and_an_opt_out_takes_all_rows_out(
    worlds, contract, federation
):
    plan = worlds.make_plan(("north", "south"), contract=contract.digest)
    federation.put_in_force(make_dpia(plan, contract, 50.0, worlds.START))
    unit, digest = federation.units["north"], federation.register(plan)
    with unit.node() as node:
        faults = node.check(contract.digest)
        examples = node.examples(plan)
    assert (faults.counts, faults.crowded) == ((), COUNT - 3)
    assert examples.counts.tolist() == [1, 2] + [3] * (COUNT - 2)
    federation.run(digest, "run-1")
    unit.opt_out(" n005 ", worlds.PURPOSE)
    with unit.node() as node:
        left = node.examples(plan)
    assert set(examples.identifiers) - set(left.identifiers) == {"N005"}
    assert left.counts.sum() == examples.counts.sum() - 3
    federation.tick(minutes=1)
    federation.run(digest, "run-2")
    settings = NodeSettings.load(unit.settings)
    said = {}
    for name in ("n004", "N005"):
        report = make_report(settings, name, federation.clock.now())
        said[name] = [{one.customer for one in run.exchanges} for run in report.runs]
        assert {run.about["rows_per_customer"] for run in report.runs} == {3}
    assert said == {"n004": [{"in"}, {"in"}], "N005": [{"in"}, {"out"}]}


def test_without_the_contracts_word_the_same_rows_make_the_node_unavailable(
    worlds, federation, tmp_path
):
    rows = pl.read_csv(federation.units["north"].source, infer_schema=False)
    plain = Federation(
        tmp_path / "plain", worlds.make_contract(), ManualClock(worlds.START), SeededNoise(1)
    )
    unit = plain.enrol(worlds.setup_of("north", rows))
    with pytest.raises(DataError) as error:
        unit.check()
    plain.close()
    assert error.value.code == "data.duplicate_subject"
