"""Role x route x unit, from the OpenAPI document: nobody reads another unit's things.

A route that is new is asked by every caller as it is; what it needs besides is in `SENT`, and a
route that admits operators of units without saying what they may see fails.
"""

from typing import Any

import pytest

from fedcore.errors import ConflictError, InvalidRecordError
from fedcore.group_opt_outs import GroupOptOut, GroupSetAside
from fedcore.incidents import IncidentFacts, IncidentOpening
from fedcore.ledgers import LedgerRequest
from fedcore.membership import KeyRotation, Leave
from fedcore.signing import SigningKey
from governance.roles import HOUSE_ROLES, UNIT_ROLES

INSIDE, OUTSIDE = "north", "east"
# The roles of the house, and the operators of a unit that the run is about and of one that it is
# not about.
CALLERS = (*HOUSE_ROLES, INSIDE, OUTSIDE)
NOTHING = {
    "digest": "sha256:" + "0" * 64,
    "run_id": "nothing",
    "name": "nothing",
    "version": 1,
    "unit": "nothing",
    "role": "auditor",
    "number": 99,
    "sequence": 99,
}
QUERY = {"/v1/log/proof": "?document={plan}", "/v1/log/consistency": "?size=1"}
BODY = {"/v1/units/{unit}/revocation": {"reason": "stolen"}}
# What one of them can do only once, or does to all others, is asked last.
LAST = ("revoke_node", "end_sessions")


@pytest.fixture
def both(evaluating: Any, model_bytes: bytes) -> Any:
    """Runs, models, their evaluation and an audit by north and south, and a third unit that has
    nothing to do with them.
    """
    world = evaluating.world
    world.enrol(OUTSIDE)
    plan, permit = evaluating.permitted()
    tables = evaluating.signed(evaluating.answered(plan, permit))
    world.gateway("operator").submit_tables("eval-1", tables)
    world.take_into_force(evaluating.audited_dpia(2))
    evaluating.train("run-3", model_bytes)
    evaluating.audit("run-3", "eval-2", "alike")
    world.evaluation_plan, world.evaluated_model = plan.digest, plan.initial_model
    world.cosign()
    world.gateway().submit_opt_out(world.sign(world.opt_out(INSIDE, 1), INSIDE))
    facts = IncidentFacts(title="t", nature="n", aware_at=world.clock.now)
    world.gateway("dpo").open_incident(IncidentOpening(facts=facts))
    for unit in (INSIDE, OUTSIDE):
        made = world.gateway("admin").create_account(f"of-{unit}", UNIT_ROLES[0], unit=unit)
        world.api_keys[unit] = made
    return world


