"""The log positions that nodes have signed."""

from datetime import datetime

from sqlmodel import Session, col, select

from fedcore.rounds import Cosignature
from fedcore.signing import Envelope
from registry.tables.documents import CosignatureRow


def append(session: Session, record: Cosignature, envelope: Envelope, now: datetime) -> None:
    """Store a cosignature unless the unit has cosigned this size before."""
    query = select(CosignatureRow.id).where(
        CosignatureRow.unit == record.unit, CosignatureRow.size == record.log.size
    )
    if session.exec(query).first() is not None:
        return
    session.add(
        CosignatureRow(
            unit=record.unit,
            size=record.log.size,
            envelope=envelope.to_bytes().decode(),
            recorded_at=now,
        )
    )
    session.flush()


def list_newest(session: Session, up_to_size: int) -> tuple[Envelope, ...]:
    """Return the newest cosignature of a log of at most this size by each key, sorted by unit."""
    query = (
        select(CosignatureRow)
        .where(CosignatureRow.size <= up_to_size)
        .order_by(col(CosignatureRow.unit), col(CosignatureRow.size))
    )
    envelopes = (Envelope.from_bytes(row.envelope.encode()) for row in session.exec(query))
    return tuple({envelope.signer: envelope for envelope in envelopes}.values())
