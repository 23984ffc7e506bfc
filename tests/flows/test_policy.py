"""The unit's policy has the last word: over a signed permit, in every exchange, at that time."""

from datetime import timedelta

import pytest

from fedcore.version import VERSION


@pytest.fixture
def unit_says(server, worlds):
    """Add lines to the settings of a unit; returns the way back."""

    def say(unit, *lines):
        path = server.world.unit(unit).settings
        before = path.read_text()
        path.write_text(before + "\n".join(lines) + "\n")
        return lambda: path.write_text(before)

    return say


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('tasks = ["segmentation"]', "policy.task_not_allowed"),
        ("run_epsilon_cap = 0.1", "policy.epsilon_too_large"),
        ('accepted_server_versions = ["9.9.9"]', "policy.server_version_not_accepted"),
        ('maintenance_windows = ["Mon 08:00-10:00"]', "policy.maintenance"),
    ],
)
def test_what_the_unit_does_not_take_part_in_is_refused_before_anything_is_charged(
    server, unit_says, line, code
):
    assert f"{server.world.clock.now():%a %H}" == "Mon 09"
    take_back = unit_says("north", line)
    assert server.call_roll("north") == code
    assert server.train("north") == code
    take_back()
    with server.world.unit("north").node() as node:
        assert node.ledger.events() == []
    assert server.call_roll("north") == "present"
    assert server.train("north").receipt is not None


def test_a_unit_that_accepts_the_task_the_cost_and_the_server_takes_part(server, unit_says):
    unit_says(
        "north",
        'tasks = ["churn"]',
        "run_epsilon_cap = 50.0",
        f'accepted_server_versions = ["0.1.0", "{VERSION}"]',
        'maintenance_windows = ["Sun 22:00-09:00", "Mon 09:30-10:00"]',
    )
    assert server.call_roll("north") == "present"
    assert server.train("north").receipt is not None


def test_a_run_pauses_for_a_window_that_opens_in_it(server, unit_says):
    unit_says("north", 'maintenance_windows = ["Mon 09:30-10:00"]')
    assert server.call_roll("north") == "present"
    server.world.clock.tick(timedelta(minutes=31))
    assert server.call_roll("north") == "policy.maintenance"
    server.world.clock.tick(timedelta(minutes=30))
    assert server.call_roll("north") == "present"
