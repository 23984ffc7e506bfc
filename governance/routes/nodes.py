"""Routes of nodes. They carry no API key: each document is signed by the node's certified key."""

from fastapi import APIRouter
from starlette.status import HTTP_204_NO_CONTENT

from fedcore.signing import Envelope
from governance import bulletins
from governance.routes.callers import NODE, Desks

router = APIRouter(prefix="/v1")


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
