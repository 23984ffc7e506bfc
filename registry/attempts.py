"""Failed sign-ins in a row, of an account or from an address, whose names are not kept."""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, delete

from registry.tables.accounts import SignInAttemptRow


@dataclass(frozen=True)
class Attempts:
    """How many sign-ins have failed in a row, and when the last one did."""

    failures: int
    last_at: datetime


def find(session: Session, subject: str) -> Attempts | None:
    """Return the failures of a subject, or None when there are none."""
    row = session.get(SignInAttemptRow, subject)
    return None if row is None else Attempts(row.failures, row.last_at)


def count(session: Session, subject: str, now: datetime) -> None:
    """Add a failure."""
    row = session.get(SignInAttemptRow, subject)
    if row is None:
        row = SignInAttemptRow(subject=subject, failures=0, last_at=now)
    row.failures, row.last_at = row.failures + 1, now
    session.add(row)
    session.flush()


def take_back(session: Session, subject: str) -> None:
    """Take one failure away, which was none."""
    row = session.get(SignInAttemptRow, subject)
    if row is not None:
        row.failures = max(0, row.failures - 1)
        session.add(row)
        session.flush()


def forget(session: Session, subject: str) -> None:
    """Delete the failures of a subject."""
    session.exec(delete(SignInAttemptRow).where(col(SignInAttemptRow.subject) == subject))


def forget_before(session: Session, moment: datetime) -> None:
    """Delete the failures whose last one was before a moment."""
    session.exec(delete(SignInAttemptRow).where(col(SignInAttemptRow.last_at) < moment))
