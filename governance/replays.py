"""Kept decisions of the gate, decided once more from the facts that were kept with them."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fedcore.contracts import Contract
from fedcore.permits import UnitCertificate
from fedcore.record import Record
from fedcore.stops import Stop
from governance.bases import continued_version
from governance.decisions.facts import EvaluatedModel, EvaluationFacts, GateFacts, OutstandingAudit
from governance.decisions.gate import decide_permit
from governance.decisions.renewals import RenewalFacts, decide_renewal
from governance.evaluations import open_evaluation_plan
from governance.office import Desk, required
from governance.plans import open_plan
from registry import dpias
from registry.permits import GateDecision


@dataclass(frozen=True)
class Replay:
    """What today's rules answer on the facts of a decision; `digest` is that of the facts as they
    were read back.
    """

    codes: tuple[str, ...]
    digest: str


def replay(desk: Desk, decision: GateDecision) -> Replay | None:
    """Return the answer of today's rules, or None when no facts were kept with the decision, or the
    DPIA that they name was erased since.

    Guarantees: rests on the kept facts and on the signed documents that they name, on nothing that
        may have changed since.
    """
    if decision.document is None:
        return None
    document = json.loads(decision.document)
    gate = _facts_of(desk, document.get("gate", document))
    if gate is None:
        return None
    if "gate" not in document:
        return Replay(tuple(code for code, _ in decide_permit(gate)), gate.digest)
    renewal = RenewalFacts(gate=gate, revoked=document["revoked"], finished=document["finished"])
    refusals = decide_renewal(renewal)
    return Replay(tuple(code for code, _ in refusals), renewal.digest)


def _facts_of(desk: Desk, document: dict[str, Any]) -> GateFacts | None:
    plan, _ = open_plan(desk, document["plan"])
    contract, dpia = document["contract"], document["dpia"]
    assessed = None if dpia is None else dpias.find(desk.session, dpia)
    if dpia is not None and assessed is None:
        return None  # erased
    wanted: dict[str, type[Record]] = {} if contract is None else {contract: Contract}
    wanted |= dict.fromkeys(document["certificates"].values(), UnitCertificate)
    opened = desk.open_each({**wanted, **dict.fromkeys(document["stops"], Stop)})
    return GateFacts(
        plan=plan,
        author_known=document["author_known"],
        contract=None if contract is None else required(opened, Contract, contract),
        dpia=None if assessed is None else assessed.record,
        dpia_state=document["dpia_state"],
        certificates={
            unit: required(opened, UnitCertificate, digest)
            for unit, digest in document["certificates"].items()
        },
        now=datetime.fromisoformat(document["now"]),
        revoked_units=frozenset(document["revoked_units"]),
        kind=document["kind"],
        stops=tuple(required(opened, Stop, digest) for digest in document["stops"]),
        initial_model_withdrawn=document.get("initial_model_withdrawn", False),
        evaluation=_evaluation_of(desk, document.get("evaluation")),
        continued=tuple(
            continued_version(desk, artifact, digest)
            for artifact, digest in document.get("continued", ())
        ),
    )


def _evaluation_of(desk: Desk, document: dict[str, Any] | None) -> EvaluationFacts | None:
    if document is None:
        return None
    plan, _ = open_evaluation_plan(desk, document["plan"])
    models = tuple(
        EvaluatedModel(**{**model, "plan": open_plan(desk, model["plan"])[0]})
        for model in document["models"]
    )
    outstanding = tuple(OutstandingAudit(*each) for each in document.get("outstanding", ()))
    return EvaluationFacts(plan=plan, models=models, outstanding=outstanding)
