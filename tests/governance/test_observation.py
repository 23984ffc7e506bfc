"""Identifiers, the journal and the figures: enough to find a fault, nothing about people."""

import json
import logging
import re

import pytest
from sqlalchemy import create_engine, text

from fedcore.errors import RefusedError
from governance import journal

NOTE = "a very personal remark"
HEX32 = re.compile(r"[0-9a-f]{32}")


@pytest.fixture
def lines(caplog):
    """The journal's lines, as they were written so far."""
    caplog.set_level(logging.INFO, "fedpact.governance")

    def read():
        return [
            json.loads(r.getMessage()) for r in caplog.records if r.name == "fedpact.governance"
        ]

    return read


def get(world, path, role="auditor", **headers):
    sent = {"Authorization": f"Bearer {world.api_keys[role]}", **headers}
    return world.client.get(path, headers=sent)


def figures(world):
    """The figures by name and labels, without what reading them adds."""
    found = get(world, "/metrics")
    assert found.headers["content-type"].startswith("text/plain")
    pairs = [line.rsplit(" ", 1) for line in found.text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, value in pairs if 'route="/metrics"' not in name}


def test_an_identifier_is_taken_and_is_in_answer_problem_and_journal(world, lines):
    response = get(world, "/v1/plans/x", **{"X-Request-Id": "ticket-17"})
    assert response.headers["X-Request-Id"] == "ticket-17"
    assert response.json()["request_id"] == "ticket-17"
    line = lines()[-1]
    assert (line["request_id"], line["route"]) == ("ticket-17", "/v1/plans/{digest}")
    assert (line["status"], line["codes"]) == (422, ["request.invalid"])


@pytest.mark.parametrize("given", [None, "a b", "x" * 65, "<script>", 'a"b'])
def test_an_identifier_of_another_form_is_replaced(world, given):
    headers = {} if given is None else {"X-Request-Id": given}
    first, second = (get(world, "/v1/models", **headers).headers["X-Request-Id"] for _ in "12")
    assert HEX32.fullmatch(first)
    assert HEX32.fullmatch(second)
    assert first != second


def test_a_body_that_is_too_large_and_an_unknown_route_have_one_as_well(make_world):
    world = make_world(max_body_bytes=1024)
    large = world.client.post("/v1/claims", content=b"x" * 1025)
    assert (large.status_code, large.json()["request_id"]) == (413, large.headers["X-Request-Id"])
    lost = world.client.get("/nowhere")
    assert lost.json()["request_id"] == lost.headers["X-Request-Id"]


def personal(world, event):
    """Whatever must not be in a journal."""
    names = ["carla", "anna", "emil", "dora", "paul", "otto", "north", "south", "run-7"]
    secrets = [key.rpartition("_")[2] for key in world.api_keys.values()]
    keys = [key.public for key in world.keys.values()]
    return [*names, *secrets, *keys, NOTE, event.pseudonym, world.dpia().digest, "crm"]


def test_the_journal_has_no_name_pseudonym_note_token_key_or_address(world, lines):
    event = world.opt_out("north", 1)
    world.gateway().submit_opt_out(world.sign(event, "north"))
    world.gateway("dpo").act_on_dpia(world.dpia().digest, "suspend", NOTE)
    with pytest.raises(RefusedError):
        world.permit("run-7")
    world.gateway("admin").revoke_account("paul", "approver")
    world.gateway("compliance").revoke_node("south", NOTE)
    world.client.get("/nowhere/carla")
    world.client.post("/v1/claims", json={"code": NOTE, "name": "dora"})
    get(world, "/v1/models/anna/1?cursor=emil")
    written = json.dumps(lines())
    assert len(lines()) > 8
    assert [word for word in personal(world, event) if word in written] == []


@pytest.mark.databases
def test_a_defect_is_written_down_by_kind_and_place_and_quotes_nothing(world, backend, lines):
    engine = create_engine(world.settings.database_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE models RENAME TO elsewhere"))
    engine.dispose()
    response = get(world, "/v1/models/anna/1")
    assert response.status_code == 500
    assert response.json()["request_id"] == response.headers["X-Request-Id"]
    defect, answered = [line for line in lines() if line["level"] == "error"], lines()
    assert [line["error"] for line in defect] == [
        {"sqlite": "OperationalError", "postgresql": "ProgrammingError"}[backend]
    ]
    assert defect[0]["request_id"] == response.headers["X-Request-Id"]
    assert any(frame.startswith("registry.models:") for frame in defect[0]["frames"])
    assert "anna" not in json.dumps(answered)
    assert "no such table" not in json.dumps(answered)
    assert "does not exist" not in json.dumps(answered)


def test_the_running_service_writes_lines_of_json_and_nothing_else(capsys):
    logger = logging.getLogger("fedpact.governance")
    before = (logger.handlers, logger.level, logger.propagate)
    try:
        journal.write_to(__import__("sys").stderr)
        journal.journal.info("answered", status=200)
    finally:
        logger.handlers, logger.level, logger.propagate = before
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["status"], line["level"]) == ("answered", 200, "info")
    assert line["timestamp"].endswith("Z")


def test_figures_count_answers_refusals_and_what_is_open(world):
    before = figures(world)
    world.permit("run-1")
    world.gateway("dpo").stop("all", None, NOTE)
    with pytest.raises(RefusedError):
        world.permit("run-2")
    after = figures(world)
    granted = 'fedpact_requests_total{method="POST",route="/v1/permits",status="200"}'
    refused = 'fedpact_refusals_total{code="stop.in_force",route="/v1/permits"}'
    count = 'fedpact_request_seconds_count{route="/v1/permits"}'
    assert (before.get(granted, 0), after[granted]) == (0, 1)
    assert (after[refused], after[count]) == (1, 2)
    assert after["fedpact_log_entries"] == before["fedpact_log_entries"] + 3
    assert (before["fedpact_permits_open"], after["fedpact_permits_open"]) == (0, 0)
    world.gateway("compliance").lift_stop(
        world.get("/v1/stops", "auditor")["stops"][0]["stop"], "closed"
    )
    world.permit("run-3")
    assert figures(world)["fedpact_permits_open"] == 1


def test_opt_outs_leave_no_trace_in_the_figures_taken_and_refused_alike(world):
    get(world, "/v1/models")
    before = figures(world)
    for number in (1, 2, 2, 9):
        event = world.sign(world.opt_out("north", number), "north")
        world.client.post("/v1/opt-outs", json=event.model_dump(mode="json", by_alias=True))
    assert figures(world) == before


def test_labels_come_from_closed_sets_whatever_a_caller_sends(world):
    for path in ("/nowhere/carla", "/v1/models/anna/1", "/v1/plans/emil"):
        get(world, path)
    world.client.request("BREW", "/v1/models")
    world.client.post("/v1/claims")
    names = list(figures(world))
    routes = {match for name in names for match in re.findall(r'route="([^"]*)"', name)}
    known = set(world.client.get("/openapi.json").json()["paths"])
    assert routes <= known | {"unmatched", "/openapi.json"}
    methods = {match for name in names for match in re.findall(r'method="([^"]*)"', name)}
    assert methods == {"GET", "POST", "other"}
