"""Routes for those who run the service: is it ready, and what are its figures?"""

from fastapi import APIRouter, Request, Response

from governance.bodies import Ready
from governance.metrics import MEDIA_TYPE, Metrics
from governance.readiness import verify_ready
from governance.routes.callers import PUBLIC, Desks, Overseer
from registry import log, permits

router = APIRouter()


class FiguresResponse(Response):
    """Figures in Prometheus' text format."""

    media_type = MEDIA_TYPE


@router.get("/readyz", summary="Can the service do its work?", openapi_extra=PUBLIC)
def readyz(office: Desks) -> Ready:
    """Return yes, or a problem with a code for each thing that is amiss."""
    verify_ready(office)
    return Ready(status="ready")


@router.get("/metrics", summary="Read the service's figures", response_class=FiguresResponse)
def metrics(request: Request, office: Desks, caller: Overseer) -> FiguresResponse:
    """Return counts and durations by route, status and reason code; nothing about people."""
    figures: Metrics = request.app.state.metrics
    with office.reading() as desk:
        size, open_permits = log.size(desk.session), permits.count_open(desk.session)
    return FiguresResponse(figures.render(size, open_permits))
