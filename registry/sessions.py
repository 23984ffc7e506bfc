"""Sessions after a sign-in: their tokens are kept by their hashes only."""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, delete, select

from registry.accounts import Account, to_account
from registry.tables.accounts import AccountRow, SessionRow, SpentRefreshRow


@dataclass(frozen=True)
class SessionRecord:
    """What is kept of a session. Without a refresh token it is one of the console."""

    session_id: str
    access_hash: str
    access_ends_at: datetime
    refresh_hash: str | None
    ends_at: datetime


def append(session: Session, account: Account, record: SessionRecord, now: datetime) -> None:
    """Store a session that an account has opened; those that have ended by then are forgotten."""
    session.exec(delete(SessionRow).where(col(SessionRow.ends_at) <= now))
    query = select(AccountRow).where(
        AccountRow.name == account.name, AccountRow.role == account.role
    )
    owner = session.exec(query).one()
    session.add(
        SessionRow(
            session_id=record.session_id,
            account_id=owner.id or 0,
            access_hash=record.access_hash,
            access_ends_at=record.access_ends_at,
            refresh_hash=record.refresh_hash,
            opened_at=now,
            ends_at=record.ends_at,
        )
    )
    session.flush()


def find(session: Session, session_id: str) -> tuple[Account, SessionRecord] | None:
    """Return whose session this is and what is kept of it, or None."""
    query = (
        select(AccountRow, SessionRow)
        .join(SessionRow, col(SessionRow.account_id) == col(AccountRow.id))
        .where(SessionRow.session_id == session_id)
    )
    found = session.exec(query).first()
    if found is None:
        return None
    account, row = found
    record = SessionRecord(
        session_id=row.session_id,
        access_hash=row.access_hash,
        access_ends_at=row.access_ends_at,
        refresh_hash=row.refresh_hash,
        ends_at=row.ends_at,
    )
    return to_account(account), record


def replace_tokens(session: Session, record: SessionRecord, spent: str) -> None:
    """Store a session's new tokens, and that the refresh token of hash `spent` was used."""
    row = session.exec(select(SessionRow).where(SessionRow.session_id == record.session_id)).one()
    row.access_hash, row.access_ends_at = record.access_hash, record.access_ends_at
    row.refresh_hash = record.refresh_hash
    session.add(row)
    session.add(SpentRefreshRow(token_hash=spent, session_id=record.session_id))
    session.flush()


def set_access_end(session: Session, session_id: str, ends_at: datetime) -> None:
    """Store until when a session may be used without a sign of life."""
    row = session.exec(select(SessionRow).where(SessionRow.session_id == session_id)).one()
    row.access_ends_at = ends_at
    session.add(row)
    session.flush()


def was_spent(session: Session, session_id: str, token_hash: str) -> bool:
    """Return whether a refresh token of this hash was used in this session."""
    row = session.get(SpentRefreshRow, token_hash)
    return row is not None and row.session_id == session_id


def end(session: Session, session_id: str) -> None:
    """Forget a session: its tokens open nothing any more."""
    session.exec(delete(SessionRow).where(col(SessionRow.session_id) == session_id))


def end_all(session: Session, account: Account, but: str | None = None) -> None:
    """Forget every session of an account, but perhaps one."""
    owner = select(AccountRow.id).where(
        AccountRow.name == account.name, AccountRow.role == account.role
    )
    session.exec(
        delete(SessionRow).where(
            col(SessionRow.account_id).in_(owner), col(SessionRow.session_id) != (but or "")
        )
    )
