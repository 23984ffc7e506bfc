"""Sent updates are deleted at the node when their time is over: not earlier, for good, and told."""

import os
import shutil
import signal
import sqlite3
from contextlib import closing
from datetime import timedelta
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from clients import runtime
from clients.ledger_entries import Entry
from clients.ledger_export import export_ledger, read_export
from clients.replies import decode_reply
from clients.settings import NodeSettings
from clients.state import StateDir
from clients.sweeps import decide_due, sweep
from fedcore import cli
from fedcore.errors import ConflictError, RollbackError, TrustError
from fedcore.holds import open_holds
from fedcore.rounds import Order
from simulations.clock import ManualClock

LATER = timedelta(days=3)


def swept(world, name="north", clock=None, days=2, *, dry_run=False):
    """Sweep a unit whose settings keep updates for some days; returns, of each run, how many
    answers were kept, due and held.
    """
    unit = world.unit(name)
    with runtime.SEAM.bound(world.federation.surroundings):
        settings = NodeSettings.load(unit.settings)
        settings = settings.model_copy(update={"update_retention_days": days})
        _, found = sweep(settings, clock or world.clock, dry_run=dry_run)
    return [(one.run_id, one.kept, len(one.due), one.held) for one in found]


def stored(world, name="north"):
    with closing(sqlite3.connect(world.unit(name).state_dir / "ledger.db")) as connection:
        return [bytes(row[0]) for row in connection.execute("SELECT reply FROM replies")]


def synchronise(world, name="north"):
    with world.unit(name).node() as node:
        node.synchronise()


def holds_of(world):
    return open_holds(StateDir(world.unit("north").state_dir).holds)


@pytest.fixture
def world(build, pair):
    """A finished run of two rounds, whose answers may be kept for two days."""
    world = build(pair)
    world.run()
    return world


def test_an_answer_goes_when_its_days_are_over_and_the_ledger_says_so(world, pair):
    world.clock.tick(timedelta(days=1))
    synchronise(world)
    assert swept(world) == [("run-1", 2, 0, False)]
    updates = [decode_reply(reply).update for reply in stored(world)]
    world.clock.tick(LATER)
    synchronise(world)
    assert swept(world, dry_run=True) == [("run-1", 2, 2, False)]
    assert len(stored(world)) == 2
    assert swept(world) == [("run-1", 2, 2, False)]
    assert stored(world) == []
    with world.unit("north").node() as node:
        last, copy = node.ledger.entries()[-1], read_export(export_ledger(node.ledger))
        replied = [e.body["order"] for e in node.ledger.entries() if e.kind == "reply"]
        assert [one.steps for one in node.ledger.events()] == [pair.exchanges]  # stays charged
        node.synchronise()  # governance witnesses it
    assert (last.kind, last.body["run_id"], last.body["days"]) == ("swept", "run-1", 2)
    assert last.body["orders"] == replied
    assert copy.entries[-1] == last
    assert swept(world) == []
    # Nothing of them is left in any file of the ledger, not even in free pages.
    files = world.unit("north").state_dir.glob("ledger.db*")
    left = b"".join(path.read_bytes() for path in files)
    assert updates
    assert not any(update[-200:] in left for update in updates)
    world.run("run-2")  # and the unit goes on
    assert len(stored(world)) == 2


@pytest.mark.parametrize(
    ("permitted", "own", "days"), [(5, 2, 2), (2, 5, 2), (3, None, 3), (None, 3, 3), (0, None, 0)]
)
def test_an_answer_is_kept_for_the_least_that_permit_and_unit_say(worlds, permitted, own, days):
    given = worlds.START
    said = {} if permitted is None else {"update_retention_days": permitted}
    order = {"order": "o", "run_id": "run-1", "needed_until": given.isoformat()}
    bodies = [
        {"kind": "reserve", "run_id": "run-1", **said},
        {"kind": "order", **order},
        {"kind": "reply", "order": "o", "at": given.isoformat()},
    ]
    entries = [Entry(number, "", body["kind"], body) for number, body in enumerate(bodies)]
    until = given + timedelta(days=days)

    def due(now):
        (answers,) = decide_due(entries, own, lambda _: False, now)
        assert answers.days == days
        return answers.due

    assert due(until) == ("o",)
    assert due(until - timedelta(seconds=1)) == ()


def test_where_nobody_says_how_long_nothing_goes(world):
    world.clock.tick(LATER)
    synchronise(world)
    assert swept(world, days=None) == [("run-1", 2, 0, False)]


