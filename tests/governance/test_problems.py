"""The rim: every error as a problem document, and nothing of the inside in it."""

import json

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from fedcore import errors
from fedcore.errors import DataError, FedError, RefusedError
from governance import problems
from governance.limits import RequestLimits

SECRET = "4111-1111 customer C17"


def subclasses(kind):
    return {kind, *(found for child in kind.__subclasses__() for found in subclasses(child))}


PUBLIC = sorted(
    (
        kind
        for kind in subclasses(FedError)
        if kind.__module__ == errors.__name__ and kind not in {FedError, DataError}
    ),
    key=lambda kind: kind.__name__,
)


def error_of(kind):
    if issubclass(kind, RefusedError):
        return kind([("a.b", "One."), ("c.d", "Two.")], SECRET)
    return kind("a.b", "One.", SECRET)


@pytest.mark.parametrize("kind", PUBLIC)
def test_each_error_has_a_type_of_its_own_and_hides_its_detail(kind):
    problem = problems.problem_of(error_of(kind), "/v1/x")
    assert problem.code == "a.b"
    assert 400 <= problem.status < 600
    assert problem.status != 500
    assert SECRET not in problem.model_dump_json()
    others = [problems.problem_of(error_of(other), "").type for other in PUBLIC if other != kind]
    assert problem.type not in others


def test_a_refusal_tells_all_its_reasons():
    problem = problems.problem_of(error_of(RefusedError), "/v1/x")
    assert problem.codes == ("a.b", "c.d")
    assert [reason.text for reason in problem.reasons] == ["One.", "Two."]
    assert problem.detail == "One. Two."


def test_a_data_error_tells_nothing():
    problem = problems.problem_of(DataError("data.x", SECRET, SECRET), "/v1/x")
    assert (problem.status, problem.code) == (500, "governance.internal")
    assert SECRET not in problem.model_dump_json()


@pytest.fixture
def client():
    app = FastAPI()
    problems.install(app)
    app.add_middleware(RequestLimits, max_body_bytes=2048)

    @app.post("/echo")
    def echo(body: dict[str, int]) -> dict[str, int]:
        return body

    @app.get("/broken")
    def broken() -> None:
        raise ZeroDivisionError(SECRET)

    return TestClient(app, raise_server_exceptions=False)


def test_an_unexpected_error_is_500_without_its_text(client, caplog):
    response = client.get("/broken")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "governance.internal"
    assert SECRET not in response.text
    assert "ZeroDivisionError" in caplog.text


def test_an_invalid_request_names_the_field_and_never_its_value(client):
    response = client.post("/echo", json={"age": SECRET})
    assert (response.status_code, response.json()["code"]) == (422, "request.invalid")
    assert response.json()["detail"].startswith("age: ")
    assert SECRET not in response.text
    assert client.post("/echo", json={"age": 4}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "route.unknown"),
        ("DELETE", "/echo", 405, "route.method_not_allowed"),
    ],
)
def test_unknown_routes_and_methods_are_problems_too(client, method, path, status, code):
    response = client.request(method, path)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["instance"] == path


def body_of(size):
    return json.dumps({"a": 1}).encode().ljust(size)


def test_a_body_above_the_limit_is_refused_and_one_at_the_limit_is_read(client):
    headers = {"content-type": "application/json"}
    too_large = client.post("/echo", content=body_of(2049), headers=headers)
    assert (too_large.status_code, too_large.json()["code"]) == (413, "request.too_large")
    assert client.post("/echo", content=body_of(2048), headers=headers).json() == {"a": 1}


def test_a_body_of_unstated_length_is_held_to_the_limit_as_well(client):
    headers = {"content-type": "application/json"}

    def pieces(size):
        yield from (body_of(size)[start : start + 100] for start in range(0, size, 100))

    assert client.post("/echo", content=pieces(2049), headers=headers).status_code == 413
    assert client.post("/echo", content=pieces(2048), headers=headers).json() == {"a": 1}


@pytest.mark.parametrize("path", ["/echo", "/nowhere", "/broken"])
def test_every_answer_has_the_security_headers(client, path):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
