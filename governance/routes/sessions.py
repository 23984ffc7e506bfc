"""Routes of sessions: sign in with a password, stay, and leave."""

from fastapi import APIRouter, Request
from starlette.status import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from fedcore.errors import ConflictError
from fedcore.sessions import Tokens
from governance.auth import Presented, address_of
from governance.problems import UnauthenticatedError
from governance.routes.callers import NO_UNIT, PUBLIC, Anyone, Desks
from governance.session_bodies import (
    CallerView,
    EndRequest,
    PasswordRequest,
    RefreshRequest,
    SignInRequest,
)
from governance.sessions import Opened, account_of_token, end_session, is_access_token, refresh
from governance.sign_in import Change, Claimed, change_password, sign_in
from registry import sessions

router = APIRouter(prefix="/v1")


@router.post("/sessions", summary="Sign in", status_code=HTTP_201_CREATED, openapi_extra=PUBLIC)
def open_session(body: SignInRequest, request: Request, office: Desks) -> Tokens:
    """Return the tokens of a new session. Too many failures in a row make everybody wait (429)."""
    claimed = Claimed(body.name, body.role, address_of(request))
    return _view(sign_in(office, claimed, body.password, "api"))


@router.post("/sessions/refresh", summary="Stay signed in", openapi_extra=PUBLIC)
def refresh_session(body: RefreshRequest, office: Desks) -> Tokens:
    """Return the session's next tokens; a refresh token that comes again ends the session."""
    with office.writing() as desk:
        outcome = refresh(desk, body.refresh_token)
    # Raised only here: the session has ended either way.
    if isinstance(outcome, UnauthenticatedError):
        raise outcome
    return _view(outcome)


@router.post(
    "/sessions/end", summary="Sign out", status_code=HTTP_204_NO_CONTENT, openapi_extra=NO_UNIT
)
def end_sessions(body: EndRequest, office: Desks, presented: Presented, caller: Anyone) -> None:
    """End the session whose token was shown, or every session of the account."""
    token = "" if presented is None else presented.credentials
    with office.writing() as desk:
        if body.everywhere:
            sessions.end_all(desk.session, caller)
        elif is_access_token(token):
            end_session(desk, account_of_token(desk, token, "api")[1])
        else:
            raise ConflictError(
                "session.none",
                "this request came with an API key, which has no session: end them everywhere",
            )


@router.post(
    "/password",
    summary="Set one's password",
    status_code=HTTP_204_NO_CONTENT,
    openapi_extra=NO_UNIT,
)
def set_password(body: PasswordRequest, request: Request, office: Desks, caller: Anyone) -> None:
    """Replace the caller's password, and end all sessions of the account."""
    change = Change(body.password, body.current, body.retire_api_key)
    change_password(office, caller, address_of(request), change)


@router.get("/me", summary="Read who one is", openapi_extra=NO_UNIT)
def read_caller(caller: Anyone) -> CallerView:
    """Return the account that the request came from."""
    return CallerView.model_validate(
        {"name": caller.name, "role": caller.role, "unit": caller.unit}
    )


def _view(opened: Opened) -> Tokens:
    return Tokens.model_validate(
        {
            "name": opened.account.name,
            "role": opened.account.role,
            "unit": opened.account.unit,
            "access_token": opened.access_token,
            "access_ends_at": opened.access_ends_at,
            "refresh_token": opened.refresh_token,
            "ends_at": opened.ends_at,
        }
    )
