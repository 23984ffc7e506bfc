"""Routes of runs: permits, rounds, models and cosignatures."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Path, Response
from starlette.status import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from fedcore.errors import InvalidRecordError, NotFoundError, RefusedError
from fedcore.models import ModelVersion
from fedcore.permits import Permit
from fedcore.record import Digest, Name
from fedcore.signing import Envelope
from governance import models, permits, renewals, rounds
from governance.bodies import (
    CosignatureRequest,
    GateDecisions,
    GateDecisionView,
    ModelList,
    ModelRequest,
    ModelSummary,
    PermitRequest,
    Replays,
    ReplayView,
    RevocationRequest,
    RoundRequest,
)
from governance.decisions.gate import RULE_VERSION
from governance.exports.evidence import export_evidence
from governance.model_decisions import hand_out_artifact, verify_handed_out
from governance.office import Desk
from governance.replays import replay
from governance.routes.callers import (
    OWN_UNIT,
    Anyone,
    Desks,
    House,
    Operator,
    Overseer,
    Revoker,
    verify_concerns,
)
from governance.routes.once import Once
from governance.routes.paging import Paged
from registry import models as stored_models
from registry import permits as stored_permits
from registry.permits import GateDecision

router = APIRouter(prefix="/v1")
Version = Annotated[int, Path(ge=1, le=2**31 - 1)]


class ZipResponse(Response):
    """An archive."""

    media_type = "application/zip"


class TensorResponse(Response):
    """A file of tensors."""

    media_type = "application/octet-stream"


@router.post("/permits", summary="Request the permit of a run")
def request_permit(body: PermitRequest, office: Desks, caller: Operator, once: Once) -> Envelope:
    """Return the permit; a refusal names every rule that speaks against it."""
    wanted = permits.Wanted(body.plan, body.kind)
    with office.writing() as desk:
        outcome = once.answer(
            desk,
            caller,
            Envelope,
            lambda: permits.request_permit(desk, wanted, body.run_id, caller),
        )
    # Raised only here: the decision is kept either way.
    if isinstance(outcome, RefusedError):
        raise outcome
    return outcome


@router.get("/permits/{run_id}", summary="Read the permit of a run", openapi_extra=OWN_UNIT)
def fetch_permit(run_id: Name, office: Desks, caller: Anyone) -> Envelope:
    """Return the permit of a run."""
    with office.reading() as desk:
        stored = permits.find_permit(desk, run_id)
        cohort = stored_permits.list_units(desk.session, run_id)
        verify_concerns(caller, cohort, NotFoundError(*permits.UNKNOWN))
        return desk.fetch(Permit, stored.permit)


@router.get("/permits/{run_id}/decisions", summary="Read what the gate answered for a run")
def list_decisions(run_id: Name, page: Paged, office: Desks, caller: Overseer) -> GateDecisions:
    """Return every answer of the gate, yes and no, oldest first."""
    with office.reading() as desk:
        found = stored_permits.list_decisions(desk.session, run_id, page.after(0), page.limit + 1)
    return GateDecisions(
        decisions=tuple(
            GateDecisionView(
                plan=item.plan,
                facts=item.facts,
                codes=item.codes,
                decided_at=item.decided_at,
                rules=item.rules,
            )
            for _, item in page.cut(found, lambda pair: pair[0])
        )
    )


@router.get("/permits/{run_id}/replays", summary="Decide once more what the gate answered")
def replay_decisions(run_id: Name, page: Paged, office: Desks, caller: Overseer) -> Replays:
    """Return every answer beside that of today's rules on the very facts, oldest first."""
    with office.reading() as desk:
        found = stored_permits.list_decisions(desk.session, run_id, page.after(0), page.limit + 1)
        shown = page.cut(found, lambda pair: pair[0])
        return Replays(
            rules=RULE_VERSION, replays=tuple(_replay_view(desk, item) for _, item in shown)
        )


def _replay_view(desk: Desk, decision: GateDecision) -> ReplayView:
    replayed = replay(desk, decision)
    return ReplayView(
        decided_at=decision.decided_at,
        rules=decision.rules,
        codes=decision.codes,
        codes_today=None if replayed is None else replayed.codes,
        agrees=None
        if replayed is None
        else (replayed.codes, replayed.digest) == (decision.codes, decision.facts),
    )


