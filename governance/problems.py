"""The rim where errors become problem documents (RFC 9457); no other place knows status codes.

`type` is `urn:fedpact:error:<kind>`, `codes` holds every reason code. The exception's `detail`, the
text of unexpected exceptions and the caller's input never leave.
"""

from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Scope

from fedcore.errors import (
    BudgetError,
    ConflictError,
    DataError,
    ExpiredError,
    FedError,
    ForbiddenError,
    InvalidRecordError,
    MismatchError,
    NotFoundError,
    RefusedError,
    RollbackError,
    SignatureError,
    TransitionError,
    TrustError,
    UnreachableError,
)
from fedcore.record import rule_of
from governance.journal import frames_of, journal
from governance.observation import CODES, HEADER, IDENTIFIER

MEDIA_TYPE = "application/problem+json"
# Here as well as in `governance.limits`: the answer to a defect is made outside of all middleware.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_URN = "urn:fedpact:error:"


class UnauthenticatedError(ForbiddenError):
    """The caller has not shown who they are."""


class ThrottledError(ForbiddenError):
    """Too many sign-ins have failed; `retry_after_s` says when the next one is looked at."""

    def __init__(self, wait: timedelta) -> None:
        """Say how long to wait, in whole seconds."""
        self.retry_after_s = max(1, round(wait.total_seconds()))
        super().__init__(
            "auth.throttled",
            f"too many sign-ins have failed: wait {self.retry_after_s} seconds, "
            "or use your API key",
        )


class PreconditionMissingError(ConflictError):
    """The caller has not said which state they have seen."""


class PreconditionFailedError(ConflictError):
    """The caller has seen another state than the present one."""


class NotReadyError(RefusedError):
    """The service cannot do its work; carries a code for each thing that is amiss."""


# Looked up along the class's own ancestors, so that the nearest entry counts.
_KINDS: dict[type[FedError], tuple[str, HTTPStatus]] = {
    InvalidRecordError: ("invalid", HTTPStatus.UNPROCESSABLE_ENTITY),
    SignatureError: ("signature", HTTPStatus.FORBIDDEN),
    ExpiredError: ("expired", HTTPStatus.CONFLICT),
    RollbackError: ("rollback", HTTPStatus.CONFLICT),
    MismatchError: ("mismatch", HTTPStatus.CONFLICT),
    TrustError: ("trust", HTTPStatus.CONFLICT),
    TransitionError: ("transition", HTTPStatus.CONFLICT),
    BudgetError: ("budget", HTTPStatus.FORBIDDEN),
    RefusedError: ("refused", HTTPStatus.FORBIDDEN),
    UnauthenticatedError: ("forbidden", HTTPStatus.UNAUTHORIZED),
    ThrottledError: ("forbidden", HTTPStatus.TOO_MANY_REQUESTS),
    ForbiddenError: ("forbidden", HTTPStatus.FORBIDDEN),
    NotFoundError: ("not-found", HTTPStatus.NOT_FOUND),
    PreconditionMissingError: ("conflict", HTTPStatus.PRECONDITION_REQUIRED),
    PreconditionFailedError: ("conflict", HTTPStatus.PRECONDITION_FAILED),
    ConflictError: ("conflict", HTTPStatus.CONFLICT),
    NotReadyError: ("unreachable", HTTPStatus.SERVICE_UNAVAILABLE),
    UnreachableError: ("unreachable", HTTPStatus.SERVICE_UNAVAILABLE),
    # Customer data never come here; should it happen, nothing of it is told.
    DataError: ("internal", HTTPStatus.INTERNAL_SERVER_ERROR),
}
_INTERNAL = ("internal", HTTPStatus.INTERNAL_SERVER_ERROR)


class Reason(BaseModel):
    """One reason code and its sentence."""

    code: str
    text: str


class Problem(BaseModel):
    """A problem document. `codes` are all reason codes, `reasons` the same with their sentences;
    `request_id` is what the service's journal has the request under.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    codes: tuple[str, ...]
    reasons: tuple[Reason, ...]
    instance: str
    request_id: str | None = None


def install(app: FastAPI) -> None:
    """Make the application answer every error as a problem document."""
    app.add_exception_handler(FedError, _answer_fed_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(Exception, _answer_unexpected)


def problem_of(error: FedError, instance: str) -> Problem:
    """Return the public face of an error."""
    kind, status = next(
        (_KINDS[ancestor] for ancestor in type(error).__mro__ if ancestor in _KINDS), _INTERNAL
    )
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        error = _internal_error()
    pairs = error.reasons if isinstance(error, RefusedError) else ((error.code, error.public),)
    return Problem(
        type=_URN + kind,
        title=status.phrase,
        status=status,
        detail=error.public,
        code=error.code,
        codes=error.codes,
        reasons=tuple(Reason(code=code, text=text) for code, text in pairs),
        instance=instance,
    )


def answer(error: FedError, scope: Scope, status: int | None = None) -> JSONResponse:
    """Return the response of an error; `status` replaces the one of its kind.

    The reason codes are left in the scope, for the journal and the figures.
    """
    identifier = scope.get(IDENTIFIER)
    problem = problem_of(error, scope["path"]).model_copy(update={"request_id": identifier})
    if status is not None:
        problem = problem.model_copy(update={"status": status, "title": HTTPStatus(status).phrase})
    scope[CODES] = problem.codes
    headers = dict(SECURITY_HEADERS)
    if identifier is not None:
        headers[HEADER] = identifier
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, ThrottledError):
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(
        problem.model_dump(mode="json"), problem.status, headers=headers, media_type=MEDIA_TYPE
    )


def _internal_error() -> FedError:
    return FedError("governance.internal", "governance failed: ask its operator to read its log")


async def _answer_fed_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, FedError):
        raise error
    if isinstance(error, UnreachableError):
        # Its detail is about the other party, which is no person.
        journal.error("unreachable", code=error.code, detail=error.detail)
    return answer(error, request.scope)


async def _answer_invalid_request(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    text = _first_problem(error.errors())
    return answer(InvalidRecordError("request.invalid", text), request.scope)


async def _answer_http_exception(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.NOT_FOUND:
        return answer(NotFoundError("route.unknown", "there is no such route"), request.scope)
    code = "route.method_not_allowed" if error.status_code == 405 else "request.invalid"
    refusal = InvalidRecordError(code, HTTPStatus(error.status_code).phrase.lower())
    return answer(refusal, request.scope, error.status_code)


async def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    journal.error(
        "failed",
        request_id=request.scope.get(IDENTIFIER),
        error=type(error).__name__,
        frames=frames_of(error),
    )
    return answer(_internal_error(), request.scope)


def _first_problem(problems: Sequence[dict[str, object]]) -> str:
    """Return `field: rule` of the first problem, without the value that was given."""
    place = problems[0]["loc"]
    steps = place if isinstance(place, tuple) else ()
    name = ".".join(str(step) for step in steps if step != "body") or "body"
    return f"{name}: {rule_of(str(problems[0]['type']), str(problems[0]['msg']))}"
