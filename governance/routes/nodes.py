"""Routes of nodes. They carry no API key: each document is signed by the node's certified key."""

from fastapi import APIRouter, Response
from starlette.status import HTTP_204_NO_CONTENT

from fedcore import opt_out_history
from fedcore.membership import LeaveAnswer
from fedcore.signing import Envelope
from governance import bulletins, ledgers, memberships
from governance.routes.callers import NODE, Desks

router = APIRouter(prefix="/v1")


class HistoryResponse(Response):
    """A part of a unit's history, packed."""

    media_type = opt_out_history.MEDIA_TYPE


@router.post("/bulletins", summary="Pull a bulletin", openapi_extra=NODE)
def sync_bulletin(body: Envelope, office: Desks) -> Envelope:
    """Take a signed request, witness the ledger's head, and return the signed bulletin."""
    with office.writing() as desk:
        return bulletins.issue_bulletin(desk, body)


@router.post(
    "/opt-outs",
    summary="Hand over an opt-out",
    status_code=HTTP_204_NO_CONTENT,
    openapi_extra=NODE,
)
def submit_opt_out(body: Envelope, office: Desks) -> None:
    """Take a signed opt-out event; repeating it changes nothing."""
    with office.writing() as desk:
        bulletins.record_opt_out(desk, body)


@router.post(
    "/opt-out-batches",
    summary="Hand over many opt-outs",
    status_code=HTTP_204_NO_CONTENT,
    openapi_extra=NODE,
)
def submit_opt_outs(body: Envelope, office: Desks) -> None:
    """Take a signed batch of opt-out events, whole or not at all; repeating it changes nothing."""
    with office.writing() as desk:
        bulletins.record_batch(desk, body)


@router.post(
    "/opt-out-histories",
    summary="Read back a unit's own opt-outs",
    response_class=HistoryResponse,
    openapi_extra=NODE,
)
def fetch_opt_outs(body: Envelope, office: Desks) -> HistoryResponse:
    """Take a signed request and return the unit's own signed documents after a sequence, packed."""
    with office.reading() as desk:
        part = bulletins.part_of_history(desk, body)
    return HistoryResponse(part)


@router.post("/rotations", summary="Change a node's keys", openapi_extra=NODE)
def rotate_key(body: Envelope, office: Desks) -> Envelope:
    """Take a rotation that the old key signed, and return the certificate of the new one."""
    with office.writing() as desk:
        return memberships.rotate(desk, body)


@router.post("/leaves", summary="Leave", openapi_extra=NODE)
def leave(body: Envelope, office: Desks) -> LeaveAnswer:
    """Take a unit's last statement, revoke its key, and name the models it has helped to train."""
    with office.writing() as desk:
        return memberships.leave(desk, body)


@router.post("/ledger-histories", summary="Pull what a ledger may hold", openapi_extra=NODE)
def fetch_ledger_history(body: Envelope, office: Desks) -> Envelope:
    """Take a signed request, and return all permits and first receipts of the unit, signed."""
    with office.reading() as desk:
        return ledgers.load_history(desk, body)
