"""Accounts and the hashes of their API keys and passwords."""

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

    A revoked account's API key opens nothing; what its key has signed stays signed. `unit` is the
    one that a unit's operator speaks for; None for everybody else, who belong to no unit.
    """

    name: str
    role: str
    public_key: str | None
    revoked: bool = False
    unit: str | None = None


@dataclass(frozen=True)
class Listed:
    """An account, when it was made, and whether it has a password."""

    account: Account
    created_at: datetime
    has_password: bool


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
            unit=account.unit,
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
    """Give a revoked account another API key; its password is gone."""
    row = session.exec(_of(account)).one()
    row.key_id, row.key_hash = key.key_id, key.key_hash
    row.revoked_at = row.password_hash = None
    session.add(row)
    session.flush()


def replace_key(session: Session, account: Account, key: KeyRecord) -> None:
    """Put an API key in the place of an account's one before."""
    row = session.exec(_of(account)).one()
    row.key_id, row.key_hash = key.key_id, key.key_hash
    session.add(row)
    session.flush()


def set_password(session: Session, account: Account, password_hash: str) -> None:
    """Store the hash of an account's password in the place of the one before."""
    row = session.exec(_of(account)).one()
    row.password_hash = password_hash
    session.add(row)
    session.flush()


def find_password(session: Session, account: Account) -> str | None:
    """Return the hash of an account's password, or None when it has none."""
    return session.exec(_of(account)).one().password_hash


def any_exists(session: Session) -> bool:
    """Return whether there is an account."""
    return session.exec(select(AccountRow.id).limit(1)).first() is not None


def find(session: Session, name: str, role: str) -> Account | None:
    """Return the account of a name in a role, or None."""
    query = select(AccountRow).where(AccountRow.name == name, AccountRow.role == role)
    row = session.exec(query).first()
    return None if row is None else to_account(row)


def find_by_public_key(session: Session, public_key: str) -> Account | None:
    """Return the account that signs with a key, or None."""
    row = session.exec(_BY_PUBLIC_KEY, params={"public_key": public_key}).first()
    return None if row is None else to_account(row)


def find_by_key_id(session: Session, key_id: str) -> tuple[Account, KeyRecord] | None:
    """Return the account of an API key's public id and what is kept of the key, or None."""
    row = session.exec(_BY_KEY_ID, params={"key_id": key_id}).first()
    return None if row is None else (to_account(row), KeyRecord(row.key_id, row.key_hash))


def list_after(session: Session, after: int, limit: int) -> tuple[tuple[int, Listed], ...]:
    """Return at most `limit` accounts in the order in which they were made, each with its place;
    `after` is the place that the first one follows.
    """
    query = select(AccountRow).where(col(AccountRow.id) > after)
    return tuple(
        (row.id or 0, Listed(to_account(row), row.created_at, row.password_hash is not None))
        for row in session.exec(query.order_by(col(AccountRow.id)).limit(limit))
    )


def list_all(session: Session) -> tuple[Account, ...]:
    """Return all accounts in the order in which they were made."""
    rows = session.exec(select(AccountRow).order_by(col(AccountRow.id)))
    return tuple(to_account(row) for row in rows)


def to_account(row: AccountRow) -> Account:
    """Return the account of a row."""
    return Account(row.name, row.role, row.public_key, row.revoked_at is not None, row.unit)


def _of(account: Account) -> SelectOfScalar[AccountRow]:
    return select(AccountRow).where(
        AccountRow.name == account.name, AccountRow.role == account.role
    )
