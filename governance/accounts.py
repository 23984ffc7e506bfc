"""Accounts: made, revoked and brought back by an administrator.

The first one comes by a one-time code (`governance.claims`), in simulations by `bootstrap`.
"""

from datetime import datetime

from fedcore.errors import ConflictError, InvalidRecordError, NotFoundError
from governance.auth import make_api_key
from governance.office import Desk
from governance.roles import Role
from registry import accounts
from registry.accounts import Account
from registry.database import Database

# These sign documents of their own: training plans, and orders and round reports.
SIGNING_ROLES: tuple[Role, ...] = ("author", "operator")


def bootstrap(database: Database, now: datetime, name: str = "admin") -> str:
    """Make the first administrator and return their API key, which is shown this once.

    Raises: ConflictError `account.exists` when there is any account.
    """
    with database.writing() as session:
        if accounts.any_exists(session):
            raise ConflictError(
                "account.exists", "there are accounts already: ask an administrator"
            )
        api_key, kept = make_api_key()
        accounts.append(session, Account(name, "admin", None), kept, now)
    return api_key


def create_account(desk: Desk, name: str, role: Role, public_key: str | None) -> str:
    """Make an account and return its API key, which is shown this once.

    A name stands for a person and may be used in several roles. A revoked account comes back with a
    fresh API key and the public key that it had.
    Raises: InvalidRecordError `account.key_missing`; ConflictError `account.exists`,
        `account.key_known`, `account.key_differs`.
    """
    if role in SIGNING_ROLES and public_key is None:
        raise InvalidRecordError(
            "account.key_missing", f"public_key: the role {role} signs documents and needs a key"
        )
    known = accounts.find(desk.session, name, role)
    if known is not None:
        return _renew(desk, known, public_key)
    if public_key and accounts.find_by_public_key(desk.session, public_key) is not None:
        raise ConflictError("account.key_known", "another account signs with this key")
    api_key, kept = make_api_key()
    accounts.append(desk.session, Account(name, role, public_key), kept, desk.now)
    return api_key


def revoke_account(desk: Desk, name: str, role: Role) -> None:
    """Make the API key of an account worthless; a second time changes nothing.

    Raises: NotFoundError `account.unknown`; ConflictError `account.last_admin`.
    """
    known = accounts.find(desk.session, name, role)
    if known is None:
        raise NotFoundError("account.unknown", "nobody of this name has this role")
    if known.revoked:
        return
    others = (item for item in accounts.list_all(desk.session) if item != known)
    if role == "admin" and not any(item.role == "admin" and not item.revoked for item in others):
        raise ConflictError(
            "account.last_admin", "nobody could make accounts then: make another admin first"
        )
    accounts.set_revoked(desk.session, known, desk.now)


def _renew(desk: Desk, known: Account, public_key: str | None) -> str:
    if not known.revoked:
        raise ConflictError("account.exists", "this name has this role already: revoke it first")
    if known.public_key != public_key:
        raise ConflictError(
            "account.key_differs",
            "a revoked account comes back with its own public key: for another, take another name",
        )
    api_key, kept = make_api_key()
    accounts.renew(desk.session, known, kept)
    return api_key
