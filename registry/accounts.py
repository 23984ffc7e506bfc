"""Accounts and the hashes of their API keys."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from registry.tables.accounts import AccountRow

# Built once: every request asks the first one.
_BY_KEY_ID = select(AccountRow).where(AccountRow.key_id == bindparam("key_id"))
_BY_PUBLIC_KEY = select(AccountRow).where(AccountRow.public_key == bindparam("public_key"))


@dataclass(frozen=True)
class Account:
    """A person (`name`) in one role, with the public key that they sign with, if any.

    A revoked account's API key opens nothing; what its key has signed stays signed.
    """

    name: str
    role: str
    public_key: str | None
    revoked: bool = False


@dataclass(frozen=True)
class KeyRecord:
    """What is kept of an API key: its public id and the hash of its secret."""

    key_id: str
    key_hash: str


def append(session: Session, account: Account, key: KeyRecord, created_at: datetime) -> None:
    """Store an account with its key; the caller has looked for collisions before."""
    session.add(
        AccountRow(
            name=account.name,
            role=account.role,
            public_key=account.public_key,
            key_id=key.key_id,
            key_hash=key.key_hash,
            created_at=created_at,
        )
    )
    session.flush()


def set_revoked(session: Session, account: Account, revoked_at: datetime) -> None:
    """Store that an account's API key opens nothing any more."""
    row = session.exec(_of(account)).one()
    row.revoked_at = revoked_at
    session.add(row)
    session.flush()


def renew(session: Session, account: Account, key: KeyRecord) -> None:
    """Give a revoked account another API key."""
    row = session.exec(_of(account)).one()
    row.key_id, row.key_hash, row.revoked_at = key.key_id, key.key_hash, None
    session.add(row)
    session.flush()


def any_exists(session: Session) -> bool:
    """Return whether there is an account."""
    return session.exec(select(AccountRow.id).limit(1)).first() is not None


def find(session: Session, name: str, role: str) -> Account | None:
    """Return the account of a name in a role, or None."""
    query = select(AccountRow).where(AccountRow.name == name, AccountRow.role == role)
    return _account(session.exec(query).first())


def find_by_public_key(session: Session, public_key: str) -> Account | None:
    """Return the account that signs with a key, or None."""
    return _account(session.exec(_BY_PUBLIC_KEY, params={"public_key": public_key}).first())


def find_by_key_id(session: Session, key_id: str) -> tuple[Account, KeyRecord] | None:
    """Return the account of an API key's public id and what is kept of the key, or None."""
    row = session.exec(_BY_KEY_ID, params={"key_id": key_id}).first()
    account = _account(row)
    if row is None or account is None:
        return None
    return account, KeyRecord(row.key_id, row.key_hash)


def list_all(session: Session) -> tuple[Account, ...]:
    """Return all accounts in the order in which they were made."""
    rows = session.exec(select(AccountRow).order_by(col(AccountRow.id)))
    return tuple(account for row in rows if (account := _account(row)) is not None)


def _of(account: Account) -> SelectOfScalar[AccountRow]:
    return select(AccountRow).where(
        AccountRow.name == account.name, AccountRow.role == account.role
    )


def _account(row: AccountRow | None) -> Account | None:
    if row is None:
        return None
    return Account(row.name, row.role, row.public_key, row.revoked_at is not None)
