"""How the first administrator comes to their API key: a one-time code, shown on the host.

The code has 160 random bits, so that no number of guesses finds it and no rate limit is needed;
only its hash is kept. The API key is made by whoever claims, and only its hash travels: a claim
whose answer was lost can be repeated, and a copy of the request opens nothing.
"""

import base64
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from fedcore.errors import ConflictError, ExpiredError, ForbiddenError
from governance.office import Desk
from registry import accounts, claims
from registry.accounts import Account, KeyRecord
from registry.database import Database

LIFETIME = timedelta(hours=24)
_CODE_BYTES = 20


def issue_code(database: Database, now: datetime) -> str:
    """Return a fresh code for the first administrator; one that was made before counts no more.

    Raises: ConflictError `account.exists` when there is any account.
    """
    code = base64.b32encode(secrets.token_bytes(_CODE_BYTES)).decode().lower()
    with database.writing() as session:
        if accounts.any_exists(session):
            raise ConflictError(
                "account.exists", "there are accounts already: ask an administrator for another"
            )
        claims.replace(session, _hash_of(code), now + LIFETIME)
    return "-".join(code[start : start + 4] for start in range(0, len(code), 4))


def claim(desk: Desk, code: str, name: str, kept: KeyRecord) -> None:
    """Make the first administrator, whose API key is the one that `kept` is of.

    The same claim again changes nothing. Case, spaces and hyphens of the code are free.
    Raises: ForbiddenError `code.wrong`; ConflictError `code.used`, `account.exists`; ExpiredError
        `code.expired`.
    """
    known = claims.find(desk.session)
    if known is None or not hmac.compare_digest(_hash_of(code), known.code_hash):
        raise ForbiddenError("code.wrong", "this is not the newest code that was made on the host")
    if known.used_by is not None:
        _verify_same(desk, known.used_by, name, kept)
        return
    if desk.now >= known.expires_at:
        raise ExpiredError(
            "code.expired", "the code has expired: run `fedpact governance code` on the host"
        )
    if accounts.any_exists(desk.session):
        raise ConflictError("account.exists", "there are accounts already: ask an administrator")
    accounts.append(desk.session, Account(name, "admin", None), kept, desk.now)
    claims.set_used(desk.session, known.code_hash, kept.key_id)


def _verify_same(desk: Desk, used_by: str, name: str, kept: KeyRecord) -> None:
    found = accounts.find_by_key_id(desk.session, used_by)
    if found is None or (found[0].name, found[1]) != (name, kept):
        raise ConflictError(
            "code.used",
            "this code was used before; if that was not you, someone else is administrator: stop "
            "the service and begin anew",
        )


def _hash_of(code: str) -> str:
    plain = "".join(code.split()).replace("-", "").lower()
    return hashlib.sha256(plain.encode()).hexdigest()
