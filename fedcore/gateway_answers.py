"""What governance's answers are taken for: parts, or the errors that it names."""

import ssl
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from fedcore.errors import (
    BudgetError,
    ConflictError,
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
from fedcore.record import Part

P = TypeVar("P", bound=Part)
_URN = "urn:fedpact:error:"
_ERRORS: Mapping[str, type[FedError]] = {
    "invalid": InvalidRecordError,
    "signature": SignatureError,
    "expired": ExpiredError,
    "rollback": RollbackError,
    "mismatch": MismatchError,
    "trust": TrustError,
    "forbidden": ForbiddenError,
    "not-found": NotFoundError,
    "conflict": ConflictError,
}
_REFUSALS: Mapping[str, type[RefusedError]] = {
    "refused": RefusedError,
    "transition": TransitionError,
    "budget": BudgetError,
}
# By OpenSSL's X509_V_ERR codes (openssl/x509_vfy.h).
_CERTIFICATE_FAULTS: Mapping[int, tuple[str, str]] = {
    9: (
        "tls.not_yet_valid",
        "the service's certificate is not valid yet: check the clocks",
    ),
    10: (
        "tls.expired",
        "the service's certificate has expired: its operator must install another; if not, "
        "check this machine's clock",
    ),
    62: (
        "tls.other_host",
        "the service's certificate is for another name than this address",
    ),
    64: (
        "tls.other_host",
        "the service's certificate is for another name than this address",
    ),
}
_NOT_TRUSTED = (
    "tls.untrusted",
    "the service's certificate is not from an authority that is trusted here: name the right "
    "authority's file; if it is the right one, someone may stand in between",
)


class Reply(Protocol):
    """An answer to a request, as far as its readers look at it."""

    @property
    def status_code(self) -> int:
        """The status of HTTP."""

    @property
    def content(self) -> bytes:
        """The body."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""

    @property
    def links(self) -> Mapping[str | None, Mapping[str, str]]:
        """The links by their relations (RFC 8288)."""

    def json(self) -> Any:
        """Return the body as JSON. Raises: ValueError."""


def json_of(reply: Reply) -> object:
    """Return the JSON of an answer. Raises: UnreachableError `governance.unreachable`."""
    try:
        return reply.json()
    except ValueError as error:
        raise not_governance(f"status {reply.status_code}, not JSON") from error


def path_step(value: str) -> str:
    """Return a value as one step of a path, whatever characters it has."""
    return quote(value, safe=":")


def error_in(problem: object, status: int) -> FedError:
    """Return the error of a problem document.

    Guarantees: its class and all reason codes; UnreachableError with its code for a failure inside
        governance, and with `governance.unreachable` for anything that is no problem document.
    """
    kind = str(member_of(problem, "type")).removeprefix(_URN)
    code, text = member_of(problem, "code"), member_of(problem, "detail")
    if not isinstance(code, str) or not isinstance(text, str):
        return not_governance(f"status {status}")
    if kind in _REFUSALS:
        return _REFUSALS[kind](_reasons(problem) or [(code, text)])
    return _ERRORS.get(kind, UnreachableError)(code, text)


def certificate_fault(error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    """Return the code and the sentence of what is wrong with the service's certificate."""
    return _CERTIFICATE_FAULTS.get(error.verify_code, _NOT_TRUSTED)


def _reasons(problem: object) -> list[tuple[str, str]]:
    reasons = member_of(problem, "reasons")
    pairs = [(member_of(reason, "code"), member_of(reason, "text")) for reason in _listed(reasons)]
    return [(str(code), str(text)) for code, text in pairs]


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def member_of(value: object, name: str) -> object:
    """Return a member of a JSON object, or None."""
    return value.get(name) if isinstance(value, dict) else None


def text_in(value: object, name: str) -> str:
    """Return a text in a JSON object. Raises: UnreachableError `governance.unreachable`."""
    text = member_of(value, name)
    if not isinstance(text, str):
        raise not_governance(f"no {name} in the answer")
    return text


def read_part(kind: type[P], value: object) -> P:
    """Return a part of its kind. Raises: UnreachableError `governance.unreachable`."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise not_governance(f"no {kind.__name__} in the answer") from error


def not_governance(detail: str) -> UnreachableError:
    """Return the error for an answer that cannot be governance's."""
    return UnreachableError(
        "governance.unreachable", "what answers at this address is not governance", detail
    )


def line_error(error: Exception) -> UnreachableError:
    """Return what is wrong with the line, as far as the other side's certificate tells."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    code, sentence = "governance.unreachable", "governance does not answer: try again"
    if cause is not None:
        code, sentence = certificate_fault(cause)
    return UnreachableError(code, sentence, repr(error))
