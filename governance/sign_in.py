"""Sign-in by name, role and password, and changing the password.

An attempt is counted as a failure before the password is looked at, and taken back when it was
right: a guess whose answer nobody waits for has counted all the same. The hash is computed between
transactions, for it takes long and a write transaction keeps everybody else waiting.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from governance import passwords
from governance.auth import make_api_key
from governance.decisions.sign_in import (
    ACCOUNT_ALLOWANCE,
    ADDRESS_ALLOWANCE,
    FORGOTTEN_AFTER,
    decide_wait,
)
from governance.office import Desk, Office
from governance.problems import ThrottledError, UnauthenticatedError
from governance.sessions import Kind, Opened, open_session
from registry import accounts, attempts, sessions
from registry.accounts import Account


@dataclass(frozen=True)
class Claimed:
    """Who somebody says they are, and the address that they say it from."""

    name: str
    role: str
    address: str

    @property
    def subjects(self) -> tuple[tuple[str, int], ...]:
        """What attempts are counted under, by their hashes, with the allowance of each."""
        account = f"account\n{self.role}\n{self.name}".encode()
        address = f"address\n{self.address}".encode()
        return (
            (hashlib.sha256(account).hexdigest(), ACCOUNT_ALLOWANCE),
            (hashlib.sha256(address).hexdigest(), ADDRESS_ALLOWANCE),
        )


def sign_in(office: Office, claimed: Claimed, password: str, kind: Kind) -> Opened:
    """Return a new session.

    Guarantees: neither the answer nor its time tells whether such an account exists, is revoked or
        has a password.
    Raises: UnauthenticatedError `auth.invalid`; ThrottledError `auth.throttled`.
    """
    with _proven(office, claimed, password) as (desk, account):
        return open_session(desk, account, kind)


@dataclass(frozen=True)
class Change:
    """A new password, the one before if there is one, and whether the API key goes with it."""

    password: str
    current: str | None
    retire_api_key: bool


def change_password(office: Office, account: Account, address: str, change: Change) -> None:
    """Set an account's password, for which one who has a password already names it; every session
    of the account ends.

    Raises: InvalidRecordError `password.weak`; UnauthenticatedError `auth.invalid`; ThrottledError
        `auth.throttled`.
    """
    hashed = passwords.hash_of(change.password, account.name)
    with office.reading() as desk:
        is_first = accounts.find_password(desk.session, account) is None
    if is_first:
        with office.writing() as desk:
            if accounts.find_password(desk.session, account) is None:
                _replace(desk, account, hashed, change)
                return
    claimed = Claimed(account.name, account.role, address)
    with _proven(office, claimed, change.current or "") as (desk, _):
        _replace(desk, account, hashed, change)


@contextmanager
def _proven(office: Office, claimed: Claimed, password: str) -> Iterator[tuple[Desk, Account]]:
    """Give a writing desk and the account, once the password was found to be right."""
    with office.writing() as desk:
        _count(desk, claimed)
        account = accounts.find(desk.session, claimed.name, claimed.role)
        kept = None
        if account is not None and not account.revoked:
            kept = accounts.find_password(desk.session, account)
    is_right = passwords.matches(password, kept)
    with office.writing() as desk:
        # Somebody may have revoked the account, or changed the password, in the meantime.
        account = accounts.find(desk.session, claimed.name, claimed.role)
        if not is_right or account is None or account.revoked:
            raise _wrong()
        if accounts.find_password(desk.session, account) != kept:
            raise _wrong()
        (of_account, _), (of_address, _) = claimed.subjects
        attempts.forget(desk.session, of_account)
        attempts.take_back(desk.session, of_address)
        yield desk, account


def _count(desk: Desk, claimed: Claimed) -> None:
    """Count an attempt. Raises: ThrottledError `auth.throttled`."""
    attempts.forget_before(desk.session, desk.now - FORGOTTEN_AFTER)
    for subject, allowance in claimed.subjects:
        known = attempts.find(desk.session, subject)
        if known is not None:
            wait = decide_wait(known.failures, known.last_at, allowance, desk.now)
            if wait:
                raise ThrottledError(wait)
    for subject, _ in claimed.subjects:
        attempts.count(desk.session, subject, desk.now)


def _replace(desk: Desk, account: Account, hashed: str, change: Change) -> None:
    accounts.set_password(desk.session, account, hashed)
    sessions.end_all(desk.session, account)
    if change.retire_api_key:
        _, kept = make_api_key()  # whose secret is forgotten here
        accounts.replace_key(desk.session, account, kept)


def _wrong() -> UnauthenticatedError:
    return UnauthenticatedError("auth.invalid", "name, role and password do not go together")
