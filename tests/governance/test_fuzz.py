"""The whole API with every role, by requests made from its own OpenAPI document.

Whatever comes, governance answers as the document says: no defect, nothing of another unit, and a
caller without the role learns nothing but that. Where the role is allowed, requests that make sense
are mixed in, so that what is behind the first check is met as well.
"""

import base64
import io
import itertools
import json
import secrets
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fedcore.gateway_http import HttpGateway
from fedcore.incidents import IncidentFacts, IncidentOpening
from fedcore.ledgers import LedgerRequest
from fedcore.membership import KeyRotation, Leave
from fedcore.signing import SigningKey
from governance.problems import MEDIA_TYPE
from governance.roles import ROLES

ON_POSTGRESQL = (pytest.mark.postgres, pytest.mark.databases)

load_all_checks()
CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
NODE, PUBLIC = "node", "public"
# What ends something for all others comes when they are done.
PASSWORD = "four plain words in a row"
LAST = (
    "decide_model",
    "stop",
    "lift_stop",
    "open_incident",
    "update_incident",
    "rotate_key",
    "leave",
)
# What names in `If-Match` what its doer has seen.
SEEN = {"act_on_dpia", "decide_model", "update_incident", "promote_model", "roll_back"}
ACTS = [
    ("author", "submit"),
    ("evaluator", "evaluate"),
    ("dpo", "advise"),
    ("approver", "approve"),
    ("compliance", "suspend"),
]


@dataclass
class Counts:
    """How many calls each role was allowed to make, and how many of them succeeded."""

    made: Counter[str] = field(default_factory=Counter)
    succeeded: Counter[str] = field(default_factory=Counter)

    def add(self, role: str, response: Any) -> None:
        self.made[role] += 1
        self.succeeded[role] += response.is_success


