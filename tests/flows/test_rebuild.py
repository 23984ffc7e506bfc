"""A lost ledger is rebuilt from what governance holds: never less than the true one."""

import shutil
from pathlib import Path

import pytest

from clients import runtime
from clients.budget import Bound, events_under
from clients.ledger import Ledger
from clients.rebuild import rebuild
from clients.settings import NodeSettings
from clients.state import StateDir
from fedcore.errors import BudgetError, ConflictError, FedError, MismatchError, RollbackError
from fedcore.ledgers import LedgerHistory
from fedcore.privacy.accounting import renyi_epsilon
from governance.ledgers import load_history

PARTS = [Bound("history", "all", 0), Bound("line", "churn/small", 0), Bound("year", "2026", 0)]


def files_of(unit):
    return [unit.state_dir / f"ledger.db{end}" for end in ("", "-wal", "-shm")]


def lose(unit):
    for path in files_of(unit):
        path.unlink(missing_ok=True)


def rebuilt(world, unit):
    with runtime.SEAM.bound(world.federation.surroundings):
        return rebuild(NodeSettings.load(unit.settings), world.clock.now())


def spent(unit, parts=PARTS):
    with unit.node() as node:
        reserved = node.ledger.reservations()
    return [renyi_epsilon(events_under(bound, reserved), 1e-5) for bound in parts]


def test_a_rebuilt_ledger_counts_at_least_what_was_spent_and_goes_on(build, worlds, pair):
    world = build(pair)
    world.run()
    stopped = worlds.Server(world, "run-2")
    assert not isinstance(stopped.train("north"), str)  # reserved, and answered; no receipt known
    worlds.Server(world, "run-3")  # a permit that was never used
    unit = world.unit("north")
    parts = [*PARTS, Bound("purpose", worlds.PURPOSE, 0), Bound("purpose", worlds.PARENT, 0)]
    true = spent(unit, parts)
    lose(unit)
    assert rebuilt(world, unit) == 3
    counted = spent(unit, parts)
    assert all(more > less for more, less in zip(counted, true, strict=True))
    assert counted[0] == pytest.approx(renyi_epsilon([pair.run_event()] * 3, 1e-5))
    # No run of the lost ledger goes on: not the one that was answered, nor the unused permit.
    assert worlds.Server(world, "run-2").train("north") == "node.unavailable"
    with unit.node() as node:
        node.synchronise()  # governance takes it for what follows the head that it witnessed
        assert [entry.kind for entry in node.ledger.entries()] == ["open", *["reserve"] * 3]
    fresh = worlds.Server(world, "run-4")
    assert not isinstance(fresh.train("north"), str)


def test_nobody_goes_on_with_the_lost_ledger_once_the_rebuilt_one_is_witnessed(
    build, pair, tmp_path
):
    world = build(pair)
    world.run()
    unit = world.unit("north")
    shutil.copytree(unit.state_dir, tmp_path / "kept")
    lose(unit)
    rebuilt(world, unit)
    with unit.node() as node:
        node.synchronise()
    lose(unit)
    shutil.copy(tmp_path / "kept/ledger.db", unit.state_dir / "ledger.db")
    with pytest.raises(RollbackError) as error, unit.node() as node:
        node.synchronise()
    assert error.value.code == "ledger.rollback"


def test_a_rebuilt_ledger_knows_when_each_run_had_begun(build, worlds, pair):
    """A run with a receipt counts to the year of the receipt, one without to all years since."""
    world = build(pair)
    world.run()
    worlds.Server(world, "run-2")
    world.federation.tick(hours=24 * 400)
    unit = world.unit("north")
    lose(unit)
    rebuilt(world, unit)
    with unit.node() as node:
        years = {one.run_id: one.years for one in node.ledger.reservations()}
    assert years == {"run-1": (2026, 2026), "run-2": (2026, 2027)}


