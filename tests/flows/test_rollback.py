"""A restored old disk does not give a budget back."""

import shutil
import sqlite3

import pytest

from clients.ledger import Ledger
from fedcore.errors import RollbackError


def restore(kept, unit):
    shutil.rmtree(unit.state_dir)
    shutil.copytree(kept, unit.state_dir)


@pytest.mark.parametrize("moment", ["before the run", "after the first round"])
def test_an_old_copy_of_a_state_directory_is_refused_by_governance(build, worlds, tmp_path, moment):
    world = build(worlds.make_plan(("north", "south"), rounds=2))
    unit, old, new = world.unit("north"), tmp_path / "old", tmp_path / "new"
    if moment == "before the run":
        shutil.copytree(unit.state_dir, old)
    world.run(watch=lambda report: old.exists() or shutil.copytree(unit.state_dir, old))
    shutil.copytree(unit.state_dir, new)
    restore(old, unit)
    with pytest.raises(RollbackError) as error, unit.node() as node:
        node.synchronise()
    assert error.value.code == "ledger.rollback"
    assert "restore its newest state" in error.value.public
    server = worlds.Server(world, "run-2")
    assert server.train("north") == "node.unavailable"
    with unit.node() as node:
        assert [e.kind for e in node.ledger.entries()].count("reply") < 2
    # The twin: with the newest copy the unit goes on.
    restore(new, unit)
    with unit.node() as node:
        node.synchronise()
    assert not isinstance(server.train("north"), str)


def test_an_old_copy_cannot_hide_behind_a_cut_line_for_more_than_one_round(build, worlds, tmp_path):
    """Without governance a node runs at most one round ahead of what was witnessed."""
    world = build(worlds.make_plan(("north", "south"), rounds=3))
    unit, old = world.unit("north"), tmp_path / "old"
    with unit.node() as node:
        node.synchronise()
    shutil.copytree(unit.state_dir, old)
    server = worlds.Server(world)
    world.federation.cut_off = True
    assert server.train("north") == "node.unavailable"  # a reservation must be witnessed
    world.federation.cut_off = False
    assert not isinstance(server.train("north", attempt_2(server)), str)
    world.federation.cut_off = True
    restore(old, unit)
    assert server.train("north") == "node.unavailable"


def attempt_2(server):
    return server.request(server.order("north", attempt=2))


def test_a_ledger_made_anew_is_refused_by_governance(build, worlds, pair):
    world = build(pair)
    world.run()
    unit = world.unit("north")
    (unit.state_dir / "ledger.db").unlink()
    Ledger.create(unit.state_dir / "ledger.db", "north", "crm", world.clock.now())
    with pytest.raises(RollbackError) as error, unit.node() as node:
        node.synchronise()
    assert error.value.code == "ledger.rollback"
    assert worlds.Server(world, "run-2").train("north") == "node.unavailable"


def test_entries_that_governance_witnessed_cannot_be_cut_off_offline_either(build, worlds, pair):
    """The node itself remembers the witnessed head."""
    world = build(pair)
    world.run()
    unit = world.unit("north")
    connection = sqlite3.connect(unit.state_dir / "ledger.db")
    connection.executescript(
        "DROP TRIGGER entries_kept; DELETE FROM entries WHERE sequence > 3; DELETE FROM replies;"
    )
    connection.close()
    with pytest.raises(RollbackError) as error:
        unit.check()
    assert error.value.code == "ledger.rollback"
    assert worlds.Server(world, "run-2").call_roll("north") == "node.unavailable"


def test_an_old_bulletin_store_brings_no_customer_back(build, worlds, pair, tmp_path):
    """Opt-outs that governance confirmed come again with the next bulletin."""
    restored, untouched = build(pair), build(pair)
    for world in (restored, untouched):
        unit = world.unit("north")
        with unit.node() as node:
            node.synchronise()
        if world is restored:
            shutil.copy(unit.state_dir / "bulletin.db", tmp_path / "old.db")
        unit.opt_out("N001", worlds.PURPOSE)
        with unit.node() as node:
            node.synchronise()
    shutil.copy(tmp_path / "old.db", restored.unit("north").state_dir / "bulletin.db")
    restored.run()
    untouched.run()
    assert restored.updates() == untouched.updates()
