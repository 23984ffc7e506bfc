"""Routes of the kill switch."""

from fastapi import APIRouter
from starlette.status import HTTP_201_CREATED

from fedcore.record import Digest
from fedcore.signing import Envelope
from fedcore.stops import Stop
from governance import stops
from governance.bodies import LiftRequest, StopList, StopRequest, StopView
from governance.routes.callers import Desks, Overseer, Revoker
from governance.routes.once import Once
from governance.routes.paging import Paged
from registry import documents
from registry import stops as stored_stops

router = APIRouter(prefix="/v1")


@router.post("/stops", summary="Stop runs at once", status_code=HTTP_201_CREATED)
def stop(body: StopRequest, office: Desks, caller: Revoker, once: Once) -> Envelope:
    """Revoke every open permit that is concerned, let none begin, and return the signed stop."""
    with office.writing() as desk:
        return once.answer(
            desk,
            caller,
            Envelope,
            lambda: stops.stop(desk, body.scope, body.subject, body.reason, caller),
        )


@router.post("/stops/{digest}/lift", summary="Lift a stop")
def lift_stop(digest: Digest, body: LiftRequest, office: Desks, caller: Revoker) -> Envelope:
    """Return the signed lift, done by another person than the stop; again it changes nothing."""
    with office.writing() as desk:
        return stops.lift(desk, digest, body.reason, caller)


@router.get("/stops", summary="List the stops")
def list_stops(page: Paged, office: Desks, caller: Overseer) -> StopList:
    """Return all stops, in force and lifted, oldest first."""
    with office.reading() as desk:
        found = stored_stops.list_after(desk.session, page.after(0), page.limit + 1)
        shown = page.cut(found, lambda item: item.sequence)
        envelopes = documents.find_named(desk.session, Stop, [item.stop for item in shown])
    return StopList(
        stops=tuple(
            StopView(stop=item.stop, envelope=envelopes[item.stop], lift=item.lift)
            for item in shown
        )
    )