class Sensible:
    """Requests that make sense in the world as it is: each may be made again and again."""

    def __init__(self, evaluating: Any, model: bytes) -> None:
        world = evaluating.world
        self.world, self._model = world, model
        self._evaluate(evaluating)
        self._opt_outs = itertools.count(2)
        self._numbers = itertools.count(1)
        permit = world.permit("run-1")
        receipts = [world.receipt(permit, unit, 1) for unit in ("north", "south")]
        self._round = {
            "report": _plain(world.sign(world.report(receipts), "operator")),
            "receipts": [_plain(world.sign(receipt, receipt.unit)) for receipt in receipts],
        }
        world.run("run-2")
        world.permit("run-3")
        for unit in ("spare", "turning", "leaving"):
            world.enrol(unit)
        self._rotation = self._rotate("turning")
        world.gateway("dpo").open_incident(IncidentOpening(facts=self._facts()))
        self.pulled = world.gateway("compliance").stop("unit", "elsewhere", "r").digest
        sam = world.gateway("admin").create_account("sam", "auditor")
        HttpGateway(world.client, sam).set_password(PASSWORD)
        for name, lifter in (("lena", "dpo"), ("lars", "compliance")):
            world.api_keys[f"other {lifter}"] = world.gateway("admin").create_account(name, lifter)

    def _evaluate(self, evaluating: Any) -> None:
        evaluating.train("trained-1", self._model)
        plan, permit = evaluating.permitted()
        tables = evaluating.signed(evaluating.answered(plan, permit))
        self.world.gateway("operator").submit_tables("eval-1", tables)
        self._evaluation_plan = plan
        self._tables = {"tables": [_plain(envelope) for envelope in tables]}

    def fresh(self, stem: str) -> str:
        return f"{stem}-{next(self._numbers)}"

    def path(self, operation: str) -> dict[str, Any]:
        """The path of something that is there."""
        digests = {
            "fetch_contract": self.world.plan().contract,
            "fetch_dpia": self.world.dpia().digest,
            "fetch_plan": self.world.plan().digest,
            "fetch_evaluation_plan": self._evaluation_plan.digest,
            "fetch_artifact": self._evaluation_plan.initial_model,
            "lift_stop": self.pulled,
        }
        runs = {"revoke_permit": "run-3", "submit_tables": "eval-1", "fetch_evaluation": "eval-1"}
        run_id = runs.get(operation, "run-1")
        name = "lena" if operation == "revoke_account" else "churn"
        return {
            "digest": digests.get(operation),
            "run_id": run_id,
            "name": name,
            "version": 1,
            "unit": "north" if operation.endswith(("opt_out", "opt_outs")) else "spare",
            "role": "auditor",
            "number": 1,
            "sequence": 1,
        }

    def body(self, operation: str) -> Any:
        """The body of a request that is granted, or None where none is needed."""
        make = getattr(self, operation, None)
        return None if make is None else make()

    def open_session(self) -> Any:
        return {"name": "sam", "role": "auditor", "password": PASSWORD}

    def refresh_session(self) -> Any:
        tokens = self.world.gateway().sign_in("sam", "auditor", PASSWORD)
        return {"refresh_token": tokens.refresh_token}

    def end_sessions(self) -> Any:
        return {"everywhere": True}

    def set_password(self) -> Any:
        return {"password": PASSWORD, "current": PASSWORD}

    def create_account(self) -> Any:
        return {"name": self.fresh("zoe"), "role": "auditor"}

    def publish_contract(self) -> Any:
        return self.world.gateway().fetch_contract(self.world.plan().contract).payload_bytes

    def create_dpia(self) -> Any:
        return self._draft().to_json()

    def register_plan(self) -> Any:
        plan = self.world.plan(title=self.fresh("plan"))
        return _plain(self.world.sign(plan, "author"))

    def register_evaluation_plan(self) -> Any:
        plan = self._evaluation_plan.model_copy(update={"title": self.fresh("evaluation")})
        return _plain(self.world.sign(plan, "author"))

    def submit_tables(self) -> Any:
        return self._tables

    def request_permit(self) -> Any:
        return {"plan": self.world.plan().digest, "run_id": self.fresh("run")}

    def revoke_permit(self) -> Any:
        return {"reason": "r"}

    def revoke_node(self) -> Any:
        return {"reason": "r"}

    def lift_stop(self) -> Any:
        return {"reason": "r"}

    def stop(self) -> Any:
        return {"scope": "unit", "subject": self.fresh("elsewhere"), "reason": "r"}

    def open_incident(self) -> Any:
        return {"facts": self._facts().model_dump(mode="json")}

    def decide_model(self) -> Any:
        return {"unit": "north", "up_to": 1, "outcome": "withdrawn", "reason": "r"}

    def approve_model(self) -> Any:
        found = self.world.gateway("auditor").check_promotion("churn", 1, "champion")
        return {"evidence": found.evidence, "reason": "r"}

    def promote_model(self) -> Any:
        return {"alias": "challenger", "reason": "r"}

    def roll_back(self) -> Any:
        return {"alias": "challenger", "reason": "r"}

    def update_incident(self) -> Any:
        return self.open_incident()

    def _facts(self) -> IncidentFacts:
        return IncidentFacts(title="t", nature="n", aware_at=self.world.clock.now)

    def enrol_unit(self) -> Any:
        unit = self.fresh("unit")
        return _plain(self.world.sign(self.world.enrolment(unit), unit))

    def submit_round(self) -> Any:
        return self._round

    def register_model(self) -> Any:
        content = base64.b64encode(self._model).decode()
        return {"run_id": "run-2", "name": "churn", "artifact_base64": content}

    def submit_cosignatures(self) -> Any:
        seen = self.world.bulletin("north").log
        return {"cosignatures": [_plain(self.world.cosignature("north", seen))]}

    def sync_bulletin(self) -> Any:
        return _plain(self.world.sign(self.world.bulletin_request("south"), "south"))

    def submit_opt_out(self) -> Any:
        return _plain(self.world.sign(self.world.opt_out("north", next(self._opt_outs)), "north"))

    def submit_opt_outs(self) -> Any:
        batch = self.world.batch("north", next(self._opt_outs), 1)
        return _plain(self.world.sign(batch, "north"))

    def fetch_opt_outs(self) -> Any:
        return _plain(self.world.sign(self.world.history_request("north"), "north"))

    def fetch_ledger_history(self) -> Any:
        now, nonce = self.world.clock.now, secrets.token_hex(32)
        request = LedgerRequest(unit="north", nonce=nonce, requested_at=now)
        return _plain(self.world.sign(request, "north"))

    def rotate_key(self) -> Any:
        return self._rotation

    def leave(self) -> Any:
        statement = Leave(
            unit="leaving",
            ledger_sequence=0,
            ledger_hash="00" * 32,
            reason="r",
            left_at=self.world.clock.now,
        )
        return _plain(self.world.sign(statement, "leaving"))

    def _rotate(self, unit: str) -> Any:
        """A rotation, which may be sent again for good."""
        self.world.keys["turned"] = SigningKey.generate()
        enrolment = self.world.enrolment(unit, node_key=self.world.keys["turned"].public)
        signed = self.world.sign(enrolment, "turned")
        rotation = KeyRotation(unit=unit, enrolment=signed, requested_at=self.world.clock.now)
        return _plain(self.world.sign(rotation, unit))

    def act_by(self, role: str) -> tuple[str, Any]:
        """A DPIA that waits for an act of this role, and the act."""
        digest = self.world.gateway("author").create_dpia(self._draft())
        for before, act in ACTS:
            if before == role:
                verdict = {"verdict": "favourable"} if act == "advise" else {}
                return digest, {"act": act, "note": "n", **verdict}
            self.world.act(digest, act, before)
        raise AssertionError(role)

    def _draft(self) -> Any:
        dpia = self.world.dpia(dpia_id=self.fresh("dpia"))
        return dpia.model_copy(
            update={"bindings": dpia.bindings.model_copy(update={"task": "response"})}
        )