def operations(world):
    """Every operation: method, path template, what the document says of it; the dangerous last."""
    paths = world.client.get("/openapi.json").json()["paths"]
    found = [
        (method, path, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]
    return sorted(found, key=lambda item: item[2]["operationId"] in LAST)


def things(world, operation):
    """The path parameters of what the run of north and south is about."""
    digests = {
        "fetch_dpia": world.dpia().digest,
        "fetch_plan": world.plan().digest,
        "fetch_evaluation_plan": world.evaluation_plan,
        "fetch_artifact": world.evaluated_model,
        "fetch_contract": world.plan().contract,
    }
    runs = {"fetch_evaluation": "eval-1"}
    runs |= dict.fromkeys(("fetch_audit", "fetch_audit_tables"), "eval-2")
    return {
        **NOTHING,
        "digest": digests.get(operation["operationId"], NOTHING["digest"]),
        "run_id": runs.get(operation["operationId"], "run-1"),
        "name": "churn",
        "unit": INSIDE,
        "number": 1,
        "sequence": 1,
    }


def ask(world, caller, method, path, parameters):
    query = QUERY.get(path, "").format(plan=world.plan().digest)
    body = BODY.get(path, {}) if method == "post" else None
    headers = {"Authorization": f"Bearer {world.api_keys[caller]}"}
    return world.client.request(
        method, path.format(**parameters) + query, json=body, headers=headers
    )


def code_of(response):
    kind = response.headers.get("content-type", "")
    return response.json()["code"] if kind.startswith("application/problem+json") else ""


def answered(response):
    """Status and problem of an answer, without what differs from request to request."""
    if not response.headers["content-type"].startswith("application/problem+json"):
        return response.status_code, None
    problem = response.json()
    return response.status_code, {
        name: problem[name] for name in problem if name not in {"instance", "request_id"}
    }


def expected(caller, roles, units):
    """Whether a caller is refused, or sees what is there, or what they would see were it not."""
    role = caller if caller in HOUSE_ROLES else UNIT_ROLES[0]
    if role not in roles:
        return "refused"
    return "blind" if caller == OUTSIDE and units == "own" else "admitted"


@pytest.mark.timeout(300)
def test_every_route_shows_a_units_operator_their_own_unit_and_nothing_else(both):
    seen: dict[str, set[str]] = {"refused": set(), "blind": set(), "admitted": set()}
    for method, path, operation in operations(both):
        if "security" not in operation:
            assert operation["x-fedpact-access"] in {"public", "node"}, path
            continue
        roles = operation["security"][0]["bearer"]
        units = operation.get("x-fedpact-units")
        assert (units in {"own", "none"}) == (UNIT_ROLES[0] in roles), (method, path)
        for caller in CALLERS:
            verdict = expected(caller, roles, units)
            seen[verdict].add(path)
            response = ask(both, caller, method, path, things(both, operation))
            told = (caller, method, path, response.status_code, response.text[:300])
            if verdict == "refused":
                assert (response.status_code, response.json()["code"]) == (
                    403,
                    "auth.wrong_role",
                ), told
                continue
            assert not code_of(response).startswith("auth."), told
            if verdict == "admitted" and method == "get" and "{" in path:
                assert response.status_code == 200, told
            if verdict == "blind" and "{" in path:
                absent = ask(both, caller, method, path, NOTHING)
                assert answered(response) == answered(absent), told
                assert response.status_code == 404, told
            elif verdict == "blind":
                assert INSIDE.encode() not in response.content, told
                assert b"south" not in response.content, told
    assert all(seen.values())


def test_lists_hold_a_units_own_and_lists_of_others_are_not_shorter_for_it(both):
    def listed(caller, path, name):
        return [item[name] for item in next(iter(both.get(path, caller).values()))]

    assert listed(INSIDE, "/v1/units", "unit") == [INSIDE]
    assert listed(OUTSIDE, "/v1/units", "unit") == [OUTSIDE]
    assert listed("auditor", "/v1/units", "unit") == ["east", "north", "south"]
    for path, name, all_of_them in (
        ("/v1/models", "version", [1, 2, 3]),
        ("/v1/evaluations", "run_id", ["eval-1", "eval-2"]),
        ("/v1/audits", "run_id", ["eval-2"]),
    ):
        assert listed(INSIDE, path, name) == all_of_them
        assert listed(OUTSIDE, path, name) == []
        assert listed("auditor", path, name) == all_of_them


def test_a_units_operator_stops_their_own_node_and_no_other(both):
    def revoke(unit):
        return ask(
            both, INSIDE, "post", "/v1/units/{unit}/revocation", {**NOTHING, "unit": unit}
        ).status_code

    assert revoke("south") == 404
    assert both.bulletin("south")
    assert revoke(INSIDE) == 200


def documents_of(world, named, signer):
    """A document for each route of nodes that names one unit and is signed by another."""
    key = SigningKey.generate()
    world.keys["fresh"] = key
    enrolment = world.sign(world.enrolment(named, node_key=key.public), "fresh")
    leave = Leave(
        unit=named,
        ledger_sequence=0,
        ledger_hash="00" * 32,
        reason="r",
        left_at=world.clock.now,
    )
    for_group = GroupOptOut(
        group="retail",
        unit=named,
        sequence=1,
        pseudonym="ab" * 32,
        purpose="marketing",
        channel="web",
        ground="gpc",
        received_at=world.clock.now,
        seal="00" * 32,
    )
    aside = GroupSetAside(
        group="retail",
        by=named,
        unit=named,
        sequence=1,
        event=for_group.digest,
        decided_at=world.clock.now,
        seal="00" * 32,
    )
    asked = LedgerRequest(unit=named, nonce="ab" * 32, requested_at=world.clock.now)
    rotation = KeyRotation(unit=named, enrolment=enrolment, requested_at=world.clock.now)
    return {
        "/v1/bulletins": world.sign(
            world.bulletin_request(named, answer="bulletin/2", group_seen=()), signer
        ),
        "/v1/opt-outs": world.sign(world.opt_out(named, 1), signer),
        "/v1/ledger-histories": world.sign(asked, signer),
        "/v1/opt-out-batches": world.sign(world.batch(named, 2), signer),
        "/v1/opt-out-histories": world.sign(world.history_request(named), signer),
        "/v1/group-opt-outs": world.sign(for_group, signer),
        "/v1/group-set-asides": world.sign(aside, signer),
        "/v1/rotations": world.sign(rotation, signer),
        "/v1/leaves": world.sign(leave, signer),
    }


@pytest.mark.databases
def test_no_node_speaks_for_another_unit(both):
    routes = {
        path
        for _, path, operation in operations(both)
        if operation.get("x-fedpact-access") == "node"
    }
    both.gateway("compliance").declare_group("retail", [INSIDE, "south"], "trim-upper/1", "ab" * 32)
    others, own = documents_of(both, INSIDE, OUTSIDE), documents_of(both, INSIDE, INSIDE)
    assert routes == set(own)
    for path, envelope in others.items():
        body = envelope.model_dump(mode="json", by_alias=True)
        response = both.client.post(path, json=body)
        assert (response.status_code, response.json()["code"]) == (403, "unit.other_unit"), path
    for path, envelope in own.items():
        if (
            path == "/v1/leaves"
        ):  # the key that leaves is by now the one that came with the rotation
            continue
        body = envelope.model_dump(mode="json", by_alias=True)
        assert both.client.post(path, json=body).is_success, path


class TestAccounts:
    def test_a_units_operator_names_a_unit_and_nobody_else_does(self, both):
        admin = both.gateway("admin")
        with pytest.raises(InvalidRecordError, match=r"account\.unit_missing"):
            admin.create_account("ole", "unit_operator")
        with pytest.raises(InvalidRecordError, match=r"account\.unit_needless"):
            admin.create_account("ole", "auditor", unit=INSIDE)
        assert admin.create_account("ole", "unit_operator", unit=INSIDE)
        assert admin.create_account("ole", "auditor")

    def test_a_revoked_operator_comes_back_for_the_same_unit_only(self, both):
        admin = both.gateway("admin")
        admin.revoke_account("of-north", "unit_operator")
        with pytest.raises(ConflictError, match=r"account\.unit_differs"):
            admin.create_account("of-north", "unit_operator", unit=OUTSIDE)
        assert admin.create_account("of-north", "unit_operator", unit=INSIDE)

    def test_who_may_act_is_listed_for_those_who_oversee(self, both):
        both.gateway("dpo").set_password("four plain words in a row")
        both.gateway("admin").revoke_account("emil", "evaluator")
        listed = {
            (item["name"], item["role"]): item
            for item in both.get("/v1/accounts", "auditor")["accounts"]
        }
        assert listed["of-north", "unit_operator"]["unit"] == INSIDE
        assert listed["dora", "dpo"]["has_password"]
        assert not listed["ada", "auditor"]["has_password"]
        assert listed["emil", "evaluator"]["revoked"]
        text = str(listed)
        assert "argon2" not in text
        assert both.api_keys["dpo"][4:20] not in text
