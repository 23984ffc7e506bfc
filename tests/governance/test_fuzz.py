"""Requests made from the OpenAPI document: whatever comes, governance answers with a problem."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from governance.problems import MEDIA_TYPE

pytestmark = pytest.mark.slow


def operations(world):
    """Yield each operation with the API key of a role that it admits, if it needs one."""
    document = world.client.get("/openapi.json").json()
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]
        security = document["paths"][operation.path][operation.method].get("security", [])
        roles = [role for requirement in security for role in requirement["apiKey"]]
        yield operation, world.api_keys[roles[0]] if roles else None


def send(world, case, api_key):
    arguments = case.as_transport_kwargs(base_url="http://governance")
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    content = arguments.get("data")
    if "json" in arguments:
        content = json.dumps(arguments["json"])
        headers["Content-Type"] = "application/json"
    return world.client.request(
        arguments["method"],
        arguments["url"],
        params=arguments.get("params"),
        content=content,
        headers=headers,
    )


def check(world, operation, api_key):
    @given(case=operation.as_strategy())
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    def answer_is_tame(case):
        response = send(world, case, api_key)
        assert response.status_code < 500
        if response.status_code >= 400:
            assert response.headers["content-type"] == MEDIA_TYPE

    answer_is_tame()


def test_no_request_brings_more_than_a_problem_out_of_governance(make_world):
    world = make_world()
    world.people()
    checked = [check(world, *pair) for pair in operations(world)]
    assert len(checked) > 20
