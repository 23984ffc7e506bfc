"""A reservation is closed: by the unit, by the end of its run, by a revocation; never by less."""

from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from clients.site import Site
from fedcore import cli, wire
from fedcore.errors import RefusedError, UnreachableError
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record

FEDPACT = cli.RootCommand(
    {
        "node": EntryPoint("node", "clients.cli:app [node]", cli.COMMANDS_GROUP),
        "plan": EntryPoint("plan", "clients.plan_cli:app [node]", cli.COMMANDS_GROUP),
    }
)


def counted(world, unit):
    """What a unit's ledger counts: by run how many rounds, and why it was closed: then one round
    more than it has orders."""
    with world.unit(unit).node() as node:
        steps = world.plan.round_event().steps
        return {o.run_id: (o.event.steps // steps, o.closed) for o in node.ledger.reservations()}


def fedpact(world, unit, *words):
    with world.unit(unit).node():  # which binds the world's clock
        done = CliRunner().invoke(FEDPACT, [*words, "-s", str(world.unit(unit).settings)])
    return done.exit_code, done.output


def close(world, unit, run_id="run-1"):
    return fedpact(world, unit, "node", "ledger", "close", run_id)


def test_a_run_that_ended_counts_as_its_rounds_and_one_which_governance_has_witnessed(
    build, worlds
):
    world = build(worlds.make_plan(spare_rounds=2))
    world.run()
    for unit in worlds.UNITS:
        assert counted(world, unit) == {"run-1": (4, "ended")}
        with world.unit(unit).node() as node:
            assert node.ledger.claim().body_digests == ()  # nothing since the witnessed head
    assert worlds.Server(world).train("north") == "order.run_closed"
    assert not isinstance(worlds.Server(world, "run-2").train("north"), str)


def test_a_unit_that_is_away_at_the_end_keeps_its_reservation_until_it_closes_it(build, worlds):
    world = build(worlds.make_plan())
    federation = world.federation

    def leave(report):
        federation.grid.down = {federation.node_id("west")} if report.round > 1 else set()

    world.run(watch=leave)
    federation.grid.down = set()
    assert counted(world, "north") == {"run-1": (4, "ended")}
    assert counted(world, "west") == {"run-1": (4, None)}
    assert close(world, "west")[0] == 0
    assert counted(world, "west") == {"run-1": (3, "unit")}


def test_a_unit_that_closes_a_run_takes_no_further_part_and_the_others_go_on(build, worlds):
    world = build(worlds.make_plan())

    def leave(report):
        if report.round == 1:
            assert close(world, "west")[0] == 0

    world.run(watch=leave)
    assert [report.unavailable for report in world.reports] == [(), ("west",), ("west",)]
    assert counted(world, "west") == {"run-1": (2, "unit")}
    assert counted(world, "north") == {"run-1": (4, "ended")}


def test_a_run_that_too_many_units_have_closed_has_ended_and_costs_the_others_nothing(build, pair):
    world = build(pair)
    with pytest.raises(RefusedError) as error:
        world.run(watch=lambda _report: close(world, "north"))
    assert "order.run_closed" in error.value.codes
    assert [report.status for report in world.reports] == ["accepted"]
    with world.unit("south").node() as node:
        orders = [e.body for e in node.ledger.entries() if e.kind == "order"]
    assert [(order["round"], order["attempt"]) for order in orders] == [(1, 1)]


def test_bytes_that_are_stored_are_not_sent_when_the_run_is_closed_meanwhile(build, pair, worlds):
    server = worlds.Server(build(pair))
    request = server.request(server.order("north"))
    assert not isinstance(server.train("north", request), str)
    unit = server.world.unit("north")
    with unit.node() as node, unit.node() as operator:

        def closed_meanwhile():
            found = type(node).witnessed_bulletin(node)
            operator.ledger.close_runs(("run-1",), "unit", node.runtime.clock.now())
            return found

        node.witnessed_bulletin = closed_meanwhile
        with pytest.raises(RefusedError) as error:
            node.train(request)
        assert error.value.codes == ("order.run_closed",)


def test_an_answer_that_an_older_disk_does_not_know_of_is_charged_after_the_closing(
    build, pair, worlds, monkeypatch
):
    server = worlds.Server(build(pair))
    assert not isinstance(server.train("north"), str)
    unit = server.world.unit("north")
    with unit.node() as node:
        node.synchronise()
    before = (unit.state_dir / "ledger.db").read_bytes()
    with monkeypatch.context() as away:
        away.setattr(Site, "_fetch_bulletin", unreachable)
        sent = server.request(server.order("north", attempt=2))
        assert not isinstance(server.train("north", sent), str)
    (unit.state_dir / "ledger.db").write_bytes(before)
    assert close(server.world, "north")[0] == 0
    with unit.node() as node:
        node.synchronise()  # governance has seen nothing newer
    assert counted(server.world, "north") == {"run-1": (2, "unit")}


def unreachable(_site):
    raise UnreachableError("governance.unreachable", "governance cannot be reached")


def test_a_revocation_closes_the_run_with_the_next_bulletin(build, worlds):
    server = worlds.Server(build(worlds.make_plan(("north", "south"), rounds=3)))
    world, request = server.world, server.request(server.order("north"))
    assert not isinstance(server.train("north", request), str)
    world.federation.offices["dpo"].revoke_permit("run-1", "A complaint.")
    assert counted(world, "north") == {"run-1": (4, None)}
    with world.unit("north").node() as node:
        node.synchronise()
    assert counted(world, "north") == {"run-1": (2, "revoked")}
    for sent in (request, server.request(server.order("north", attempt=2))):
        assert server.train("north", sent) == "permit.revoked"


def test_what_a_closing_frees_is_afforded_told_and_spent(build, worlds, tmp_path):
    plan = worlds.make_plan(("north", "south"), rounds=3)
    whole, one = plan.run_event(), plan.round_event()
    two = one.model_copy(update={"steps": 2 * one.steps})
    cap = renyi_epsilon([whole, two], plan.delta)
    server = worlds.Server(build(plan, epsilon_cap=cap))
    world, plan_file = server.world, tmp_path / "plan.json"
    plan_file.write_bytes(server.plan.to_bytes())
    assert not isinstance(server.train("north"), str)
    second = worlds.Server(world, "run-2")
    assert fedpact(world, "north", "plan", "afford", str(plan_file))[0] == 1
    assert second.train("north") == "budget.exceeded"
    code, output = close(world, "north")
    spent = renyi_epsilon([two], plan.delta)
    assert (code, f"{spent:.4f} now" in output) == (0, True)
    assert fedpact(world, "north", "plan", "afford", str(plan_file))[0] == 0
    assert "run-1, is closed" in fedpact(world, "north", "node", "doctor")[1]
    assert not isinstance(second.train("north"), str)
    assert server.train("north") == "order.run_closed"
    told = fedpact(world, "north", "node", "status", "--json")[1]
    assert '"closed": "unit"' in told
    assert f"epsilon charged: {cap:.4f}" in fedpact(world, "north", "node", "ledger", "show")[1]


def test_closing_twice_changes_nothing_and_what_is_not_there_is_not_closed(build, pair, worlds):
    server = worlds.Server(build(pair))
    world = server.world
    assert "ledger.run_unknown" in close(world, "north")[1]
    assert not isinstance(server.train("north"), str)
    assert "run-1: closed;" in close(world, "north")[1]
    with world.unit("north").node() as node:
        entries = node.ledger.entries()
    code, output = close(world, "north")
    assert (code, "run-1: closed before" in output) == (0, True)
    with world.unit("north").node() as node:
        assert node.ledger.entries() == entries


def ending(server, key=None, **changes):
    """A report that ends the run, as its server may sign it without a single round."""
    values = {"round": server.permit.rounds, **changes}
    report = server.report(("north", "south"), **values)
    return sign_record(report, key or server.key, Realm.SIMULATION)


def witness(server, ended):
    request = wire.RollCallRequest(server.permit_envelope, server.plan, ended=ended)
    reply = server.send("north", wire.WITNESS, wire.roll_call_content(request))
    return wire.read_refusal(reply).code if reply.has_error() else "cosigned"


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ({"round": 1}, "run.not_ended"),
        ({"status": "void"}, "run.not_ended"),
        ({"run_id": "run-2"}, "run.not_ended"),
        ({"realm": Realm.PRODUCTION}, "run.not_ended"),
        ({"key": SigningKey.generate()}, "signature.wrong_key"),
    ],
    ids=["an earlier round", "a void one", "another run", "another realm", "a stranger"],
)
def test_only_the_last_report_by_the_permits_server_closes_a_run(build, pair, worlds, lie, code):
    server = worlds.Server(build(pair))
    assert not isinstance(server.train("north"), str)
    assert witness(server, ending(server, **lie)) == code
    assert counted(server.world, "north") == {"run-1": (3, None)}
    assert witness(server, None) == "cosigned"
    assert counted(server.world, "north") == {"run-1": (3, None)}
    assert witness(server, ending(server)) == "cosigned"
    assert counted(server.world, "north") == {"run-1": (2, "ended")}


def test_a_server_that_claims_the_end_early_has_ended_the_run_and_no_more(build, pair, worlds):
    server = worlds.Server(build(pair))
    request = server.request(server.order("north"))
    assert witness(server, ending(server)) == "cosigned"  # nothing is reserved: nothing is closed
    assert not isinstance(server.train("north", request), str)
    assert witness(server, ending(server)) == "cosigned"
    for sent in (request, server.request(server.order("north", attempt=2))):
        assert server.train("north", sent) == "order.run_closed"
    assert counted(server.world, "north") == {"run-1": (2, "ended")}


def test_a_disk_from_before_the_closing_is_refused(build, pair, worlds, tmp_path):
    server = worlds.Server(build(pair))
    assert not isinstance(server.train("north"), str)
    path = server.world.unit("north").state_dir / "ledger.db"
    before = path.read_bytes()
    assert witness(server, ending(server)) == "cosigned"
    path.write_bytes(before)
    sent = server.request(server.order("north", attempt=2))
    assert server.train("north", sent) == "node.unavailable"
    with server.world.unit("north").node() as node:
        assert [e.kind for e in node.ledger.entries()].count("reply") == 1
