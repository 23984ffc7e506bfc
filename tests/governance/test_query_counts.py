"""A list costs as many statements when it is long as when it is short, and few of them."""

import pytest

from fedcore.incidents import IncidentFacts, IncidentOpening, IncidentUpdate
from fedcore.model_decisions import DecisionRequest
from registry import dpias
from registry.database import Database

# Statements of a whole request: the transactions' own, the API key, hand-overs, and the list.
MOST = 7
LISTS = {
    "/v1/accounts": "/v1/accounts",
    "/v1/incidents": "/v1/incidents",
    "/v1/incidents/{number}": "/v1/incidents/1",
    "/v1/units": "/v1/units",
    "/v1/models": "/v1/models",
    "/v1/evaluations": "/v1/evaluations",
    "/v1/audits": "/v1/audits",
    "/v1/models/{name}/{version}/waivers": "/v1/models/churn/1/waivers",
    "/v1/models/{name}/{version}/decisions": "/v1/models/churn/1/decisions",
    "/v1/models/{name}/{version}/promotion/answers": "/v1/models/churn/1/promotion/answers",
    "/v1/stops": "/v1/stops",
    "/v1/log/entries": "/v1/log/entries",
    "/v1/handovers": "/v1/handovers",
    "/v1/permits/{run_id}/decisions": "/v1/permits/run-0/decisions",
}
# A replay reads again what its decision rested on: so many statements each.
REPLAYS = "/v1/permits/{run_id}/replays"
MOST_OF_A_REPLAY = 4
# Told from bulletins, receipts, permits and models: `test_enforcement.py` counts them.
STATUSES = {
    "/v1/opt-outs/{unit}",
    "/v1/opt-outs/{unit}/{sequence}",
    "/v1/group-opt-outs/{unit}",
}
# Told from all papers of a version, and from all moves: `test_promotions.py` counts them.
PROMOTIONS = {"/v1/models/{name}/{version}/promotion", "/v1/aliases/{name}"}
# They have arrays of objects inside, but are one document each, or all that one names.
DOCUMENTS = {"Envelope", "DpiaView", "AuditTables"}


def evaluate(evaluating, number, model):
    """Evaluate a model that was trained for it when there was none."""
    run_id = f"eval-{number}"
    if not evaluating.trained:
        evaluating.train("trained", model)
    plan = evaluating.plan()
    evaluating.register(plan)
    tables = evaluating.answered(plan, evaluating.permit(plan, run_id))
    signed = evaluating.signed(tables)
    evaluating.world.gateway("operator").submit_tables(run_id, signed)


def growing(evaluating, model_bytes):
    """Adds accounts, units, runs with permits, models, evaluations, stops, log entries, incidents,
    phases of the first incident, and decisions on the first run and on its model.
    """
    world = evaluating.world

    def add(first, count):
        if first == 0:
            world.gateway().submit_opt_out(world.sign(world.opt_out("north", 1), "north"))
        kept = DecisionRequest(unit="north", up_to=1, outcome="kept", reason="r")
        facts = IncidentFacts(title="t", nature="n", aware_at=world.clock.now)
        for number in range(first, first + count):
            world.gateway("dpo").open_incident(IncidentOpening(facts=facts))
            newest = world.gateway("dpo").fetch_incident(1).phases[-1]
            world.gateway("dpo").update_incident(1, IncidentUpdate(facts=facts), newest.digest)
            world.gateway("admin").create_account(f"person-{number}", "auditor")
            world.enrol(f"unit-{number}")
            world.run(f"run-{number}")
            world.gateway("operator").register_model(f"run-{number}", "churn", model_bytes)
            world.gateway("dpo").decide_model("churn", 1, kept, "*")
            evaluate(evaluating, number, model_bytes)
            world.client.post(
                "/v1/models/churn/1/promotion",
                json={"alias": "champion", "reason": "r"},
                headers={
                    "Authorization": f"Bearer {world.api_keys['approver']}",
                    "If-Match": "*",
                },
            )
            world.gateway("dpo").stop("unit", f"elsewhere-{number}", "an incident")
            world.client.post(
                "/v1/permits/run-0/renewal",
                headers={"Authorization": f"Bearer {world.api_keys['operator']}"},
            )

    return add


