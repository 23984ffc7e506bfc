"""Routes of incidents: compliance and the DPO write, who oversees reads."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from starlette.status import HTTP_201_CREATED

from fedcore.incidents import IncidentHistory, IncidentList, IncidentOpening, IncidentUpdate
from fedcore.signing import Envelope
from governance import incidents
from governance.office import Desk
from governance.routes.callers import Desks, Overseer, Revoker
from governance.routes.once import Once
from governance.routes.paging import Paged
from governance.routes.preconditions import IfMatch, verify_match
from registry import incidents as stored_incidents

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
router = APIRouter(prefix="/v1")


@router.post("/incidents", summary="Open an incident", status_code=HTTP_201_CREATED)
def open_incident(body: IncidentOpening, office: Desks, caller: Revoker, once: Once) -> Envelope:
    """Return the signed incident; what it stops is stopped at once."""
    with office.writing() as desk:
        return once.answer(
            desk, caller, Envelope, lambda: incidents.open_incident(desk, body, caller)
        )


@router.post("/incidents/{number}/updates", summary="Update an incident")
def update_incident(
    number: Number,
    body: IncidentUpdate,
    office: Desks,
    caller: Revoker,
    once: Once,
    if_match: IfMatch = None,
) -> Envelope:
    """Return the signed next phase of an incident, told by who has seen the one before."""

    def update(desk: Desk) -> Envelope:
        verify_match(if_match, _etag(incidents.find_phases(desk, number)[-1]))
        return incidents.update_incident(desk, number, body, caller)

    with office.writing() as desk:
        return once.answer(desk, caller, Envelope, lambda: update(desk))


@router.get("/incidents", summary="List the incidents")
def list_incidents(page: Paged, office: Desks, caller: Overseer) -> IncidentList:
    """Return all incidents as they stand now, oldest first."""
    with office.reading() as desk:
        found = stored_incidents.list_after(desk.session, page.after(0), page.limit + 1)
        shown = page.cut(found, lambda item: item[0])
        return IncidentList(incidents=incidents.view_incidents(desk, shown))


@router.get("/incidents/{number}", summary="Read an incident")
def fetch_incident(
    number: Number, response: Response, office: Desks, caller: Overseer
) -> IncidentHistory:
    """Return an incident and its phases; its ETag is what an update must name."""
    with office.reading() as desk:
        found = incidents.view_incident(desk, number)
    response.headers["ETag"] = _etag(found.document)
    return found


def _etag(document: str) -> str:
    return f'"{document}"'
