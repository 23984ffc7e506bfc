"""Lists come in parts: everything once, in a stable order, in few queries."""

import base64
import json

import pytest
from sqlalchemy import Engine, event

from fedcore.incidents import IncidentFacts, IncidentOpening

pytestmark = pytest.mark.databases

LISTS = {
    "/v1/units": "units",
    "/v1/models": "models",
    "/v1/stops": "stops",
    "/v1/incidents": "incidents",
    "/v1/log/entries": "entries",
    "/v1/permits/run-1/decisions": "decisions",
    "/v1/permits/run-1/replays": "replays",
    "/v1/models/churn/1/promotion/answers": "answers",
}


def fill(world, give):
    world.enrol("east")
    for run_id in ("run-1", "run-2", "run-3"):
        world.run(run_id)
        world.gateway("operator").register_model(run_id, "churn", give("model_bytes"))
    for _ in range(3):
        headers = {"Authorization": f"Bearer {world.api_keys['approver']}", "If-Match": "*"}
        wish = {"alias": "champion", "reason": "r"}
        world.client.post("/v1/models/churn/1/promotion", json=wish, headers=headers)
        world.gateway("dpo").stop("unit", "elsewhere", "an incident")
        call(world, "/v1/permits/run-1/renewal", "operator", "POST")
        facts = IncidentFacts(title="t", nature="n", aware_at=world.clock())
        world.gateway("dpo").open_incident(IncidentOpening(facts=facts))


BEGINNINGS = {"full": fill}


@pytest.fixture
def full(world):
    """Several of everything that is listed; the decisions are refused renewals of one run."""
    return world


def call(world, path, role="auditor", method="GET"):
    headers = {"Authorization": f"Bearer {world.api_keys[role]}"}
    return world.client.request(method, path, headers=headers)


def parts(world, path, limit):
    """Every part of a list, by following its links."""
    found = []
    url: str | None = f"{path}?limit={limit}"
    while url is not None:
        response = call(world, url)
        assert response.status_code == 200, response.text
        found.append(response.json()[LISTS[path]])
        url = response.links.get("next", {}).get("url")
    return found


def test_following_the_links_gives_everything_once_and_in_order(full):
    for path in LISTS:
        [whole] = parts(full, path, 1000)
        assert len(whole) >= 3
        for limit in (1, 2, len(whole)):
            cut = parts(full, path, limit)
            assert [len(part) for part in cut[:-1]] == [limit] * (len(cut) - 1)
            assert 0 < len(cut[-1]) <= limit
            assert [item for part in cut for item in part] == whole


def test_a_limit_out_of_bounds_is_refused(world):
    for path in LISTS:
        for limit in ("0", "-1", "10001", "x"):
            response = call(world, f"{path}?limit={limit}")
            assert (response.status_code, response.json()["code"]) == (422, "request.invalid")
        assert call(world, f"{path}?limit=1000").status_code == 200


def cursor(content):
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def foreign_cursors(path):
    """Cursors of other lists, of another form, and with positions that the list does not have."""
    wrong = 1 if path == "/v1/units" else "north"
    contents = [
        ["/v1/other", 1],
        [path, "\x00"],
        [path, None],
        [path, -1],
        [path, 2**40],
        [path, True],
    ]
    made = [cursor(content) for content in (*contents, [path, wrong], [path], path, {})]
    return [*made, "x", "%00", "é", "a" * 399]


def test_a_cursor_of_another_list_or_of_ones_own_making_is_refused(world):
    for path in LISTS:
        for text in foreign_cursors(path):
            response = call(world, f"{path}?cursor={text}")
            assert response.status_code == 422, (path, text)
            assert response.json()["code"] == "page.cursor_invalid"
        assert call(world, path).status_code == 200


def test_what_is_added_while_somebody_reads_comes_at_the_end(full):
    first = call(full, "/v1/stops?limit=2")
    full.gateway("dpo").stop("unit", "elsewhere", "another")
    rest = call(full, first.links["next"]["url"])
    numbers = [first.json()["stops"], rest.json()["stops"]]
    assert [len(part) for part in numbers] == [2, 2]


def test_the_gateway_reads_all_units_part_by_part(full, monkeypatch):
    monkeypatch.setattr("governance.routes.paging.MAX_LIMIT", 1)
    assert [unit.unit for unit in full.gateway("auditor").list_units()] == [
        "east",
        "north",
        "south",
    ]


@pytest.fixture
def queries():
    """How many statements the last call took."""
    seen: list[str] = []

    def note(_connection, _cursor, statement, *_rest):
        seen.extend([statement] if statement.startswith("SELECT") else [])

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def test_a_list_takes_two_queries_at_most_for_one_item_and_for_many(full, queries):
    # A replay reads the documents that its decision rested on.
    for path in LISTS.keys() - {"/v1/permits/run-1/replays"}:
        counts = []
        for limit in (1, 1000):
            queries.clear()
            assert call(full, f"{path}?limit={limit}").status_code == 200
            counts.append(len(queries))
        # Who calls, and whether this service's key was handed over, before both transactions' work.
        assert counts[0] == counts[1] <= 3 + 2, (path, queries)
