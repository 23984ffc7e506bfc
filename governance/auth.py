"""Who calls: people and programs by API key or session and role, nodes by their signatures.

An API key is `fpk_<id>_<secret>` with a secret of 256 random bits. Only its SHA-256 is kept: a slow
password hash protects guessable secrets, and 256 random bits cannot be guessed, so that a fast hash
loses nothing and each call stays quick. The id finds the account without a search over hashes.
"""

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from sqlmodel import Session

from fedcore.errors import (
    ExpiredError,
    ForbiddenError,
    InvalidRecordError,
    RefusedError,
    SignatureError,
)
from fedcore.record import Record
from fedcore.signing import Envelope, open_envelope
from fedcore.trust import MAX_CLOCK_SKEW
from governance.office import Desk, Office, office_of
from governance.problems import UnauthenticatedError
from governance.sessions import account_of_token, is_access_token
from registry import accounts, units
from registry.accounts import Account, KeyRecord
from registry.units import EnrolledUnit

R = TypeVar("R", bound=Record)
API_KEY_FORM = re.compile(r"fpk_([0-9a-f]{16})_([0-9a-f]{64})")
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    description="An API key, or the access token of a session (`POST /v1/sessions`).",
)
Presented = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def make_api_key() -> tuple[str, KeyRecord]:
    """Return a fresh API key and what is kept of it."""
    api_key = f"fpk_{secrets.token_hex(8)}_{secrets.token_hex(32)}"
    return api_key, record_of(api_key)


def record_of(api_key: str) -> KeyRecord:
    """Return what is kept of an API key. Raises: InvalidRecordError `key.unreadable`."""
    match = API_KEY_FORM.fullmatch(api_key)
    if match is None:
        raise InvalidRecordError("key.unreadable", "this is no API key")
    return KeyRecord(match[1], _hash_of(match[2]))


def authenticate(
    scopes: SecurityScopes,
    office: Annotated[Office, Depends(office_of)],
    credentials: Presented,
) -> Account:
    """Return the caller's account. A route names the roles that it admits as its security scopes.

    Raises: UnauthenticatedError `auth.missing`, `auth.invalid`, `auth.revoked`, `session.ended`;
        ForbiddenError `auth.wrong_role`.
    """
    if credentials is None:
        raise UnauthenticatedError(
            "auth.missing", "this route needs an API key or an access token as bearer token"
        )
    account = _account_of(office, credentials.credentials)
    if account.role not in scopes.scopes:
        roles = ", ".join(scopes.scopes)
        raise ForbiddenError("auth.wrong_role", f"this route needs one of the roles: {roles}")
    return account


def _account_of(office: Office, credential: str) -> Account:
    if is_access_token(credential):
        with office.reading() as desk:
            return account_of_token(desk, credential, "api")[0]
    with office.looking_up() as session:
        return account_of_key(session, credential)


def account_of_key(session: Session, api_key: str) -> Account:
    """Return whose API key this is. Raises: UnauthenticatedError `auth.invalid`, `auth.revoked`."""
    match = API_KEY_FORM.fullmatch(api_key)
    found = accounts.find_by_key_id(session, match[1]) if match else None
    if match is None or found is None or not _matches(match[2], found[1]):
        raise UnauthenticatedError("auth.invalid", "this API key is not known")
    if found[0].revoked:
        raise UnauthenticatedError(
            "auth.revoked", "this API key is revoked: ask an administrator for a new one"
        )
    return found[0]


def address_of(request: Request) -> str:
    """Return the address that a request came from; behind a proxy that is the proxy's."""
    return "" if request.client is None else request.client.host


def open_from_node(desk: Desk, envelope: Envelope, record_type: type[R]) -> tuple[R, EnrolledUnit]:
    """Return a node's document and the unit whose certified key signed it.

    The caller must still hold the unit that the document names against it (`verify_speaks_for`).
    Raises: SignatureError `unit.key_unknown`, `unit.key_retired` and as `open_envelope`;
        RefusedError `unit.revoked`.
    """
    unit = units.find_by_key(desk.session, envelope.signer)
    if unit is None and units.find_key(desk.session, envelope.signer) is not None:
        raise SignatureError(
            "unit.key_retired", "the unit has another key by now: start its node again"
        )
    if unit is None:
        raise SignatureError(
            "unit.key_unknown", "no enrolled unit signs with this key: enrol the node first"
        )
    # Only who holds the key learns what became of it.
    record = open_envelope(envelope, record_type, unit.node_key, desk.realm)
    if unit.revocation is not None:
        reason = (
            "The unit has left or its key is revoked: to take part again, "
            "run `fedpact node enrol --new-keys` and have the request enrolled."
        )
        raise RefusedError([("unit.revoked", reason)])
    return record, unit


def verify_speaks_for(unit: EnrolledUnit, named: str) -> None:
    """Refuse a document of one unit in another's name. Raises: SignatureError `unit.other_unit`."""
    if unit.unit != named:
        raise SignatureError("unit.other_unit", "the document names another unit than its signer")


def verify_not_future(moment: datetime, now: datetime) -> None:
    """Refuse a document from the future. Raises: ExpiredError `request.from_future`."""
    if moment > now + MAX_CLOCK_SKEW:
        raise ExpiredError("request.from_future", "the document is from the future: set the clock")


def verify_fresh(moment: datetime, now: datetime) -> None:
    """Refuse a request that was not made just now.

    Raises: ExpiredError `request.from_future`, `request.stale`.
    """
    verify_not_future(moment, now)
    if moment < now - MAX_CLOCK_SKEW:
        raise ExpiredError("request.stale", "the request is too old: make a new one")


def _matches(secret: str, kept: KeyRecord) -> bool:
    return hmac.compare_digest(_hash_of(secret), kept.key_hash)


def _hash_of(secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(secret)).hexdigest()
