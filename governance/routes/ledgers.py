"""A unit's ledger as governance knows it, for the unit's own node."""

from fastapi import APIRouter

from fedcore.signing import Envelope
from governance import ledgers
from governance.routes.callers import NODE, Desks

router = APIRouter(prefix="/v1")


@router.post("/ledger-histories", summary="Pull what a ledger may hold", openapi_extra=NODE)
def fetch_ledger_history(body: Envelope, office: Desks) -> Envelope:
    """Take a signed request, and return all permits and first receipts of the unit, signed."""
    with office.reading() as desk:
        return ledgers.load_history(desk, body)
