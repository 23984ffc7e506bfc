"""Routes of units: enrol them, list them, revoke their keys, follow their opt-outs."""

from fastapi import APIRouter

from fedcore.errors import NotFoundError
from fedcore.membership import UnitList
from fedcore.record import Name
from fedcore.signing import Envelope
from governance import enrolments, memberships
from governance.bodies import OptOutProgress, RevocationRequest
from governance.routes.callers import (
    OWN_UNIT,
    Desks,
    Enroller,
    NodeRevoker,
    UnitOverseer,
    UnitReader,
    verify_concerns,
)
from governance.routes.once import Once
from governance.routes.paging import Paged
from registry import overviews, units

router = APIRouter(prefix="/v1")


@router.post("/enrolments", summary="Enrol a unit")
def enrol_unit(body: Envelope, office: Desks, caller: Enroller, once: Once) -> Envelope:
    """Take an enrolment that the node signed with the key in it, and return the certificate."""
    with office.writing() as desk:
        return once.answer(desk, caller, Envelope, lambda: enrolments.enrol(desk, body))


@router.get("/units", summary="List the units", openapi_extra=OWN_UNIT)
def list_units(page: Paged, office: Desks, caller: UnitReader) -> UnitList:
    """Return all units that were ever enrolled, with their certificates, by name."""
    with office.reading() as desk:
        found = enrolments.list_units(desk, page.after_name(), page.limit + 1, only=caller.unit)
    return UnitList(units=tuple(page.cut(found, lambda item: item.unit)))


@router.get(
    "/units/{unit}/opt-outs",
    summary="Read how far a unit's opt-outs have come",
    openapi_extra=OWN_UNIT,
)
def read_opt_outs(unit: Name, office: Desks, caller: UnitOverseer) -> OptOutProgress:
    """Return how many opt-outs of a unit are here, and how many its node has fetched."""
    verify_concerns(caller, [unit], NotFoundError(*memberships.UNKNOWN))
    with office.reading() as desk:
        if units.find(desk.session, unit) is None:
            raise NotFoundError(*memberships.UNKNOWN)
        received = overviews.count_opt_outs(desk.session, unit).get(unit)
        served = overviews.newest_bulletins(desk.session, unit).get(unit)
    return OptOutProgress(
        unit=unit,
        received=received.last_sequence if received else 0,
        received_at=received.recorded_at if received else None,
        served=served.last_sequence if served else 0,
        served_at=served.issued_at if served else None,
    )


@router.post(
    "/units/{unit}/revocation",
    summary="Revoke the key of a unit's node",
    openapi_extra=OWN_UNIT,
)
def revoke_node(
    unit: Name, body: RevocationRequest, office: Desks, caller: NodeRevoker
) -> Envelope:
    """Return the signed revocation; a second time changes nothing."""
    verify_concerns(caller, [unit], NotFoundError(*memberships.UNKNOWN))
    with office.writing() as desk:
        return memberships.revoke_node(desk, unit, body.reason)
