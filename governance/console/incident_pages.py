"""Pages of incidents: each with its clock, and all that is known of one, phase by phase."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from fedcore.incidents import Incident, IncidentView
from governance import incidents
from governance.console.rim import ConsoleRoute, show_page
from governance.console.seats import Desks, Overseeing
from governance.duty_clock import say_duty
from governance.office import Desk
from registry import incidents as stored_incidents

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@router.get("/incidents")
def list_incidents(office: Desks, seat: Overseeing) -> Response:
    """Show all incidents with what is still to be done, the newest first."""
    with office.reading() as desk:
        stored = stored_incidents.list_after(desk.session, 0, None)
        views = incidents.view_incidents(desk, stored)
        shown = [(_incident(desk, view), _said(desk, view)) for view in reversed(views)]
    return show_page("incidents.html", seat, "/console/incidents", {"incidents": shown})


@router.get("/incidents/{number}")
def show_incident(
    number: Annotated[int, Path(ge=1, le=2**31 - 1)], office: Desks, seat: Overseeing
) -> Response:
    """Show what is known of an incident, what is still to be done, and the phases so far."""
    with office.reading() as desk:
        view = incidents.view_incident(desk, number)
        current = _incident(desk, view)
        facts = current.facts.model_dump(exclude_none=True, exclude={"title"})
        content = {
            "incident": current,
            "said": _said(desk, view),
            "facts": [(name, value) for name, value in facts.items() if value != ()],
            "phases": [
                (desk.open_signed_here(envelope, Incident), envelope.digest)
                for envelope in view.phases
            ],
        }
    return show_page("incident.html", seat, "/console/incidents", content)


def _incident(desk: Desk, view: IncidentView) -> Incident:
    return desk.open_signed_here(view.envelope, Incident)


def _said(desk: Desk, view: IncidentView) -> list[str]:
    return [say_duty(duty, desk.now) for duty in view.duties]