def test_before_the_first_bulletin_nothing_is_past_and_the_command_says_so(build, pair):
    world = build(pair)
    node = cli.RootCommand(
        {"node": EntryPoint("node", "clients.cli:app [node]", cli.COMMANDS_GROUP)}
    )
    words = ["node", "sweep", "-s", str(world.unit("north").settings)]
    with runtime.SEAM.bound(world.federation.surroundings):
        assert "governance has signed no time here yet" in CliRunner().invoke(node, words).stdout
        synchronise(world)
        assert "signed no time" not in CliRunner().invoke(node, words).stdout


def test_a_run_gets_its_answer_again_until_the_orders_deadline(build, worlds, pair):
    server = worlds.Server(build(pair))
    world, request = server.world, server.request(server.order("north"))
    answer = server.train("north", request)
    world.clock.tick(timedelta(seconds=59))
    synchronise(world)
    assert swept(world, days=0) == [("run-1", 1, 0, False)]
    assert server.train("north", request).update == answer.update
    world.clock.tick(timedelta(seconds=2))
    synchronise(world)
    assert swept(world, days=0) == [("run-1", 1, 1, False)]
    assert server.train("north", request) == "order.expired"
    with world.unit("north").node() as node:
        order = Order.from_bytes(request.order.payload_bytes)
        with pytest.raises(ConflictError, match=r"order\.swept"):
            node.ledger.stored_reply(order)


def test_a_hold_keeps_answers_and_its_release_lets_them_go(world):
    world.clock.tick(LATER)
    synchronise(world)
    with holds_of(world) as holds:
        holds.add("run-1", "ada, counsel", "case 7", world.clock.now())
    assert swept(world) == [("run-1", 2, 2, True)]
    assert len(stored(world)) == 2
    with holds_of(world) as holds:
        holds.release(1, "ada, counsel", "case closed", world.clock.now())
    assert swept(world) == [("run-1", 2, 2, False)]
    assert stored(world) == []


def test_edited_or_older_holds_let_nothing_be_deleted(world):
    path = StateDir(world.unit("north").state_dir).holds
    with holds_of(world) as holds:
        holds.add("run-9", "ada, counsel", "case 9", world.clock.now())
    world.clock.tick(LATER)
    synchronise(world)
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"run-9", b"run-8"))
    with pytest.raises(TrustError, match=r"holds\.corrupt"):
        swept(world)
    path.write_bytes(sound)
    swept(world)
    world.run("run-2")
    world.clock.tick(LATER)
    synchronise(world)
    path.unlink()
    with pytest.raises(RollbackError, match=r"holds\.rollback"):
        swept(world)
    assert len(stored(world)) == 2
    path.write_bytes(sound)
    assert swept(world) == [("run-2", 2, 2, False)]


def test_a_wrong_clock_deletes_nothing_early(world, worlds):
    ahead, behind = (ManualClock(worlds.START + sign * timedelta(days=999)) for sign in (1, -1))
    assert swept(world, clock=ahead) == [("run-1", 2, 0, False)]
    world.clock.tick(LATER)
    synchronise(world)
    assert swept(world, clock=behind) == [("run-1", 2, 0, False)]
    assert swept(world) == [("run-1", 2, 2, False)]


def test_a_reply_that_is_gone_without_an_entry_is_damage(world):
    with closing(sqlite3.connect(world.unit("north").state_dir / "ledger.db")) as connection:
        connection.execute("DELETE FROM replies")
        connection.commit()
    with pytest.raises(TrustError, match=r"ledger\.corrupt"):
        swept(world)


def killed_at(world, statement):
    """Sweep in a process that dies when SQLite begins a statement. Returns: whether it died."""
    child = os.fork()
    if child == 0:
        connect = sqlite3.connect

        def traced(*args, **options):
            connection = connect(*args, **options)

            def look(sql):
                if sql.startswith(statement):
                    os.kill(os.getpid(), signal.SIGKILL)

            connection.set_trace_callback(look)
            return connection

        sqlite3.connect = traced
        swept(world)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_kill_at_any_write_of_a_sweep_leaves_all_or_nothing_and_the_next_one_ends_it(world):
    world.clock.tick(LATER)
    synchronise(world)
    state = world.unit("north").state_dir
    shutil.copytree(state, state.with_name("before"))
    # The last one is after the commit: what was deleted may still be in the database's log.
    points = {"INSERT INTO entries": 2, "DELETE": 2, "COMMIT": 2, "PRAGMA wal_checkpoint": 0}
    for statement, left in points.items():
        shutil.rmtree(state)
        shutil.copytree(state.with_name("before"), state)
        assert killed_at(world, statement), statement
        with world.unit("north").node() as node:
            kinds = [entry.kind for entry in node.ledger.entries()]
        assert (kinds.count("swept"), len(stored(world))) == (0 if left else 1, left)
        swept(world)
        assert stored(world) == []
        with world.unit("north").node() as node:
            assert [e.kind for e in node.ledger.entries()].count("swept") == 1
