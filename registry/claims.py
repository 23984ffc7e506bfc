"""The one-time code that the first account is claimed with."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete
from sqlmodel import Session, col, select

from registry.tables.accounts import ClaimCodeRow


@dataclass(frozen=True)
class ClaimCode:
    """What is kept of a code. `used_by` is the id of the API key that it was used for, if any."""

    code_hash: str
    expires_at: datetime
    used_by: str | None


def replace(session: Session, code_hash: str, expires_at: datetime) -> None:
    """Store a code in the place of all before it."""
    session.exec(delete(ClaimCodeRow))
    session.add(ClaimCodeRow(code_hash=code_hash, expires_at=expires_at))
    session.flush()


def find(session: Session) -> ClaimCode | None:
    """Return the code that counts, or None when none was made."""
    row = session.exec(select(ClaimCodeRow)).first()
    return None if row is None else ClaimCode(row.code_hash, row.expires_at, row.used_by)


def set_used(session: Session, code_hash: str, key_id: str) -> None:
    """Store for which API key the code was used."""
    row = session.exec(select(ClaimCodeRow).where(col(ClaimCodeRow.code_hash) == code_hash)).one()
    row.used_by = key_id
    session.add(row)
    session.flush()
