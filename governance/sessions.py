"""Sessions: what a password opens, for minutes at a time, and what ends it at once.

A session has an access token, which lasts minutes, and a refresh token, which gets the next pair
and is worthless afterwards. When a refresh token comes a second time somebody else has it as well,
and nobody can tell who is who: the session ends for both (RFC 9700, section 4.14.2). A console's
session has no refresh token; it lasts while it is used.

Tokens are `fpt_<id>_<secret>` and `fpr_<id>_<secret>` with 256 random bits, kept by their SHA-256
like API keys, for the same reason (`governance.auth`).
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from governance.office import Desk
from governance.problems import UnauthenticatedError
from registry import sessions
from registry.accounts import Account
from registry.sessions import SessionRecord

Kind = Literal["api", "console"]
_FORM = re.compile(r"(fpt|fpr|fpc)_([0-9a-f]{16})_([0-9a-f]{64})")
_ACCESS: dict[Kind, str] = {"api": "fpt", "console": "fpc"}
_REFRESH = "fpr"
# A sign of life is written down once a minute, not at each of a page's requests.
_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Opened:
    """A session's tokens, which are shown this once, and until when they count."""

    account: Account
    access_token: str
    access_ends_at: datetime
    refresh_token: str | None
    ends_at: datetime


def open_session(desk: Desk, account: Account, kind: Kind) -> Opened:
    """Return a new session of somebody who has shown who they are."""
    session_id = secrets.token_hex(8)
    ends_at = desk.now + timedelta(seconds=desk.settings.session_valid_s)
    opened = _fresh_tokens(desk, account, session_id, kind, ends_at)
    sessions.append(desk.session, account, _record_of(session_id, opened), desk.now)
    return opened


def is_access_token(credential: str) -> bool:
    """Return whether this has the form of an access token, and not that of an API key."""
    return credential.startswith(f"{_ACCESS['api']}_")


def account_of_token(desk: Desk, token: str, kind: Kind) -> tuple[Account, str]:
    """Return whose access token this is, and the id of its session.

    Raises: UnauthenticatedError `session.ended`.
    """
    account, record = _known(desk, token, _ACCESS[kind])
    if not _is(token, record.access_hash) or record.access_ends_at <= desk.now:
        raise _ended()
    return account, record.session_id


def needs_note(desk: Desk, token: str) -> bool:
    """Return whether it is time to write down that a console's session is used."""
    _, record = _known(desk, token, _ACCESS["console"])
    due = _console_end(desk, record.ends_at) - record.access_ends_at
    return due >= _NOTED_EVERY


def note_use(desk: Desk, token: str) -> None:
    """Let a console's session, which is used, last on; never beyond its end."""
    account_of_token(desk, token, "console")
    _, record = _known(desk, token, _ACCESS["console"])
    sessions.set_access_end(desk.session, record.session_id, _console_end(desk, record.ends_at))


def refresh(desk: Desk, token: str) -> Opened | UnauthenticatedError:
    """Return a session's next tokens, or the refusal: a token that comes again has ended the
    session, which is kept and so not raised here.

    Raises: UnauthenticatedError `session.ended`.
    """
    account, record = _known(desk, token, _REFRESH)
    if record.refresh_hash is None or not _is(token, record.refresh_hash):
        if sessions.was_spent(desk.session, record.session_id, _hash_of(token)):
            sessions.end(desk.session, record.session_id)
            return UnauthenticatedError(
                "session.reused",
                "this refresh token was used before, so that two hold it: the session has ended. "
                "Sign in again; if that was not you, change your password",
            )
        raise _ended()
    opened = _fresh_tokens(desk, account, record.session_id, "api", record.ends_at)
    sessions.replace_tokens(
        desk.session, _record_of(record.session_id, opened), spent=record.refresh_hash
    )
    return opened


def end_session(desk: Desk, session_id: str) -> None:
    """End a session: its tokens open nothing any more."""
    sessions.end(desk.session, session_id)


def _fresh_tokens(
    desk: Desk, account: Account, session_id: str, kind: Kind, ends_at: datetime
) -> Opened:
    access = f"{_ACCESS[kind]}_{session_id}_{secrets.token_hex(32)}"
    if kind == "console":
        return Opened(account, access, _console_end(desk, ends_at), None, ends_at)
    refresh_token = f"{_REFRESH}_{session_id}_{secrets.token_hex(32)}"
    valid = timedelta(seconds=desk.settings.access_token_valid_s)
    return Opened(account, access, min(desk.now + valid, ends_at), refresh_token, ends_at)


def _record_of(session_id: str, opened: Opened) -> SessionRecord:
    refresh_token = opened.refresh_token
    return SessionRecord(
        session_id=session_id,
        access_hash=_hash_of(opened.access_token),
        access_ends_at=opened.access_ends_at,
        refresh_hash=None if refresh_token is None else _hash_of(refresh_token),
        ends_at=opened.ends_at,
    )


def _known(desk: Desk, token: str, form: str) -> tuple[Account, SessionRecord]:
    """Return the session that a token names; whether it is its token is still to be seen."""
    match = _FORM.fullmatch(token)
    found = sessions.find(desk.session, match[2]) if match and match[1] == form else None
    if found is None or found[0].revoked or found[1].ends_at <= desk.now:
        raise _ended()
    return found


def _console_end(desk: Desk, ends_at: datetime) -> datetime:
    return min(desk.now + timedelta(seconds=desk.settings.console_idle_s), ends_at)


def _is(token: str, kept: str) -> bool:
    return hmac.compare_digest(_hash_of(token), kept)


def _hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _ended() -> UnauthenticatedError:
    return UnauthenticatedError("session.ended", "your session has ended: sign in again")
