"""The OpenAPI document: version 3.1, with an example for every body that its route reads."""

import jsonschema_rs
import pytest

METHODS = {"get", "post"}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


pytestmark = pytest.mark.parametrize("backend", ["sqlite"])  # the document knows no database


@pytest.fixture
def document(make_world):
    return make_world().client.get("/openapi.json").json()


def operations(document):
    return {
        operation["operationId"]: operation
        for methods in document["paths"].values()
        for operation in methods.values()
    }


def bodies(document):
    return {
        name: operation["requestBody"]["content"]["application/json"]
        for name, operation in operations(document).items()
        if "requestBody" in operation
    }


def schema_of(document, body):
    """The schema of a body, with what it refers to."""
    return {**body["schema"], "components": document["components"]}


def test_every_body_has_an_example_that_its_schema_allows(document):
    found = bodies(document)
    assert len(found) >= 18
    for name, body in found.items():
        schema = schema_of(document, body)
        assert jsonschema_rs.is_valid(schema, body["example"]), name
        assert not jsonschema_rs.is_valid(schema, {**body["example"], "surplus": 1}), name


def test_every_example_is_read_by_its_route(world):
    """What is refused is refused by what it says, like a signature of nobody, not by its form."""
    document = world.client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "requestBody" not in operation:
                continue
            roles = [r for item in operation.get("security", []) for r in item["bearer"]]
            headers = {"Authorization": f"Bearer {world.api_keys[roles[0]]}"} if roles else {}
            example = operation["requestBody"]["content"]["application/json"]["example"]
            values = {"run_id": "run-1", "unit": "north", "name": "a", "role": "dpo", "number": 1}
            values |= {"version": 1, "sequence": 1}
            url = path.format(digest="sha256:" + "0" * 64, **values)
            response = world.client.request(method, url, json=example, headers=headers)
            assert response.status_code < 500
            assert "request.invalid" not in response.text, (path, response.text)


def test_the_document_is_what_openapi_31_allows(document):
    assert document["openapi"].startswith("3.1.")
    assert set(document) <= {"openapi", "info", "paths", "components"}
    names = operations(document)
    assert len(names) == sum(len(methods) for methods in document["paths"].values())
    for path, methods in document["paths"].items():
        assert set(methods) <= METHODS
        for operation in methods.values():
            parameters = operation.get("parameters", [])
            in_path = {item["name"] for item in parameters if item["in"] == "path"}
            assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}
            assert operation["responses"]
            assert all(answer["description"] for answer in operation["responses"].values())
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": DIALECT, **schema})


def test_every_answer_that_is_an_error_is_said_to_be_a_problem(document):
    for name, operation in operations(document).items():
        content = operation["responses"]["default"]["content"]
        assert content == {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        }, name


def test_everything_that_is_referred_to_is_there(document):
    def references(value):
        if isinstance(value, dict):
            yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from references(item)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document["paths"])) <= known
    assert set(references(document["components"])) <= known


def test_lists_say_that_they_link_and_acts_that_they_need_a_precondition(document):
    names = operations(document)
    for name in (
        "list_models",
        "list_units",
        "list_stops",
        "list_entries",
        "list_decisions",
        "list_incidents",
    ):
        assert "Link" in names[name]["responses"]["200"]["headers"], name
    for name in ("act_on_dpia", "update_incident"):
        headers = {item["name"] for item in names[name]["parameters"]}
        assert headers >= {"If-Match", "Idempotency-Key"}
