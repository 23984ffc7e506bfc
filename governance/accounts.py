"""Accounts: the first one by bootstrap, the others by an administrator."""

from datetime import datetime

from fedcore.errors import ConflictError, InvalidRecordError
from governance.auth import Role, make_api_key
from governance.office import Desk
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

    A name stands for a person and may be used in several roles.
    Raises: InvalidRecordError `account.key_missing`; ConflictError `account.exists`,
        `account.key_known`.
    """
    if role in SIGNING_ROLES and public_key is None:
        raise InvalidRecordError(
            "account.key_missing", f"public_key: the role {role} signs documents and needs a key"
        )
    if accounts.find(desk.session, name, role) is not None:
        raise ConflictError("account.exists", "this name has this role already")
    if public_key and accounts.find_by_public_key(desk.session, public_key) is not None:
        raise ConflictError("account.key_known", "another account signs with this key")
    api_key, kept = make_api_key()
    accounts.append(desk.session, Account(name, role, public_key), kept, desk.now)
    return api_key
