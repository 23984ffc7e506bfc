"""Coming and going: sign-in, sign-out, and the files that every page needs."""

import re
from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, Request, Response

from fedcore.errors import ForbiddenError, NotFoundError
from governance.auth import account_of_key, address_of
from governance.console.forms import Fields, token_of, verify_token
from governance.console.rendering import HEADERS, render
from governance.console.rim import SIGN_IN, ConsoleRoute, see_other
from governance.console.seats import (
    SESSION_COOKIE,
    VISIT_COOKIE,
    Desks,
    Filled,
    cookie_name,
    delete_cookie,
    require_private,
    set_cookie,
    visit_of,
)
from governance.office import Office
from governance.problems import Problem, ThrottledError, UnauthenticatedError, problem_of
from governance.roles import HOUSE_ROLES
from governance.sessions import Opened, account_of_token, end_session, open_session
from governance.sign_in import Claimed
from governance.sign_in import sign_in as sign_in_with_password

HOME = "/console"
# Pages of the console and nothing else: no address, given by whomever, leads away from here.
_NEXT = re.compile(r"/console(?:/[A-Za-z0-9][A-Za-z0-9._:\-]*)*")
_FILES = Path(__file__).parent / "static"
_STATIC = {"console.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@router.get("/sign-in")
def show_sign_in(request: Request) -> Response:
    """Show the form to sign in with, and begin the visit that it belongs to."""
    require_private(request)
    return _sign_in_page(request, _next(request.query_params.get("next")), None)


@router.post("/sign-in")
def sign_in(request: Request, fields: Fields, office: Desks) -> Response:
    """Begin a session, and go to the page that was asked for."""
    require_private(request)
    visit = request.cookies.get(cookie_name(request, VISIT_COOKIE))
    if visit is None:
        raise ForbiddenError("form.token_wrong", "your browser keeps no cookies: allow them here")
    verify_token(fields, visit)
    following = _next(fields.get("next"))
    try:
        opened = _open(request, fields, office)
    except (UnauthenticatedError, ThrottledError) as error:
        return _sign_in_page(request, following, problem_of(error, request.url.path), fields)
    response = see_other(following)
    set_cookie(request, response, SESSION_COOKIE, opened.access_token)
    delete_cookie(request, response, VISIT_COOKIE)
    return response


@router.post("/sign-out")
def sign_out(request: Request, form: Filled, office: Desks) -> Response:
    """End the session."""
    with office.writing() as desk:
        end_session(desk, account_of_token(desk, form.seat.secret, "console")[1])
    response = see_other(SIGN_IN)
    delete_cookie(request, response, SESSION_COOKIE)
    return response


@router.get("/static/{name}")
def fetch_static(name: str) -> Response:
    """Return a file that every page needs."""
    if name not in _STATIC:
        raise NotFoundError("route.unknown", "there is no such page")
    content = (_FILES / name).read_bytes()
    headers = {**HEADERS, "Cache-Control": "max-age=300"}
    return Response(content, media_type=_STATIC[name], headers=headers)


def _open(request: Request, fields: Mapping[str, str], office: Office) -> Opened:
    """Return a session that a password or an API key opens.

    Raises: UnauthenticatedError `auth.invalid`, `auth.revoked`; ThrottledError.
    """
    api_key = fields.get("api_key", "").strip()
    if api_key or not fields.get("password"):
        with office.writing() as desk:
            return open_session(desk, account_of_key(desk.session, api_key), "console")
    address = address_of(request)
    claimed = Claimed(fields.get("name", "").strip(), fields.get("role", ""), address)
    return sign_in_with_password(office, claimed, fields["password"], "console")


def _sign_in_page(
    request: Request,
    following: str,
    problem: Problem | None,
    fields: Mapping[str, str] | None = None,
) -> Response:
    visit = visit_of(request)
    filled = fields or {}
    content = {
        "form_token": token_of(visit),
        "next": following,
        "problem": problem,
        "seat": None,
        "pages": (),
        "roles": HOUSE_ROLES,
        "name": filled.get("name", ""),
        "role": filled.get("role", ""),
    }
    response = render("sign_in.html", content, problem.status if problem else 200)
    set_cookie(request, response, VISIT_COOKIE, visit)
    return response


def _next(asked: str | None) -> str:
    return asked if asked is not None and _NEXT.fullmatch(asked) else HOME
