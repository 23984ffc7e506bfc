"""Sessions that begin with an API key: short, and gone when the service ends."""

import secrets
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

from governance.auth import account_of_key
from governance.office import Desk
from governance.problems import UnauthenticatedError
from registry import accounts
from registry.accounts import Account

LIFETIME = timedelta(minutes=30)


@dataclass(frozen=True)
class _Session:
    name: str
    role: str
    ends_at: datetime


class KeySessions:
    """The sessions of this process by the secret that their cookie holds."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def open(self, desk: Desk, api_key: str) -> str:
        """Return the secret of a new session. Raises: UnauthenticatedError as `account_of_key`."""
        account = account_of_key(desk.session, api_key)
        secret = secrets.token_urlsafe(32)
        with self._lock:
            live = {key: one for key, one in self._sessions.items() if one.ends_at > desk.now}
            live[secret] = _Session(account.name, account.role, desk.now + LIFETIME)
            self._sessions = live
        return secret

    def account(self, desk: Desk, secret: str) -> Account:
        """Return whose session this is. Raises: UnauthenticatedError `session.ended`."""
        session = self._sessions.get(secret)
        if session is not None and session.ends_at > desk.now:
            account = accounts.find(desk.session, session.name, session.role)
            if account is not None and not account.revoked:
                return account
        raise UnauthenticatedError("session.ended", "your session has ended: sign in again")

    def close(self, secret: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(secret, None)