def _plain(envelope: Any) -> Any:
    return envelope.model_dump(mode="json", by_alias=True)


def operations(document):
    """Every operation as schemathesis knows it, with the roles that it admits."""
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]
        raw = document["paths"][operation.path][operation.method]
        roles = [role for item in raw.get("security", []) for role in item["bearer"]]
        yield operation, raw["operationId"], roles or [raw["x-fedpact-access"]]


def send(world, role, method, url, **arguments):
    headers = dict(arguments.pop("headers", None) or {})
    if role in world.api_keys:
        headers["Authorization"] = f"Bearer {world.api_keys[role]}"
    sent = {name: str(value).encode("latin-1", "replace") for name, value in headers.items()}
    return world.client.request(method, url, headers=sent, **arguments)


def send_case(world, role, case):
    arguments = case.as_transport_kwargs(base_url="http://governance")
    headers = dict(arguments.get("headers") or {})
    headers.pop("Authorization", None)  # who calls is chosen here
    content = arguments.get("data")
    if "json" in arguments:
        content = json.dumps(arguments["json"])
        headers["Content-Type"] = "application/json"
    return send(
        world,
        role,
        arguments["method"],
        arguments["url"],
        params=arguments.get("params"),
        content=content,
        headers=headers,
    )


def read(response):
    """Everything that an answer tells, with what is packed or encoded in it."""
    parts = [response.content]
    if response.headers.get("content-type") == "application/zip":
        archive = zipfile.ZipFile(io.BytesIO(response.content))
        parts = [archive.read(name) for name in archive.namelist()]
    return b"\n".join(itertools.chain.from_iterable(map(unpacked, parts)))


def unpacked(content):
    """The content, and that of every signed document in it, however deep."""
    yield content
    try:
        pending = [json.loads(content)]
    except ValueError:
        return
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if isinstance(value.get("payload"), str):
                yield from unpacked(base64.b64decode(value["payload"]))
            value = list(value.values())
        if isinstance(value, list):
            pending += value


