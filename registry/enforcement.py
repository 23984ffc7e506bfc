"""What is kept of how a unit's opt-outs act: their states, bulletins, trainings, models."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import func, insert, tuple_
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, select

from fedcore.contracts import Contract
from fedcore.optouts import Ground, Subject
from fedcore.permits import Permit
from fedcore.rounds import Receipt
from fedcore.signing import Envelope
from registry import group_deliveries
from registry.models import StoredModel
from registry.tables.documents import DocumentRow
from registry.tables.models import ModelRow
from registry.tables.optouts import BulletinRow, OptOutStateRow
from registry.tables.row import Row
from registry.tables.trainings import TrainingRow

_SHORT = ("run_id", "round", "answered_at", "purpose", "contract", "last_sequence")


@dataclass(frozen=True)
class StoredState:
    """The current state of an objection, and the event that led to it."""

    state: str
    sequence: int


@dataclass(frozen=True)
class Issued:
    """The newest opt-out of some bulletins, and when the first of them was issued."""

    last_sequence: int
    issued_at: datetime


@dataclass(frozen=True)
class StoredTraining:
    """A receipt, told short; `last_sequence` is the newest opt-out of the bulletin that it names,
    0 when no such bulletin was kept.
    """

    run_id: str
    round: int
    answered_at: datetime
    purpose: str
    contract: str
    last_sequence: int


def find_states(
    session: Session, unit: str, subjects: Collection[Subject]
) -> dict[Subject, StoredState]:
    """Return the current state of each of these objections of a unit."""
    key = tuple_(
        col(OptOutStateRow.pseudonym), col(OptOutStateRow.purpose), col(OptOutStateRow.ground)
    )
    query = select(OptOutStateRow).where(OptOutStateRow.unit == unit, key.in_(subjects))
    return {
        (row.pseudonym, row.purpose, cast("Ground", row.ground)): StoredState(
            row.state, row.sequence
        )
        for row in session.exec(query)
    }


def list_issued(session: Session, unit: str, sequence: int) -> tuple[Issued, ...]:
    """Return when a unit's bulletins were first issued up to each opt-out from `sequence` on."""
    query = (
        select(BulletinRow.last_sequence, func.min(BulletinRow.issued_at))
        .where(BulletinRow.unit == unit, BulletinRow.last_sequence >= sequence)
        .group_by(col(BulletinRow.last_sequence))
        .order_by(col(BulletinRow.last_sequence))
    )
    return tuple(Issued(*row) for row in session.exec(query))


def file_receipts(session: Session, receipts: Sequence[Receipt], permit: Permit) -> None:
    """Keep what receipts of a permit's run say of applied opt-outs; their documents must be stored
    before.
    """
    session.flush()
    query = select(BulletinRow).where(
        col(BulletinRow.digest).in_({receipt.bulletin for receipt in receipts})
    )
    found = session.exec(query).all()
    applied = {(row.unit, row.digest): row.last_sequence for row in found}
    group_deliveries.note_trained(session, receipts, {row.digest: row.issued_at for row in found})
    rows = [
        {
            "receipt": receipt.digest,
            "unit": receipt.unit,
            "run_id": receipt.run_id,
            "round": receipt.round,
            "answered_at": receipt.answered_at,
            "purpose": permit.purpose,
            "contract": permit.contract,
            "last_sequence": applied.get((receipt.unit, receipt.bulletin), 0),
        }
        for receipt in receipts
    ]
    if rows:
        session.connection().execute(insert(TrainingRow), rows)


def list_trainings(session: Session, unit: str) -> tuple[StoredTraining, ...]:
    """Return a unit's trainings in the order in which its node answered."""
    table = Row.metadata.tables[TrainingRow.__tablename__]
    query = (
        sql_select(*(table.c[name] for name in _SHORT))
        .where(table.c.unit == unit)
        .order_by(table.c.answered_at, table.c.run_id, table.c.round)
    )
    return tuple(StoredTraining(*row) for row in session.connection().execute(query))


def has_trained(session: Session, unit: str, run_id: str) -> bool:
    """Return whether a unit has given a receipt in a run."""
    query = select(TrainingRow.receipt).where(
        TrainingRow.unit == unit, TrainingRow.run_id == run_id
    )
    return session.exec(query.limit(1)).first() is not None


def list_contracts(session: Session, digests: Collection[str]) -> tuple[Contract, ...]:
    """Return these contracts."""
    query = select(DocumentRow.envelope).where(col(DocumentRow.digest).in_(digests))
    found = (Envelope.from_bytes(text.encode()) for text in session.exec(query))
    return tuple(Contract.from_bytes(envelope.payload_bytes) for envelope in found)


def find_models(session: Session, unit: str) -> dict[str, StoredModel]:
    """Return the model version of each run in which a unit has trained and that has one."""
    runs = select(TrainingRow.run_id).where(TrainingRow.unit == unit)
    query = select(ModelRow).where(col(ModelRow.run_id).in_(runs)).order_by(col(ModelRow.id))
    return {
        row.run_id: StoredModel(row.name, row.version, row.run_id, row.document, row.artifact)
        for row in session.exec(query)
    }
