"""A list costs as many statements when it is long as when it is short, and few of them."""

import pytest

# Statements of a whole request: the transaction's own, the API key, hand-overs, and the list.
MOST = 7
LISTS = [
    "/v1/units",
    "/v1/models",
    "/v1/log/entries",
    "/v1/handovers",
    "/v1/permits/run-0/decisions",
]


def grow(world, first, count):
    """Add units, log entries and decisions."""
    for number in range(first, first + count):
        world.enrol(f"unit-{number}")
        world.permit(f"run-{number}")
        world.client.post(
            "/v1/permits",
            json={"plan": world.plan().digest, "run_id": "run-0"},
            headers={"Authorization": f"Bearer {world.api_keys['operator']}"},
        )


@pytest.mark.parametrize("path", LISTS)
def test_a_list_route_asks_the_database_as_often_for_many_rows_as_for_few(world, counted, path):
    grow(world, 0, 1)
    world.get(path, "compliance")
    with counted() as few:
        short = world.get(path, "compliance")
    grow(world, 1, 5)
    with counted() as many:
        longer = world.get(path, "compliance")
    assert len(many) == len(few) <= MOST, many
    assert len(str(longer)) >= len(str(short)) > 10


def test_a_permit_and_its_proof_cost_as_many_statements_in_a_long_log(world, counted):
    grow(world, 0, 1)
    digest = world.permit("run-a").digest
    with counted() as few:
        world.get(f"/v1/log/proof?document={digest}", "auditor")
    grow(world, 1, 10)
    with counted() as many:
        world.get(f"/v1/log/proof?document={digest}", "auditor")
    assert len(many) <= len(few) + 2 <= 12, many
