"""Who may call what: every role on every route of the OpenAPI document."""

import re
from typing import Any

import pytest

from fedcore import opt_out_history
from fedcore.errors import ConflictError, ForbiddenError, InvalidRecordError
from fedcore.signing import SigningKey
from governance.accounts import bootstrap
from governance.exports.model_card import MEDIA_TYPES as CARDS
from governance.metrics import MEDIA_TYPE
from governance.roles import HOUSE_ROLES, OVERSEER_ROLES, ROLES
from registry import accounts
from registry.database import Database

# A new route fails here until it is written down with the roles that it is for.
ROUTES = {
    ("post", "/v1/sessions"): "public",
    ("post", "/v1/sessions/refresh"): "public",
    ("post", "/v1/sessions/end"): set(ROLES),
    ("post", "/v1/password"): set(ROLES),
    ("get", "/v1/me"): set(ROLES),
    ("post", "/v1/accounts"): {"admin"},
    ("get", "/v1/accounts"): {"auditor", "compliance", "dpo", "admin"},
    ("post", "/v1/accounts/{name}/{role}/revocation"): {"admin"},
    ("post", "/v1/claims"): "public",
    ("post", "/v1/enrolments"): {"compliance", "admin"},
    ("get", "/v1/units"): {"operator", "admin", "compliance", "auditor", "unit_operator"},
    ("get", "/v1/units/{unit}/opt-outs"): {
        "auditor",
        "compliance",
        "dpo",
        "admin",
        "unit_operator",
    },
    ("post", "/v1/units/{unit}/revocation"): {"compliance", "admin", "unit_operator"},
    ("post", "/v1/contracts"): {"compliance"},
    ("get", "/v1/contracts/{digest}"): "public",
    ("post", "/v1/dpias"): {"author"},
    ("post", "/v1/dpias/{digest}/acts"): {"author", "evaluator", "dpo", "approver", "compliance"},
    ("get", "/v1/dpias/{digest}"): set(ROLES),
    ("post", "/v1/plans"): {"author"},
    ("get", "/v1/plans/{digest}"): set(ROLES),
    ("post", "/v1/evaluation-plans"): {"author"},
    ("get", "/v1/evaluation-plans/{digest}"): set(ROLES),
    ("post", "/v1/runs/{run_id}/tables"): {"operator"},
    ("get", "/v1/evaluations"): set(ROLES),
    ("get", "/v1/evaluations/{run_id}"): set(ROLES),
    ("get", "/v1/audits"): set(ROLES),
    ("get", "/v1/audits/{run_id}"): set(HOUSE_ROLES),
    ("get", "/v1/audits/{run_id}/tables"): set(OVERSEER_ROLES),
    ("get", "/v1/models/{name}/{version}/waivers"): set(HOUSE_ROLES),
    ("post", "/v1/models/{name}/{version}/waivers"): {"approver", "compliance", "evaluator"},
    ("post", "/v1/permits"): {"operator"},
    ("get", "/v1/permits/{run_id}"): set(ROLES),
    ("get", "/v1/permits/{run_id}/decisions"): {"auditor", "compliance", "dpo", "admin"},
    ("get", "/v1/permits/{run_id}/replays"): {"auditor", "compliance", "dpo", "admin"},
    ("post", "/v1/permits/{run_id}/renewal"): {"operator"},
    ("post", "/v1/permits/{run_id}/revocation"): {"compliance", "dpo"},
    ("post", "/v1/stops"): {"compliance", "dpo"},
    ("get", "/v1/stops"): {"auditor", "compliance", "dpo", "admin"},
    ("post", "/v1/stops/{digest}/lift"): {"compliance", "dpo"},
    ("post", "/v1/incidents"): {"compliance", "dpo"},
    ("post", "/v1/incidents/{number}/updates"): {"compliance", "dpo"},
    ("get", "/v1/incidents"): {"auditor", "compliance", "dpo", "admin"},
    ("get", "/v1/incidents/{number}"): {"auditor", "compliance", "dpo", "admin"},
    ("post", "/v1/rounds"): {"operator"},
    ("post", "/v1/models"): {"operator"},
    ("get", "/v1/models"): set(ROLES),
    ("get", "/v1/models/{name}/{version}"): set(ROLES),
    ("get", "/v1/models/{name}/{version}/evidence"): set(HOUSE_ROLES),
    ("get", "/v1/artifacts/{digest}"): set(HOUSE_ROLES),
    ("get", "/v1/models/{name}/{version}/decisions"): {"auditor", "compliance", "dpo", "admin"},
    ("post", "/v1/models/{name}/{version}/decisions"): {"compliance", "dpo"},
    ("get", "/v1/models/{name}/{version}/promotion"): set(HOUSE_ROLES),
    ("post", "/v1/models/{name}/{version}/promotion"): {"approver", "compliance"},
    ("get", "/v1/models/{name}/{version}/promotion/answers"): {
        *("auditor", "compliance", "dpo", "admin")
    },
    ("post", "/v1/models/{name}/{version}/approvals"): {"approver", "compliance", "evaluator"},
    ("get", "/v1/models/{name}/{version}/card"): set(HOUSE_ROLES),
    ("get", "/v1/aliases/{name}"): set(HOUSE_ROLES),
    ("post", "/v1/aliases/{name}/rollback"): {"approver", "compliance", "dpo"},
    ("post", "/v1/cosignatures"): {"operator"},
    ("post", "/v1/bulletins"): "node",
    ("post", "/v1/opt-outs"): "node",
    ("post", "/v1/group-opt-outs"): "node",
    ("post", "/v1/group-set-asides"): "node",
    ("get", "/v1/group-opt-outs/{unit}"): {
        *("admin", "auditor", "compliance", "dpo", "unit_operator")
    },
    ("post", "/v1/opt-out-groups/{name}"): {"compliance"},
    ("get", "/v1/opt-outs/{unit}"): {"admin", "auditor", "compliance", "dpo", "unit_operator"},
    ("get", "/v1/opt-outs/{unit}/{sequence}"): {
        *("admin", "auditor", "compliance", "dpo", "unit_operator")
    },
    ("post", "/v1/opt-out-batches"): "node",
    ("post", "/v1/opt-out-histories"): "node",
    ("post", "/v1/ledger-histories"): "node",
    ("post", "/v1/rotations"): "node",
    ("post", "/v1/leaves"): "node",
    ("get", "/v1/log/checkpoint"): set(ROLES),
    ("get", "/v1/log/entries"): set(HOUSE_ROLES),
    ("get", "/v1/log/export"): set(HOUSE_ROLES),
    ("get", "/v1/log/proof"): set(ROLES),
    ("get", "/v1/log/consistency"): set(ROLES),
    ("post", "/v1/log/erasures"): {"compliance", "dpo"},
    ("get", "/v1/handovers"): "public",
    ("get", "/healthz"): "public",
    ("get", "/readyz"): "public",
    ("get", "/metrics"): {"auditor", "compliance", "dpo", "admin"},
    ("get", "/v1/about"): "public",
}


