"""Routes of units: enrol them, list them, revoke their keys."""

from fastapi import APIRouter

from fedcore.membership import UnitList
from fedcore.record import Name
from fedcore.signing import Envelope
from governance import enrolments, memberships
from governance.bodies import RevocationRequest
from governance.routes.callers import Desks, Enroller, UnitReader
from governance.routes.once import Once
from governance.routes.paging import Paged

router = APIRouter(prefix="/v1")


@router.post("/enrolments", summary="Enrol a unit")
def enrol_unit(body: Envelope, office: Desks, caller: Enroller, once: Once) -> Envelope:
    """Take an enrolment that the node signed with the key in it, and return the certificate."""
    with office.writing() as desk:
        return once.answer(desk, caller, Envelope, lambda: enrolments.enrol(desk, body))


@router.get("/units", summary="List the units")
def list_units(page: Paged, office: Desks, caller: UnitReader) -> UnitList:
    """Return all units that were ever enrolled, with their certificates, by name."""
    with office.reading() as desk:
        found = enrolments.list_units(desk, page.after_name(), page.limit + 1)
    return UnitList(units=tuple(page.cut(found, lambda item: item.unit)))


@router.post("/units/{unit}/revocation", summary="Revoke the key of a unit's node")
def revoke_node(unit: Name, body: RevocationRequest, office: Desks, caller: Enroller) -> Envelope:
    """Return the signed revocation; a second time changes nothing."""
    with office.writing() as desk:
        return memberships.revoke_node(desk, unit, body.reason)
