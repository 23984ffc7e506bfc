import os
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from clients.settings import NodeSettings
from fedcore.errors import ConflictError, ExpiredError, FedError, RefusedError, UnreachableError
from fedcore.record import Realm
from fedserver.settings import SETTINGS_VARIABLE, ServerSettings
from simulations.clock import ManualClock
from simulations.federation import Federation, Terms, UnitSetup, write_toml
from simulations.noise import SeededNoise
from simulations.paperwork import make_dpia, make_plan

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def federation(scenario, tmp_path):
    made = Federation(
        tmp_path / "world", scenario.contract, ManualClock(START), SeededNoise(1), Terms()
    )
    yield made
    made.close()


@pytest.fixture
def enrolled(federation, scenario, tmp_path):
    rows = pl.read_csv(tmp_path / "customers.csv", infer_schema=False)
    for unit in scenario.units:
        own = rows.filter(pl.col("branch") == unit.unit).drop("branch")
        federation.enrol(UnitSetup(unit.unit, own, unit.size_band, unit.epsilon_cap)).check()
    return federation


def test_every_part_of_the_world_lives_in_the_realm_simulation(enrolled):
    for unit in enrolled.units.values():
        assert NodeSettings.load(unit.settings).realm is Realm.SIMULATION
    server = ServerSettings.load(enrolled.root / "server" / "server.toml")
    assert server.realm is Realm.SIMULATION
    with enrolled.units["east"].node() as node:
        assert node.synchronise().realm is Realm.SIMULATION


def test_a_run_needs_a_dpia_in_force_and_then_runs(enrolled, scenario):
    plan = make_plan(scenario)
    digest = enrolled.register(plan)
    with pytest.raises(RefusedError) as error:
        enrolled.run(digest, "run-1")
    assert "dpia.missing" in error.value.codes
    enrolled.put_in_force(make_dpia(plan, scenario.contract, 4.0, enrolled.clock.now()))
    told = []
    enrolled.run(digest, "run-1", lambda report, model: told.append((report.round, len(model))))
    assert [round_ for round_, _ in told] == [1, 2, 3]
    assert SETTINGS_VARIABLE not in os.environ


def test_a_run_leaves_the_environment_as_it_was(enrolled, monkeypatch):
    monkeypatch.setenv(SETTINGS_VARIABLE, "mine")
    with pytest.raises(FedError):
        enrolled.run("sha256:" + "0" * 64, "run-1")
    assert os.environ[SETTINGS_VARIABLE] == "mine"


def test_time_passes_for_governance_and_nodes_alike(enrolled):
    with enrolled.units["east"].node() as node:
        first = node.synchronise()
        enrolled.tick(minutes=20)
        with pytest.raises(ExpiredError, match="too old"):
            node.opt_outs.verify_fresh(enrolled.clock)
        assert node.synchronise().issued_at == first.issued_at + timedelta(minutes=20)


def test_a_cut_line_reaches_nobody_until_it_is_mended(enrolled):
    unit = enrolled.units["east"]
    enrolled.cut_off = True
    with pytest.raises(UnreachableError), unit.node() as node:
        node.synchronise()
    enrolled.cut_off = False
    with unit.node() as node:
        node.synchronise()


def test_nodes_are_numbered_in_the_order_of_enrolment(enrolled):
    assert [enrolled.node_id(unit) for unit in ("east", "north", "west")] == [2, 3, 4]
    assert list(enrolled.grid.get_node_ids()) == [2, 3, 4]


def test_a_unit_is_enrolled_once(enrolled):
    setup = enrolled.units["east"].setup
    with pytest.raises(ConflictError):
        enrolled.enrol(setup)


def test_settings_of_any_text_are_read_back(tmp_path):
    values = {"api_key_file": 'a "quoted" \\ path', "realm": "simulation"}
    write_toml(
        tmp_path / "server.toml",
        {
            **values,
            "work_dir": "w",
            "governance_url": "http://governance",
            "governance_key": "0" * 64,
            "signing_key": "k",
            "model_name": "churn",
            "poll_interval_s": 0.5,
        },
    )
    loaded = ServerSettings.load(tmp_path / "server.toml")
    assert str(loaded.api_key_file) == values["api_key_file"]
    assert loaded.poll_interval_s == 0.5
