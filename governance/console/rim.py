"""The console's edge: a refusal becomes a page, with the status that the API would answer."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.status import HTTP_303_SEE_OTHER

from fedcore.errors import FedError, NotFoundError
from governance.console.rendering import HEADERS, render
from governance.console.seats import OVERSEERS, Seat
from governance.problems import UnauthenticatedError, problem_of

SIGN_IN = "/console/sign-in"
# Address, words, and whether it is for those only who may read what the gate answered.
_PAGES = (
    ("/console", "Waiting for me", False),
    ("/console/dpias", "DPIAs", False),
    ("/console/runs", "Runs", False),
    ("/console/refusals", "Refusals", True),
    ("/console/opt-outs", "Opt-outs", True),
    ("/console/incidents", "Incidents", True),
    ("/console/models", "Models", False),
    ("/console/log", "Log", False),
)


class ConsoleRoute(APIRoute):
    """A route whose refusals are pages, and which sends strangers to the sign-in page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request of this route."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except UnauthenticatedError as error:
                if request.method == "GET":
                    return see_other(f"{SIGN_IN}?next={request.url.path}")
                return show_refusal(request, error)
            except FedError as error:
                return show_refusal(request, error)
            except RequestValidationError:
                missing = NotFoundError("route.unknown", "there is no such page")
                return show_refusal(request, missing)

        return answer


def show_page(
    template: str, seat: Seat, page: str, content: Mapping[str, Any], status: int = 200
) -> Response:
    """Return a page for whoever sits here; `page` is the address of its entry in the navigation."""
    pages = [
        (address, words)
        for address, words, overseen in _PAGES
        if not overseen or seat.account.role in OVERSEERS
    ]
    return render(template, {**content, "seat": seat, "pages": pages, "page": page}, status)


def show_refusal(request: Request, error: FedError) -> Response:
    """Return a page that says why nothing was done."""
    problem = problem_of(error, request.url.path)
    return render("refusal.html", {"problem": problem, "seat": None, "pages": ()}, problem.status)


def see_other(address: str) -> RedirectResponse:
    """Return the redirection after a form, so that going back or reloading repeats nothing."""
    return RedirectResponse(address, HTTP_303_SEE_OTHER, headers=HEADERS)