def test_a_ledger_that_holds_anything_is_never_replaced(build, pair):
    world = build(pair)
    world.run()
    unit = world.unit("north")
    before = spent(unit)
    with pytest.raises(ConflictError) as error:
        rebuilt(world, unit)
    assert error.value.code == "ledger.exists"
    assert spent(unit) == before
    lose(unit)
    files_of(unit)[1].write_bytes(b"what belonged to the lost file")
    with pytest.raises(ConflictError):
        rebuilt(world, unit)
    lose(unit)
    assert rebuilt(world, unit) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_its_write_point_a_rebuild_is_done_or_done_again(
    build, pair, tmp_path, monkeypatch, moment
):
    """What is on the disk at the renaming is all that a killed process leaves."""
    world = build(pair)
    world.run()
    unit, left = world.unit("north"), tmp_path / "left"
    true = spent(unit)
    lose(unit)
    real = Path.replace

    def watched(path, target):
        if moment == "after":
            real(path, target)
        shutil.copytree(unit.state_dir, left)
        return None if moment == "after" else real(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", watched)
        rebuilt(world, unit)
    shutil.rmtree(unit.state_dir)
    shutil.copytree(left, unit.state_dir)
    assert files_of(unit)[0].exists() == (moment == "after")
    if moment == "before":
        rebuilt(world, unit)
    assert all(more >= less for more, less in zip(spent(unit), true, strict=True))
    with unit.node() as node:
        node.synchronise()


def test_nothing_opens_a_new_ledger(build, worlds, pair):
    """Neither another extract nor another state directory, under the same keys or fresh ones."""
    world = build(pair)
    world.run()
    unit = world.unit("north")
    true = spent(unit)
    unit.write_rows(worlds.make_rows("other", 35))
    unit.check()
    assert spent(unit) == true
    state = StateDir(unit.state_dir)
    lose(unit)
    Ledger.create(state.ledger, "north", "crm", world.clock.now())
    with pytest.raises(RollbackError), unit.node() as node:
        node.synchronise()
    assert rebuilt(world, unit) == 1  # what `node init` has made is replaced
    assert spent(unit)[0] >= true[0]
    with unit.node() as node:
        node.synchronise()


def test_a_history_of_another_unit_or_request_is_refused(build, pair, monkeypatch):
    world = build(pair)
    world.run()
    unit = world.unit("north")
    lose(unit)
    kept = []

    def replaying(desk, envelope):
        kept.append(load_history(desk, envelope))
        return kept[0]

    monkeypatch.setattr("governance.ledgers.load_history", replaying)
    assert rebuilt(world, unit) == 1
    lose(unit)
    with pytest.raises(MismatchError) as error:
        rebuilt(world, unit)
    assert error.value.code == "ledger.other_answer"
    assert not files_of(unit)[0].exists()


@pytest.mark.parametrize("lacking", ["plans", "permits"])
def test_a_history_that_lacks_what_it_speaks_of_is_refused(build, pair, monkeypatch, lacking):
    world = build(pair)
    world.run()
    unit = world.unit("north")
    lose(unit)
    monkeypatch.setattr(
        "governance.ledgers.LedgerHistory",
        lambda **fields: LedgerHistory(**{**fields, lacking: ()}),
    )
    with pytest.raises(FedError) as error:
        rebuilt(world, unit)
    assert error.value.code == "ledger.rebuild_incomplete"
    monkeypatch.undo()
    assert rebuilt(world, unit) == 1


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("year_epsilon_cap = {cap}", "budget.year_exceeded"),
        ("line_epsilon_cap = {cap}", "budget.line_exceeded"),
        ("[purpose_epsilon_caps]\n{parent} = {cap}", "budget.purpose_exceeded"),
    ],
)
def test_a_bound_of_the_policy_stops_a_second_run(build, worlds, pair, setting, code):
    world = build(pair)
    unit = world.unit("north")
    # The first run will have ended without its spare round, which is then free again.
    first = pair.run_event().model_copy(update={"steps": pair.rounds})
    both = renyi_epsilon([first, pair.run_event()], 1e-5)
    written = unit.settings.read_text()
    said = setting.format(cap=both * 0.999, parent=worlds.PARENT)
    unit.settings.write_text(f"{written}\n{said}\n")
    world.run()
    server = worlds.Server(world, "run-2")
    assert server.train("north") == "node.unavailable"
    with unit.node() as node:
        assert [one.run_id for one in node.ledger.reservations()] == ["run-1"]
        with pytest.raises(BudgetError) as error:
            node.train(server.request(server.order("north")))
        assert error.value.codes == (code,)
    unit.settings.write_text(written)  # what was reserved under a bound stays under it
    assert server.train("north") == "node.unavailable"
