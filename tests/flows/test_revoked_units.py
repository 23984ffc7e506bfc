"""A unit that is revoked, or has left, or has changed its keys, in the middle of a run."""

import pytest

from clients.membership import leave, rotate
from clients.settings import NodeSettings
from fedcore.errors import FedError
from fedcore.record import Realm
from fedcore.verify import verify_bundle


def revoke(world):
    world.federation.offices["compliance"].revoke_node("north", "stolen")


def go(world):
    with world.unit("north").node() as node:
        leave(node, "sold", world.clock.now())


def change_keys(world):
    unit = world.unit("north")
    with unit.node():
        rotate(NodeSettings.load(unit.settings), world.clock.now(), "North Ltd")


@pytest.mark.parametrize("act", [revoke, go, change_keys])
def test_the_run_goes_on_without_it_from_the_next_round(build, act):
    world = build()

    def watch(report):
        if report.round == 1:
            act(world)

    world.run(watch=watch)
    answered = [tuple(answer.unit for answer in report.answered) for report in world.reports]
    assert answered == [("north", "south", "west"), ("south", "west"), ("south", "west")]
    assert verify_bundle(
        world.bundle(), world.federation.governance_key.public, Realm.SIMULATION
    ).ok


def test_it_learns_that_the_models_have_learnt_from_it(build):
    world = build()
    world.run()
    with world.unit("north").node() as node:
        answer = leave(node, "sold", world.clock.now())
    assert [(model.name, model.version) for model in answer.models] == [("churn", 1)]


def test_a_new_run_asks_for_its_new_key(build):
    world = build()
    change_keys(world)
    world.run("run-2")
    assert all(len(report.answered) == 3 for report in world.reports)


def test_no_new_run_gets_a_permit_with_a_unit_that_is_out(build):
    world = build()
    revoke(world)
    with pytest.raises(FedError, match=r"unit\.revoked"):
        world.run("run-2")
