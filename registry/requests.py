"""Requests that name an Idempotency-Key, and what was answered."""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, delete

from registry.tables.requests import AnsweredRequestRow


@dataclass(frozen=True)
class RequestKey:
    """An account and the key that it has chosen."""

    name: str
    role: str
    key: str


@dataclass(frozen=True)
class AnsweredRequest:
    """The digest of a request and the JSON that was answered."""

    request: str
    answer: str


def find(session: Session, key: RequestKey) -> AnsweredRequest | None:
    """Return what was answered under a key, or None."""
    row = session.get(AnsweredRequestRow, (key.name, key.role, key.key))
    return None if row is None else AnsweredRequest(row.request, row.answer)


def append(session: Session, key: RequestKey, answered: AnsweredRequest, at: datetime) -> None:
    """Store what was answered under a key that has no answer yet."""
    session.add(
        AnsweredRequestRow(
            name=key.name,
            role=key.role,
            key=key.key,
            request=answered.request,
            answer=answered.answer,
            answered_at=at,
        )
    )
    session.flush()


def forget_before(session: Session, moment: datetime) -> None:
    """Delete what was answered before a moment."""
    session.exec(delete(AnsweredRequestRow).where(col(AnsweredRequestRow.answered_at) < moment))