class Fuzz:
    """One world, everything that is sent to it, and what is held against each answer."""

    def __init__(self, evaluating: Any, model: bytes, examples: int) -> None:
        world = evaluating.world
        self.world, self.examples = world, examples
        self.document = world.client.get("/openapi.json").json()
        self.counts = Counts()
        self.sensible = Sensible(evaluating, model)
        world.gateway("operator").register_model("run-2", "churn", model)
        world.cosign()
        first = world.opt_out("north", 1)
        world.gateway().submit_opt_out(world.sign(first, "north"))
        self.marker = first.pseudonym.encode()

    def everything(self) -> None:
        found = list(operations(self.document))
        for operation, name, roles in sorted(found, key=lambda item: item[1] in LAST):
            self.cases(operation, roles)
            for role in roles:
                for _ in range(self.examples):
                    self.sense(operation, name, role)

    def cases(self, operation: Any, roles: list[str]) -> None:
        """Requests as the document allows them, from all whom it is for, and others in turn."""
        admits_all = roles[0] in {NODE, PUBLIC}
        strangers = itertools.cycle(
            () if admits_all else [role for role in (*ROLES, PUBLIC) if role not in roles]
        )

        @given(case=operation.as_strategy())
        @settings(
            max_examples=self.examples,
            deadline=None,
            phases=(Phase.generate,),  # to shrink a failure takes minutes
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def answer_is_tame(case):
            for role in roles:
                response = send_case(self.world, role, case)
                self.hold(case, response)
                self.counts.add(role, response)
            for role in itertools.islice(strangers, 1):
                response = send_case(self.world, role, case)
                self.hold(case, response)
                refused = (401, "auth.missing") if role == PUBLIC else (403, "auth.wrong_role")
                assert (response.status_code, response.json()["code"]) == refused

        answer_is_tame()

    def sense(self, operation: Any, name: str, role: str) -> None:
        """A request that makes sense, from somebody whom it is for."""
        path, headers = self.sensible.path(name), {}
        body = self.sensible.body(name)
        if name == "act_on_dpia":
            path["digest"], body = self.sensible.act_by(role)
        if name in SEEN:
            headers["If-Match"] = "*"
        caller = f"other {role}" if name == "lift_stop" else role
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body)
        headers["Content-Type"] = "application/json"
        url = operation.path.format(**path)
        method = operation.method.upper()
        response = send(self.world, caller, method, url, content=content, headers=headers)
        self.hold(operation.Case(path_parameters=path), response)
        self.counts.add(role, response)

    def hold(self, case: Any, response: Any) -> None:
        """Hold an answer against the document, and against what nobody but the unit may read."""
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            assert response.headers["content-type"] == MEDIA_TYPE
        response.elapsed = timedelta()  # of no interest, and missing without a network
        case.validate_response(response, checks=CHECKS)
        assert self.marker not in read(response)

    def shares(self) -> dict[str, float]:
        return {
            role: self.counts.succeeded[role] / self.counts.made[role] for role in self.counts.made
        }


@pytest.mark.parametrize(
    ("backend", "examples"),
    [
        pytest.param("sqlite", 2, id="few"),
        pytest.param("sqlite", 15, id="many", marks=pytest.mark.slow),
        # What a database takes differs: a zero character, a large number.
        pytest.param("postgresql", 3, id="postgresql", marks=[pytest.mark.slow, *ON_POSTGRESQL]),
    ],
)
@pytest.mark.timeout(900)
def test_whatever_comes_from_whomever_governance_answers_as_it_says(
    world, evaluating_in, model_bytes, examples
):
    fuzz = Fuzz(evaluating_in(world), model_bytes, examples)
    fuzz.everything()
    assert set(fuzz.counts.made) == {*ROLES, NODE, PUBLIC}
    assert {role: share for role, share in fuzz.shares().items() if share < 0.3} == {}


def test_the_marker_of_a_unit_is_found_where_it_is(world):
    """The search itself is checked: the unit's own bulletin has what no other answer may have."""
    event = world.opt_out("north", 1)
    world.gateway().submit_opt_out(world.sign(event, "north"))
    own, others = (
        world.client.post(
            "/v1/bulletins", json=_plain(world.sign(world.bulletin_request(unit), unit))
        )
        for unit in ("north", "south")
    )
    assert event.pseudonym.encode() in read(own)
    assert event.pseudonym.encode() not in read(others)
