"""Bulletins that were issued, and the ledger heads that were witnessed with them."""

from datetime import datetime

from sqlmodel import Session, col, select

from fedcore.bulletins import AnyBulletin, WitnessedHead
from registry.tables.optouts import BulletinRow, LedgerHeadRow


def append(session: Session, bulletin: AnyBulletin) -> None:
    """Store that a bulletin was issued."""
    session.add(
        BulletinRow(
            unit=bulletin.unit,
            nonce=bulletin.nonce,
            digest=bulletin.digest,
            epoch=bulletin.epoch,
            last_sequence=bulletin.last_sequence,
            issued_at=bulletin.issued_at,
        )
    )
    session.flush()


def nonce_seen(session: Session, unit: str, nonce: str) -> bool:
    """Return whether a unit has used this nonce before."""
    query = select(BulletinRow.id).where(BulletinRow.unit == unit, BulletinRow.nonce == nonce)
    return session.exec(query).first() is not None


def find_newest_head(session: Session, unit: str) -> WitnessedHead | None:
    """Return the newest witnessed head of a unit's ledger, or None."""
    query = (
        select(LedgerHeadRow)
        .where(LedgerHeadRow.unit == unit)
        .order_by(col(LedgerHeadRow.sequence).desc())
        .limit(1)
    )
    return _head(session.exec(query).first())


def find_head(session: Session, unit: str, sequence: int) -> WitnessedHead | None:
    """Return the head that was witnessed at a sequence, or None."""
    query = select(LedgerHeadRow).where(
        LedgerHeadRow.unit == unit, LedgerHeadRow.sequence == sequence
    )
    return _head(session.exec(query).first())


def append_head(session: Session, unit: str, head: WitnessedHead, witnessed_at: datetime) -> None:
    """Store a witnessed head unless it is known."""
    if find_head(session, unit, head.sequence) is not None:
        return
    session.add(
        LedgerHeadRow(unit=unit, sequence=head.sequence, hash=head.hash, witnessed_at=witnessed_at)
    )
    session.flush()


def _head(row: LedgerHeadRow | None) -> WitnessedHead | None:
    return None if row is None else WitnessedHead(sequence=row.sequence, hash=row.hash)
