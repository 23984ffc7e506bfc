"""Accounts: made, revoked and brought back by an administrator.

The first one comes by a one-time code (`governance.claims`), in simulations by `bootstrap`.
"""

from datetime import datetime

from fedcore.errors import ConflictError, InvalidRecordError, NotFoundError
from governance.auth import make_api_key
from governance.office import Desk
from governance.roles import UNIT_ROLES, Role
from registry import accounts, sessions
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


def create_account(desk: Desk, wanted: Account) -> str:
    """Make an account and return its API key, which is shown this once.

    A name stands for a person and may be used in several roles. A revoked account comes back with a
    fresh API key, without its password, and with the public key and the unit that it had.
    Raises: InvalidRecordError `account.key_missing`, `account.unit_missing`,
        `account.unit_needless`; ConflictError `account.exists`, `account.key_known`,
        `account.key_differs`, `account.unit_differs`.
    """
    _verify_whole(wanted)
    known = accounts.find(desk.session, wanted.name, wanted.role)
    if known is not None:
        return _renew(desk, known, wanted)
    public_key = wanted.public_key
    if public_key and accounts.find_by_public_key(desk.session, public_key) is not None:
        raise ConflictError("account.key_known", "another account signs with this key")
    api_key, kept = make_api_key()
    accounts.append(desk.session, wanted, kept, desk.now)
    return api_key


def revoke_account(desk: Desk, name: str, role: Role) -> None:
    """Make the API key of an account worthless and end its sessions; a second time changes nothing.

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
    sessions.end_all(desk.session, known)


def _verify_whole(wanted: Account) -> None:
    if wanted.role in SIGNING_ROLES and wanted.public_key is None:
        raise InvalidRecordError(
            "account.key_missing",
            f"public_key: the role {wanted.role} signs documents and needs a key",
        )
    if wanted.role in UNIT_ROLES and wanted.unit is None:
        raise InvalidRecordError(
            "account.unit_missing", f"unit: the role {wanted.role} is for one unit: name it"
        )
    if wanted.role not in UNIT_ROLES and wanted.unit is not None:
        raise InvalidRecordError(
            "account.unit_needless",
            f"unit: the role {wanted.role} is for the whole house: name no unit",
        )


def _renew(desk: Desk, known: Account, wanted: Account) -> str:
    if not known.revoked:
        raise ConflictError("account.exists", "this name has this role already: revoke it first")
    if known.public_key != wanted.public_key:
        raise ConflictError(
            "account.key_differs",
            "a revoked account comes back with its own public key: for another, take another name",
        )
    if known.unit != wanted.unit:
        raise ConflictError(
            "account.unit_differs",
            "a revoked account comes back for its own unit: for another, take another name",
        )
    api_key, kept = make_api_key()
    accounts.renew(desk.session, known, kept)
    return api_key