@router.post("/permits/{run_id}/renewal", summary="Renew the permit of a run")
def renew_permit(run_id: Name, office: Desks, caller: Operator) -> Envelope:
    """Return a renewal; a refusal names every rule that speaks against it."""
    with office.writing() as desk:
        outcome = renewals.renew_permit(desk, run_id, caller)
    # Raised only here: the decision is kept either way.
    if isinstance(outcome, RefusedError):
        raise outcome
    return outcome


@router.post("/permits/{run_id}/revocation", summary="Revoke the permit of a run")
def revoke_permit(
    run_id: Name, body: RevocationRequest, office: Desks, caller: Revoker
) -> Envelope:
    """Return the signed revocation; a second time changes nothing."""
    with office.writing() as desk:
        return permits.revoke(desk, run_id, body.reason)


@router.post("/rounds", summary="Report a round", status_code=HTTP_204_NO_CONTENT)
def submit_round(body: RoundRequest, office: Desks, caller: Operator) -> None:
    """Record a report with its receipts, whole or not at all."""
    with office.writing() as desk:
        rounds.submit_round(desk, body.report, body.receipts, caller)


@router.post("/models", summary="Register a model", status_code=HTTP_201_CREATED)
def register_model(body: ModelRequest, office: Desks, caller: Operator, once: Once) -> Envelope:
    """Return the signed version of a finished run's model."""
    try:
        artifact = base64.b64decode(body.artifact_base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRecordError("request.invalid", "artifact_base64: not base64") from error
    with office.writing() as desk:
        return once.answer(
            desk,
            caller,
            Envelope,
            lambda: models.register_model(desk, body.run_id, body.name, artifact, caller),
        )


@router.get("/models", summary="List the model versions", openapi_extra=OWN_UNIT)
def list_models(page: Paged, office: Desks, caller: Anyone) -> ModelList:
    """Return all versions in the order in which they were registered."""
    with office.reading() as desk:
        found = stored_models.list_after(
            desk.session, page.after(0), page.limit + 1, of_unit=caller.unit
        )
    return ModelList(
        models=tuple(
            ModelSummary(
                name=item.name, version=item.version, run_id=item.run_id, document=item.document
            )
            for _, item in page.cut(found, lambda pair: pair[0])
        )
    )


@router.get("/models/{name}/{version}", summary="Read a model version", openapi_extra=OWN_UNIT)
def fetch_model(name: Name, version: Version, office: Desks, caller: Anyone) -> Envelope:
    """Return what is claimed about a model, signed."""
    with office.reading() as desk:
        stored = models.find_model(desk, name, version)
        cohort = stored_permits.list_units(desk.session, stored.run_id)
        verify_concerns(caller, cohort, NotFoundError(*models.UNKNOWN))
        return desk.fetch(ModelVersion, stored.document)


@router.get(
    "/models/{name}/{version}/evidence",
    summary="Read the evidence bundle of a model version",
    response_class=ZipResponse,
)
def fetch_evidence(name: Name, version: Version, office: Desks, caller: House) -> ZipResponse:
    """Return an archive that can be verified without this service. Of a withdrawn version, whose
    bytes are in it, those who oversee get it.
    """
    with office.reading() as desk:
        verify_handed_out(desk, name, version, caller)
        return ZipResponse(export_evidence(desk, name, version))


@router.get(
    "/artifacts/{digest}",
    summary="Read the bytes of a model",
    response_class=TensorResponse,
)
def fetch_artifact(digest: Digest, office: Desks, caller: House) -> TensorResponse:
    """Return the safetensors file of registered model versions. Of a withdrawn one those who
    oversee get it.
    """
    with office.reading() as desk:
        return TensorResponse(hand_out_artifact(desk, digest, caller))


@router.post("/cosignatures", summary="Hand over cosignatures", status_code=HTTP_204_NO_CONTENT)
def submit_cosignatures(body: CosignatureRequest, office: Desks, caller: Operator) -> None:
    """Record which log the nodes have seen."""
    with office.writing() as desk:
        rounds.submit_cosignatures(desk, body.cosignatures)