@pytest.fixture
def people(make_world, begin):
    return make_world(begin("people"))


def operations(world):
    document = world.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    return {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def path_of(template):
    """Return a path that reaches the route and finds nothing."""
    values = {
        "digest": "sha256:" + "0" * 64,
        "run_id": "run-9",
        "name": "none",
        "role": "dpo",
        "unit": "nowhere",
        "version": "1",
        "number": "9",
        "sequence": "9",
    }
    return re.sub(r"{(\w+)}", lambda match: values[match[1]], template)


def code_of(response):
    return response.json().get("code", "") if response.content.startswith(b"{") else ""


def test_every_route_is_classified_and_says_so_in_the_document(people):
    declared = {}
    for key, operation in operations(people).items():
        assert operation["summary"]
        security = operation.get("security")
        if security is None:
            declared[key] = operation["x-fedpact-access"]
        else:
            assert "x-fedpact-access" not in operation
            [requirement] = security
            declared[key] = set(requirement["bearer"])
    assert declared == ROUTES


# A bundle and a history are described in references of their own, a log export by the records
# that its lines are; a card is for people.
FILES = {
    *("application/zip", "application/jsonl", "application/octet-stream"),
    *(MEDIA_TYPE, opt_out_history.MEDIA_TYPE, *CARDS.values()),
}


def test_no_request_or_answer_is_an_untyped_object(people):
    document = people.client.get("/openapi.json").json()
    for (method, path), operation in operations(people).items():
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in contents:
            for media_type, body in content.get("content", {}).items():
                typed = "$ref" in body.get("schema", {}) or media_type in FILES
                assert typed, (method, path)
    schemas = document["components"]["schemas"]
    assert not [name for name, schema in schemas.items() if schema == {"type": "object"}]


@pytest.mark.parametrize(("method", "template"), list(ROUTES))
def test_a_route_admits_its_roles_and_no_other(people, method, template):
    expected = ROUTES[method, template]
    body: dict[str, Any] | None = {} if method == "post" else None
    call: dict[str, Any] = {"method": method, "url": path_of(template), "json": body}
    anonymous = people.client.request(**call)
    if isinstance(expected, str):
        assert anonymous.status_code in {200, 404, 422}
        return
    assert (anonymous.status_code, code_of(anonymous)) == (401, "auth.missing")
    assert anonymous.headers["www-authenticate"] == "Bearer"
    for role in ROLES:
        headers = {"Authorization": f"Bearer {people.api_keys[role]}"}
        response = people.client.request(**call, headers=headers)
        if role in expected:
            assert response.status_code in {200, 404, 409, 422}, role
        else:
            assert (response.status_code, code_of(response)) == (403, "auth.wrong_role"), role


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1],
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: "fpk_" + "0" * 16 + key[20:],
        lambda key: key.upper(),
        lambda _key: "x",
    ],
)
def test_a_changed_api_key_opens_nothing(people, change):
    key = people.api_keys["auditor"]

    def call(token):
        return people.client.get("/v1/models", headers={"Authorization": f"Bearer {token}"})

    assert (call(change(key)).status_code, code_of(call(change(key)))) == (401, "auth.invalid")
    assert call(key).status_code == 200


