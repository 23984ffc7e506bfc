"""A customer who asks is told which runs could use their row, and no more than was recorded."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from importlib.metadata import EntryPoint

import polars as pl
import pytest
from click.testing import CliRunner

from clients import runtime
from clients.sent import journal_path, load_departures
from clients.settings import NodeSettings
from clients.subject_reports import make_report
from clients.sweeps import sweep
from fedcore import cli
from fedcore.errors import DataError, TrustError
from fedcore.holds import open_holds

NODE = cli.RootCommand({"node": EntryPoint("node", "clients.cli:app [node]", cli.COMMANDS_GROUP)})


def report_on(world, identifier, unit="north", **later):
    found = world.unit(unit)
    with runtime.SEAM.bound(world.federation.surroundings):
        settings = NodeSettings.load(found.settings)
        return make_report(settings, identifier, world.clock.now() + timedelta(**later))


def swept(world, clock):
    with runtime.SEAM.bound(world.federation.surroundings):
        sweep(NodeSettings.load(world.unit("north").settings), clock, dry_run=False)


def told(report):
    """What is said of each exchange: presence, reason, number of the objection."""
    (run,) = report.runs
    return [(one.customer, one.why, one.objection) for one in run.exchanges]


def stored(world):
    """All bytes of the record of readings."""
    files = world.unit("north").state_dir.glob("readings.db*")
    return b"".join(path.read_bytes() for path in files)


def after_round_1(act):
    return lambda report: act() if report.round == 1 else None


IN = ("in", None, None)
ABSENT = ("out", "no_usable_row", None)


def test_each_round_is_told_by_who_was_in_its_data_whatever_the_source_holds_now(
    build, worlds, pair
):
    world, rows = build(pair), worlds.make_rows("north", 40)
    unit = world.unit("north")
    newcomer = rows.head(1).with_columns(pl.lit("N777").alias("customer_id"))

    def change():
        unit.opt_out("N020", worlds.PARENT)
        unit.write_rows(pl.concat([rows, newcomer]).filter(pl.col("customer_id") != "N005"))

    world.run(watch=after_round_1(change))
    unit.write_rows(rows.tail(3))
    answers = {name: told(report_on(world, name)) for name in ("N001", " n020 ", "N005", "N777")}
    assert answers == {
        "N001": [IN, IN],
        " n020 ": [IN, ("out", "objection", 1)],
        "N005": [IN, ABSENT],
        "N777": [ABSENT, IN],
    }
    assert set(report_on(world, "N001").rows.values()) == {"none"}
    assert set(report_on(world, "N039").rows.values()) == {"present"}
    assert told(report_on(world, "N999")) == [ABSENT, ABSENT]


def test_the_run_is_told_with_its_papers_and_the_epsilon_of_what_was_reserved(build, worlds, pair):
    world = build(pair)
    world.unit("north").opt_out("N020", worlds.PURPOSE)
    world.run()
    made = report_on(world, "N020")
    (run,), (word,) = made.runs, made.words
    assert (run.run_id, run.about["plan"], run.about["purpose"]) == (
        "run-1",
        pair.digest,
        worlds.PURPOSE,
    )
    assert run.about["dpia"].startswith("sha256:")
    assert run.event == pair.run_event()
    assert run.epsilon > 0
    assert all(one.answered for one in run.exchanges)
    assert (word.sequence, word.ground, word.state, word.told) == (1, "art21_2", "excluded", True)


def test_an_objection_after_the_run_is_no_reason_for_it(build, worlds, pair):
    world = build(pair)
    world.run()
    world.unit("north").opt_out("N020", worlds.PURPOSE)
    world.unit("north").opt_out("N999", worlds.PURPOSE)
    made = report_on(world, "N020")
    assert told(made) == [IN, IN]
    assert [word.told for word in made.words] == [False]
    assert told(report_on(world, "N999")) == [ABSENT, ABSENT]


def test_marks_and_key_of_a_run_are_destroyed_once_a_row_could_be_kept_no_longer(
    build, worlds, pair
):
    world = build(pair)
    world.run()
    path = world.unit("north").state_dir / "readings.db"
    with closing(sqlite3.connect(path)) as connection:
        secrets = [
            bytes(cell)
            for query in ("SELECT key FROM runs", "SELECT added FROM marks")
            for (cell,) in connection.execute(query)
        ]
    assert [len(one) for one in secrets] == [32, 40 * 8]
    swept(world, world.clock)
    world.clock.tick(timedelta(days=366))
    swept(world, world.clock)  # by the newest time that governance has signed: too early
    assert told(report_on(world, "N001")) == [IN, IN]
    with world.unit("north").node() as node:
        node.synchronise()
    with open_holds(node.state.holds) as holds:
        number = holds.add("run-1", "legal", "a claim", world.clock.now())
    swept(world, world.clock)
    assert told(report_on(world, "N001")) == [IN, IN]
    with open_holds(node.state.holds) as holds:
        holds.release(number, "legal", "settled", world.clock.now())
    swept(world, world.clock)
    assert told(report_on(world, "N001")) == [("erased", None, None)] * 2
    assert not [one for one in secrets if one in stored(world)]


def test_what_was_never_recorded_is_said_to_be_unknown(build, worlds, pair):
    world = build(pair)
    world.run()
    for path in world.unit("north").state_dir.glob("readings.*"):
        path.unlink()
    made = report_on(world, "N001")
    assert told(made) == [("not_recorded", None, None)] * 2
    assert made.runs[0].about == {}
    assert all(one.answered for one in made.runs[0].exchanges)


def test_a_unit_that_keeps_no_contract_says_that_it_does_not_know(build, pair):
    world = build(pair)
    for path in (world.unit("north").state_dir / "contracts").iterdir():
        path.unlink()
    with runtime.SEAM.bound(world.federation.surroundings):
        words = ["node", "subject", "report", "-s", str(world.unit("north").settings), "-"]
        done = CliRunner().invoke(NODE, words, input="N001\n")
    assert done.exit_code == 0, done.output
    source, said, _, _ = done.stdout.split("\n\n")[1:5]
    assert "no contract is kept here" in source
    assert said.splitlines()[1:] == ["  not known, for the same reason"]


def test_nothing_leaves_for_a_report_and_nobody_is_named_in_it_or_in_the_record(
    build, worlds, pair
):
    world = build(pair)
    state = world.unit("north").state_dir
    world.unit("north").opt_out("N020", worlds.PURPOSE)
    with world.unit("north").node() as node:
        (pseudonym,) = [event.pseudonym for event in node.opt_outs.events()]
    world.run()
    before = load_departures(journal_path(state))
    (state / "left.json").write_text("{}")  # a unit that has left still owes an answer
    world.federation.cut_off = True
    with runtime.SEAM.bound(world.federation.surroundings):
        words = ["node", "subject", "report", "-s", str(world.unit("north").settings)]
        runs = [
            CliRunner().invoke(NODE, [*words, "--json", "-"], input="N020\n"),
            CliRunner().invoke(NODE, [*words, "-"], input="N020\n"),
            CliRunner().invoke(NODE, words, input="N020\nN020\n"),
        ]
    assert [done.exit_code for done in runs] == [0, 0, 0]
    plain = json.loads(runs[0].stdout)
    assert [one["customer"] for one in plain["runs"][0]["exchanges"]] == ["out", "out"]
    assert "excluded by the customer's word no. 1; an update was made" in runs[1].stdout
    assert (
        runs[1].stdout.splitlines()[1:]
        == runs[2].stdout.splitlines()[-len(runs[1].stdout.splitlines()) + 1 :]
    )
    assert load_departures(journal_path(state)) == before
    for text in (*(done.output.encode() for done in runs), stored(world)):
        assert not [one for one in (b"N020", pseudonym.encode()) if one in text]
    assert bytes.fromhex(pseudonym)[:8] not in stored(world)


def test_a_damaged_record_stops_the_node_before_its_ledger_is_charged(server, worlds):
    state = server.world.unit("north").state_dir
    assert not isinstance(server.train("north"), str)
    path, kept = state / "readings.db", (state / "readings.db").read_bytes()
    with server.world.unit("north").node() as node:
        charged = len(node.ledger.entries())
    path.write_bytes(b"no database" * 1000)
    second = server.request(server.order("north", attempt=2))
    assert server.train("north", second) == "node.unavailable"
    with pytest.raises(TrustError) as error:
        report_on(server.world, "N001")
    assert error.value.code == "readings.corrupt"
    with server.world.unit("north").node() as node:
        assert len(node.ledger.entries()) == charged
    path.write_bytes(kept)
    assert not isinstance(server.train("north", second), str)
    assert told(report_on(server.world, "N001")) == [IN, IN]


def test_altered_marks_are_refused_and_never_read_as_an_answer(build, worlds, pair):
    world = build(pair)
    world.run()
    path = world.unit("north").state_dir / "readings.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE marks SET added = substr(added, 9)")
    with pytest.raises(TrustError) as error:
        report_on(world, "N001")
    assert error.value.code == "readings.corrupt"


@pytest.mark.parametrize(
    ("identifier", "code"),
    [(" ", "data.subject_missing"), ("1001.0", "opt_out.identifier_decimal")],
)
def test_an_identifier_that_is_nobodys_is_refused_rather_than_not_found(
    build, worlds, pair, identifier, code
):
    world = build(pair)
    with pytest.raises(DataError) as error:
        report_on(world, identifier)
    assert error.value.code == code
    assert report_on(world, "1001").runs == ()
