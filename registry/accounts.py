"""Accounts and the hashes of their API keys."""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from registry.tables.accounts import AccountRow


@dataclass(frozen=True)
class Account:
    """A person (`name`) in one role, with the public key that they sign with, if any."""

    name: str
    role: str
    public_key: str | None


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


def any_exists(session: Session) -> bool:
    """Return whether there is an account."""
    return session.exec(select(AccountRow.id).limit(1)).first() is not None


def find(session: Session, name: str, role: str) -> Account | None:
    """Return the account of a name in a role, or None."""
    query = select(AccountRow).where(AccountRow.name == name, AccountRow.role == role)
    return _account(session.exec(query).first())


def find_by_public_key(session: Session, public_key: str) -> Account | None:
    """Return the account that signs with a key, or None."""
    query = select(AccountRow).where(AccountRow.public_key == public_key)
    return _account(session.exec(query).first())


def find_by_key_id(session: Session, key_id: str) -> tuple[Account, KeyRecord] | None:
    """Return the account of an API key's public id and what is kept of the key, or None."""
    row = session.exec(select(AccountRow).where(AccountRow.key_id == key_id)).first()
    account = _account(row)
    if row is None or account is None:
        return None
    return account, KeyRecord(row.key_id, row.key_hash)


def list_all(session: Session) -> tuple[Account, ...]:
    """Return all accounts in the order in which they were made."""
    rows = session.exec(select(AccountRow).order_by(col(AccountRow.id)))
    return tuple(Account(row.name, row.role, row.public_key) for row in rows)


def _account(row: AccountRow | None) -> Account | None:
    return None if row is None else Account(row.name, row.role, row.public_key)