def test_an_api_key_of_another_account_has_that_accounts_role_only(people):
    with pytest.raises(ForbiddenError, match=r"auth\.wrong_role"):
        people.gateway("auditor").create_account("eve", "admin")
    assert people.gateway("admin").create_account("eve", "auditor").startswith("fpk_")


def test_no_secret_of_an_api_key_is_kept(people):
    content = people.stored()
    for key in people.api_keys.values():
        _, key_id, secret = key.split("_")
        assert key_id.encode() in content
        assert secret.encode() not in content


def test_accounts_are_one_per_name_and_role_and_keys_one_per_account(people):
    admin = people.gateway("admin")
    with pytest.raises(ConflictError, match=r"account\.exists"):
        admin.create_account("dora", "dpo")
    admin.create_account("dora", "auditor")
    key = SigningKey.generate().public
    admin.create_account("una", "author", key)
    with pytest.raises(ConflictError, match=r"account\.key_known"):
        admin.create_account("ugo", "author", key)


@pytest.mark.parametrize("role", ["author", "operator"])
def test_those_who_sign_need_a_key(people, role):
    with pytest.raises(InvalidRecordError, match=r"account\.key_missing"):
        people.gateway("admin").create_account("una", role)
    people.gateway("admin").create_account("una", role, SigningKey.generate().public)


def test_the_first_administrator_is_made_once(people):
    database = Database(people.settings.database_url)
    with pytest.raises(ConflictError, match=r"account\.exists"):
        bootstrap(database, people.clock.now)
    with database.reading() as session:
        admins = [item for item in accounts.list_all(session) if item.role == "admin"]
    database.close()
    assert [admin.name for admin in admins] == ["admin"]
