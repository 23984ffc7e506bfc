"""Who sits at the console: found by the session's cookie, at every request anew."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Response

from fedcore.errors import ForbiddenError
from governance.console.forms import Fields, token_of, verify_token
from governance.office import Office, office_of
from governance.problems import UnauthenticatedError
from governance.roles import HOUSE_ROLES, OVERSEER_ROLES
from governance.sessions import account_of_token, needs_note, note_use
from registry.accounts import Account

SESSION_COOKIE = "fedpact-session"
# Before anybody has signed in, the form to do so belongs to a visit.
VISIT_COOKIE = "fedpact-visit"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# A unit's operator has the API; the pages show the whole house.
HOUSE = frozenset(HOUSE_ROLES)
# Those who may read what the gate answered may read it here (`governance.routes.callers`).
OVERSEERS = frozenset(OVERSEER_ROLES)

Desks = Annotated[Office, Depends(office_of)]


@dataclass(frozen=True)
class Seat:
    """Who sits here, and the secret of their session."""

    account: Account
    secret: str

    @property
    def form_token(self) -> str:
        """The token of every form that is shown to them."""
        return token_of(self.secret)


def require_private(request: Request) -> None:
    """Refuse to show or take anything that would travel in the clear.

    Raises: ForbiddenError `url.insecure`.
    """
    if request.url.scheme != "https" and request.url.hostname not in LOOPBACK:
        raise ForbiddenError(
            "url.insecure",
            "the console is served over TLS, or to this machine alone: use an address that begins "
            "with https://",
        )


def seat_for(roles: frozenset[str]) -> Callable[[Request, Office], Seat]:
    """Return the dependency of a page that is for these roles.

    Its Raises: UnauthenticatedError `session.missing`, `session.ended`; ForbiddenError
        `auth.wrong_role`.
    """

    def seat(request: Request, office: Desks) -> Seat:
        secret = request.cookies.get(cookie_name(request, SESSION_COOKIE))
        if secret is None:
            raise UnauthenticatedError("session.missing", "sign in first")
        with office.reading() as desk:
            account, _ = account_of_token(desk, secret, "console")
            is_noted = not needs_note(desk, secret)
        if not is_noted:
            with office.writing() as desk:
                note_use(desk, secret)
        if account.role not in roles:
            named = ", ".join(sorted(roles))
            raise ForbiddenError("auth.wrong_role", f"this page is for the roles: {named}")
        return Seat(account, secret)

    return seat


Seated = Annotated[Seat, Depends(seat_for(HOUSE))]
Overseeing = Annotated[Seat, Depends(seat_for(OVERSEERS))]


def filled_in(seat: Seated, fields: Fields) -> "FilledForm":
    """Return a form and who has sent it. Raises: ForbiddenError `form.token_wrong`."""
    verify_token(fields, seat.secret)
    return FilledForm(seat, fields)


@dataclass(frozen=True)
class FilledForm:
    """A form that was made in the session of who has sent it."""

    seat: Seat
    fields: Fields


Filled = Annotated[FilledForm, Depends(filled_in)]


def cookie_name(request: Request, name: str) -> str:
    """Return the name of a cookie: over TLS one that a browser ties to this host alone."""
    return f"__Host-{name}" if request.url.scheme == "https" else name


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """Give a cookie that lasts as long as the browser, for this host, out of reach of scripts."""
    response.set_cookie(
        cookie_name(request, name),
        value,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def delete_cookie(request: Request, response: Response, name: str) -> None:
    """Take a cookie back."""
    response.delete_cookie(
        cookie_name(request, name),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def visit_of(request: Request) -> str:
    """Return the secret of a visit before sign-in, a fresh one when there is none."""
    return request.cookies.get(cookie_name(request, VISIT_COOKIE)) or secrets.token_urlsafe(32)