@pytest.fixture
def grow(world, evaluating_in, model_bytes):
    return growing(evaluating_in(world), model_bytes)


def grown_to(count):
    """The step to a world with so many of everything."""

    def step(world, give):
        growing(give("evaluating_in")(world), give("model_bytes"))(0, count)

    return step


@pytest.fixture
def one_and_four(make_world, begin):
    """A world with one of everything, and one with four; the first request has been made."""
    made = []
    for count in (1, 4):
        made.append(make_world(begin(f"{count} of everything", grown_to(count))))
        made[-1].settings.signing_key.unlink()  # it lies where the next one keeps its key
        made[-1].get("/v1/units", "compliance")
    return made


def list_routes(document):
    """The routes that answer with a list of objects, from the OpenAPI document."""
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        content = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        name = content.get("application/json", {}).get("schema", {}).get("$ref", "").split("/")[-1]
        properties = schemas.get(name, {}).get("properties", {}).values()
        lists = [each["items"] for each in properties if each.get("type") == "array"]
        if name not in DOCUMENTS and any("type" not in items for items in lists):
            yield path


def test_every_list_route_of_the_service_has_a_case_here(world):
    assert set(list_routes(world.client.get("/openapi.json").json())) == {
        *LISTS,
        REPLAYS,
        *PROMOTIONS,
        *STATUSES,
    }


@pytest.mark.parametrize("path", LISTS.values())
def test_a_list_route_asks_the_database_as_often_for_many_rows_as_for_few(
    one_and_four, counted, path
):
    one, four = one_and_four
    with counted() as few:
        short = one.get(path, "compliance")
    with counted() as many:
        longer = four.get(path, "compliance")
    assert len(many) == len(few) <= MOST, many
    assert len(str(longer)) >= len(str(short)) > 10


def test_each_replay_costs_a_few_statements_and_no_more_in_a_long_list(world, counted, grow):
    path = "/v1/permits/run-0/replays"
    grow(0, 4)
    costs = []
    for limit in (1, 2, 4):
        with counted() as statements:
            shown = world.get(f"{path}?limit={limit}", "auditor")["replays"]
        assert len(shown) == limit
        costs.append(len(statements))
    assert costs[2] - costs[1] <= 2 * MOST_OF_A_REPLAY
    assert costs[0] <= MOST + MOST_OF_A_REPLAY


def test_a_permit_costs_as_many_statements_beside_many_dpias_stops_and_entries(
    world, counted, grow
):
    grow(0, 1)
    with counted() as few:
        world.permit("run-a")
    for version in range(2, 6):
        world.gateway("author").create_dpia(world.dpia(version=version))
    grow(1, 3)
    with counted() as many:
        world.permit("run-b")
    # An entry that completes no subtree of the log saves one.
    assert abs(len(many) - len(few)) <= 1, many
    assert len(many) <= 20, many


def test_all_dpias_and_their_acts_are_read_in_two_queries(world, counted):
    database = Database(world.settings.database_url)

    def read():
        with counted() as statements, database.reading() as session:
            return dpias.list_all(session), len(statements) - statements.count("BEGIN")

    [one], cost = read()
    second = world.take_into_force(world.dpia(version=2))
    third = world.gateway("author").create_dpia(world.dpia(dpia_id="other"))
    several, cost_of_several = read()
    database.close()
    assert cost_of_several == cost == 2
    assert [stored.record.digest for stored in several] == [one.record.digest, second, third]
    assert [[act.act for act in stored.acts] for stored in several] == [
        ["submit", "evaluate", "advise", "approve"],
        ["submit", "evaluate", "advise", "approve"],
        [],
    ]
    assert [stored.state for stored in several] == ["superseded", "in_force", "draft"]


def test_a_permit_and_its_proof_cost_as_many_statements_in_a_long_log(world, counted, grow):
    grow(0, 1)
    digest = world.permit("run-a").digest
    with counted() as few:
        world.get(f"/v1/log/proof?document={digest}", "auditor")
    grow(1, 3)
    with counted() as many:
        world.get(f"/v1/log/proof?document={digest}", "auditor")
    assert len(many) <= len(few) + 2 <= 12, many
