"""The node's loopback interface tells this machine whether the node is well, and nothing else."""

import httpx
import pytest

from clients.http import Health, node_app, served
from simulations.deployment_processes import free_port, is_listening, wait_until

WELL = Health("ok", "unit-a", "connected", "ready", "1.2.3")
UNWELL = Health("unwell", "unit-a", "connecting", "ready", "1.2.3")


@pytest.fixture
def node():
    found, port = [WELL], free_port()
    with served(node_app(lambda: found[-1]), port):
        wait_until(lambda: is_listening(port), "the interface", 10)
        yield found, f"http://127.0.0.1:{port}"
    assert not is_listening(port)


def test_a_node_that_is_well_says_so(node):
    answer = httpx.get(f"{node[1]}/healthz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "unit": "unit-a",
        "supernode": "connected",
        "executor": "ready",
        "version": "1.2.3",
    }


def test_a_node_that_is_not_says_which_part_is_missing(node):
    found, url = node
    found.append(UNWELL)
    answer = httpx.get(f"{url}/healthz")
    assert answer.status_code == 503
    assert answer.json()["supernode"] == "connecting"


def test_there_is_nothing_else(node):
    assert httpx.get(f"{node[1]}/").status_code == 404
    assert httpx.get(f"{node[1]}/docs").status_code == 404
    assert httpx.post(f"{node[1]}/healthz").status_code == 405


def test_a_page_of_another_name_cannot_read_it(node):
    answer = httpx.get(f"{node[1]}/healthz", headers={"host": "rebound.example"})
    assert answer.status_code == 400
    assert "unit-a" not in answer.text
