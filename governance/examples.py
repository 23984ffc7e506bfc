"""An example for every request body of the OpenAPI document, each of which the route's model reads.

Signatures and digests in them are of the right form and of nothing.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from governance.problems import MEDIA_TYPE

_DIGEST = "sha256:" + "5f" * 32
_KEY = "3c" * 32
_ENVELOPE = {
    "payload": "e30=",
    "payloadType": "application/vnd.fedpact.order.v1.production+json",
    "signatures": [{"keyid": _KEY, "sig": "c2lnbmF0dXJl"}],
}
_PURPOSE = {"id": "churn_prediction", "text": "Who may leave", "basis": "legitimate_interests"}
_CONTRACT = {
    "schema": "contract/1",
    "contract_id": "telco",
    "version": 1,
    "title": "Customers of a telephone company",
    "source": "public tariff book",
    "subject": {"column": "customer", "namespace": "crm", "normaliser": "trim-upper/1"},
    "fields": [{"name": "tenure", "kind": "numeric", "lower": 0, "upper": 72}],
    "label": {"name": "churned", "positive": "yes", "negative": "no", "horizon_days": 30},
    "purposes": [_PURPOSE],
    "retention_days": 365,
}
_MEASURE = {
    "id": "noise",
    "title": "Differential privacy",
    "text": "Noise is added at the unit, and charged to its ledger",
    "kind": "technical",
}
_RISK = {
    "id": "membership",
    "event": "illegitimate_access",
    "text": "Someone learns that a person is a customer",
    "measures": ["noise"],
    "severity_before": 3,
    "likelihood_before": 2,
    "severity_after": 2,
    "likelihood_after": 1,
}
_ENTITY = {
    "id": "group",
    "name": "Telephone Ltd",
    "role": "controller",
    "contact": "privacy office",
    "units": ["north", "south"],
}
_INCIDENT = {
    "title": "A backup was lost",
    "nature": "Loss of confidentiality: a disk was stolen from a car",
    "aware_at": "2026-03-02T09:00:00Z",
    "data_categories": ["contact data"],
    "subject_categories": ["customers"],
    "subjects_band": "100-999",
    "units": ["north"],
    "risk": "risk",
}
_DPIA = {
    "schema": "dpia/2",
    "dpia_id": "churn",
    "version": 1,
    "title": "Churn prediction",
    "entities": [_ENTITY],
    "description": "Units train one model together",
    "necessity": "No less intrusive way was found",
    "measures": [_MEASURE],
    "risks": [_RISK],
    "bindings": {
        "task": "churn",
        "purposes": ["churn_prediction"],
        "contract": _DIGEST,
        "features": ["tenure"],
        "units": ["north", "south"],
        "privacy_modes": ["local"],
        "epsilon_cap": 3.0,
        "delta_cap": 1e-05,
        "minimum_units": 2,
    },
    "valid_until": "2027-01-01T00:00:00Z",
}
EXAMPLES: Mapping[str, dict[str, Any]] = {
    "create_account": {"name": "anna", "role": "author", "public_key": _KEY},
    "open_session": {"name": "dora", "role": "dpo", "password": "four plain words in a row"},
    "refresh_session": {"refresh_token": f"fpr_{'0f' * 8}_{_KEY}"},
    "end_sessions": {"everywhere": False},
    "set_password": {"password": "four plain words in a row"},
    "claim": {"code": "one-time-code", "name": "ada", "key_id": "0f" * 8, "key_hash": _KEY},
    "publish_contract": _CONTRACT,
    "create_dpia": _DPIA,
    "act_on_dpia": {
        "act": "advise",
        "note": "in favour, with the noise as planned",
        "verdict": "favourable",
    },
    "request_permit": {"plan": _DIGEST, "run_id": "churn-2026-03", "kind": "train"},
    "revoke_permit": {"reason": "a complaint is looked into"},
    "revoke_node": {"reason": "laptop stolen"},
    "stop": {"scope": "unit", "subject": "north", "reason": "an incident is looked into"},
    "open_incident": {"facts": _INCIDENT, "stop": [{"scope": "unit", "subject": "north"}]},
    "update_incident": {
        "facts": _INCIDENT
        | {
            "authority": "Data protection authority",
            "authority_notified_at": "2026-03-03T15:00:00Z",
            "authority_reference": "2026/117",
        }
    },
    "erase": {"document": _DIGEST, "reason": "the person has asked for it"},
    "lift_stop": {"reason": "the incident is closed"},
    "submit_round": {"report": _ENVELOPE, "receipts": [_ENVELOPE]},
    "submit_tables": {"tables": [_ENVELOPE]},
    "register_model": {"run_id": "churn-2026-03", "name": "churn", "artifact_base64": "e30="},
    "decide_model": {
        "unit": "north",
        "up_to": 12,
        "outcome": "retrain_due",
        "due_at": "2026-06-30T00:00:00Z",
        "reason": "the next training is in June",
    },
    "approve_model": {"evidence": _DIGEST, "reason": "the audit and the floors were looked at"},
    "waive_audit": {
        "audit": _DIGEST,
        "reason": "the groups are too small; more customers are asked in June",
        "expires_at": "2026-06-30T00:00:00Z",
    },
    "promote_model": {"alias": "champion", "reason": "better than the champion in March"},
    "roll_back": {"alias": "champion", "reason": "complaints from one unit"},
    "declare_group": {
        "units": ["north", "south"],
        "normaliser": "trim-upper/1",
        "key_check": _KEY,
    },
    "submit_cosignatures": {"cosignatures": [_ENVELOPE]},
}


def install(app: FastAPI) -> None:
    """Complete the OpenAPI document: examples, headers of answers, the media type of problems."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        for methods in document["paths"].values():
            for operation in methods.values():
                _complete(operation)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(operation: dict[str, Any]) -> None:
    if "requestBody" in operation:
        example = EXAMPLES.get(operation["operationId"], _ENVELOPE)
        operation["requestBody"]["content"]["application/json"]["example"] = example
    operation["responses"]["default"]["content"] = {
        MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}
    }
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    for answer in operation["responses"].values() if "cursor" in names else ():
        answer.setdefault("headers", {})["Link"] = {
            "description": "Where the next part is, when there is one (RFC 8288).",
            "schema": {"type": "string"},
        }
