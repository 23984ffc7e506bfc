"""The console: all of its pages on one application."""

from fastapi import APIRouter, FastAPI

from fedcore.errors import NotFoundError
from governance.console import (
    dpia_pages,
    evaluation_pages,
    incident_pages,
    log_pages,
    model_pages,
    opt_out_pages,
    run_pages,
    sign_in,
)
from governance.console.rim import ConsoleRoute

_PAGES = (
    sign_in,
    dpia_pages,
    run_pages,
    model_pages,
    evaluation_pages,
    opt_out_pages,
    incident_pages,
    log_pages,
)
_elsewhere = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


def install(app: FastAPI) -> None:
    """Serve the console under `/console`; it is no part of the API, nor of its document."""
    for module in _PAGES:
        app.include_router(module.router)
    app.include_router(_elsewhere)


@_elsewhere.get("/{rest:path}")
def answer_elsewhere() -> None:
    """Answer every other address below `/console`.

    Raises: NotFoundError `route.unknown`.
    """
    raise NotFoundError("route.unknown", "there is no such page")
