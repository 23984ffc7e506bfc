"""Whatever happened before, and in whatever order: a rebuilt ledger is never below the true one."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clients import runtime
from clients.budget import Bound, events_under
from clients.rebuild import rebuild
from clients.settings import NodeSettings
from fedcore.errors import UnreachableError
from fedcore.privacy.accounting import renyi_epsilon

# From the start on: the last day of a year. A permit is good for a day.
DAYS_LATER = timedelta(days=304)
ACTS = ("run", "lost receipt", "killed", "unused permit", "late", "hours pass", "lost ledger")


class Unit:
    """A unit that takes part in runs, and what all its ledgers have ever reserved."""

    def __init__(self, world, worlds):
        self.world, self.worlds = world, worlds
        self.unit = world.unit("north")
        self.runs = self._names()
        self.true = {}
        self.unused = []

    def _names(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield f"run-{number}"

    def act(self, name: str) -> None:
        """Do one thing; a killed node has reserved and read, and its answer never left."""
        if name == "run":
            self.world.run(next(self.runs))
        elif name == "hours pass":
            self.world.federation.tick(hours=20)
        elif name == "lost ledger":
            self.lose()
        elif name == "late":
            for server in self.unused:
                server.train("north")  # refused when its permit has expired, or was rebuilt
        else:
            server = self.worlds.Server(self.world, next(self.runs))
            if name == "lost receipt":
                assert not isinstance(server.train("north"), str)
            elif name == "killed":
                self.kill(server)
            else:
                self.unused.append(server)
        self.remember()

    def kill(self, server) -> None:
        """Let the process end between an order's charge and its answer."""
        with self.unit.node() as node, pytest.MonkeyPatch.context() as patched:

            def killed(*_args, **_options):
                raise UnreachableError("test.killed", "the process ends here")

            patched.setattr(node.ledger, "settle", killed)
            with pytest.raises(UnreachableError):
                node.train(server.request(server.order("north")))

    def remember(self) -> None:
        """Note what the ledger says of runs that no earlier ledger had."""
        with self.unit.node() as node:
            for one in node.ledger.reservations():
                if not one.rebuilt:
                    self.true[one.run_id] = one

    def lose(self) -> None:
        """Lose the ledger, rebuild it, and have it witnessed or not."""
        for path in self.unit.state_dir.glob("ledger.db*"):
            path.unlink()
        with runtime.SEAM.bound(self.world.federation.surroundings):
            rebuild(NodeSettings.load(self.unit.settings), self.world.clock.now())

    def parts(self) -> Iterator[tuple[float, float]]:
        """Yield what is counted, and what is true, of each part of the history."""
        with self.unit.node() as node:
            counted = node.ledger.reservations()
        for bound in (
            Bound("history", "all", 0.0),
            Bound("line", f"{self.world.plan.task}/small", 0.0),
            Bound("purpose", self.worlds.PURPOSE, 0.0),
            Bound("purpose", self.worlds.PARENT, 0.0),
            Bound("year", "2026", 0.0),
            Bound("year", "2027", 0.0),
        ):
            yield spent(bound, counted), spent(bound, self.true.values())


def spent(bound, reserved) -> float:
    """Return the epsilon of what counts to a part."""
    return renyi_epsilon(events_under(bound, reserved), 1e-5)


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=st.lists(st.sampled_from(ACTS), min_size=2, max_size=6))
@example(acts=["unused permit", "hours pass", "late"])  # permitted in one year, begun in the next
@example(acts=["lost receipt", "lost ledger", "killed", "run"])
def test_a_rebuilt_ledger_is_never_below_the_true_one(template, tmp_path_factory, worlds, acts):
    plan = worlds.make_plan(("north", "south"), rounds=2)
    root = tmp_path_factory.mktemp("interleaved") / "world"
    worlds.copy_world(template, root)
    world = worlds.open_world(root, plan, at=worlds.START + DAYS_LATER)
    try:
        unit = Unit(world, worlds)
        for act in acts:
            unit.act(act)
        unit.lose()
        found = list(unit.parts())
        assert all(counted >= true for counted, true in found)
        assert not unit.true or found[0][1] > 0
    finally:
        world.close()
