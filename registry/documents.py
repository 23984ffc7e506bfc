"""Signed documents: stored once, in the log in the same transaction, never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, func, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from fedcore.errors import ConflictError
from fedcore.record import Record
from fedcore.rounds import Receipt
from fedcore.signing import Envelope
from registry import log
from registry.tables.documents import DocumentRow
from registry.tables.row import UtcTime

# Built once: every request asks the first two.
_FIND = select(DocumentRow.envelope).where(
    DocumentRow.digest == bindparam("digest"), DocumentRow.kind == bindparam("kind")
)
_NAMED = select(DocumentRow.digest, DocumentRow.kind, DocumentRow.envelope).where(
    col(DocumentRow.digest).in_(bindparam("digests", expanding=True))
)
_OF_KIND = (
    select(DocumentRow.envelope)
    .where(DocumentRow.kind == bindparam("kind"))
    .order_by(col(DocumentRow.id))
)
_APPEND: Any = text(
    "INSERT INTO documents (digest, kind, unit, run_id, envelope, recorded_at) "
    "VALUES (:digest, :kind, :unit, :run_id, :envelope, :recorded_at) "
    "ON CONFLICT (digest) DO NOTHING"
).bindparams(bindparam("recorded_at", type_=UtcTime))


@dataclass(frozen=True)
class Filing:
    """Where a document belongs: the unit and run that it is about, and when it arrived."""

    recorded_at: datetime
    unit: str | None = None
    run_id: str | None = None


def kind_of(record_type: type[Record]) -> str:
    """Return the kind of a record: its schema's name without the version."""
    return record_type.schema_id().split("/")[0]


def append(session: Session, record_type: type[Record], envelope: Envelope, filing: Filing) -> bool:
    """Store a document and its log entry; return False, and change nothing, when it is known."""
    digest, kind = envelope.digest, kind_of(record_type)
    stored = session.exec(
        _APPEND,
        params={
            "digest": digest,
            "kind": kind,
            "unit": filing.unit,
            "run_id": filing.run_id,
            "envelope": envelope.to_bytes().decode(),
            "recorded_at": filing.recorded_at,
        },
    )
    if stored.rowcount == 0:
        return False
    log.append(session, kind, digest)
    return True


def find(session: Session, record_type: type[Record], digest: str) -> Envelope | None:
    """Return the document of this kind and digest, or None."""
    found = session.exec(_FIND, params={"digest": digest, "kind": kind_of(record_type)}).first()
    return None if found is None else _parse(found)


def find_named(
    session: Session, record_type: type[Record], digests: Sequence[str]
) -> Mapping[str, Envelope]:
    """Return those of the named documents that are of this kind, by digest, in one query."""
    return find_each(session, dict.fromkeys(digests, record_type))


def find_each(session: Session, wanted: Mapping[str, type[Record]]) -> Mapping[str, Envelope]:
    """Return those of the named documents that are of the kind wanted, by digest, in one query."""
    found = session.exec(_NAMED, params={"digests": list(wanted)})
    return {
        digest: _parse(envelope)
        for digest, kind, envelope in found
        if kind == kind_of(wanted[digest])
    }


def of_run(session: Session, record_type: type[Record], run_id: str) -> tuple[Envelope, ...]:
    """Return a run's documents of one kind in the order of arrival."""
    query = (
        select(DocumentRow)
        .where(DocumentRow.run_id == run_id, DocumentRow.kind == kind_of(record_type))
        .order_by(col(DocumentRow.id))
    )
    return tuple(_envelope(row) for row in session.exec(query))


def of_kind(session: Session, record_type: type[Record]) -> tuple[Envelope, ...]:
    """Return all documents of one kind in the order of arrival."""
    found = session.exec(_OF_KIND, params={"kind": kind_of(record_type)})
    return tuple(map(_parse, found))


def first_receipts(session: Session, unit: str) -> tuple[Envelope, ...]:
    """Return the first receipt of a unit in each run, by run."""
    first = (
        select(func.min(col(DocumentRow.id)))
        .where(DocumentRow.unit == unit, DocumentRow.kind == kind_of(Receipt))
        .group_by(col(DocumentRow.run_id))
    )
    query = (
        select(DocumentRow.envelope)
        .where(col(DocumentRow.id).in_(first))
        .order_by(col(DocumentRow.run_id))
    )
    return tuple(map(_parse, session.exec(query)))


def erase(session: Session, digest: str) -> None:
    """Destroy a document; its log entry is for `log.erase`.

    Raises: ConflictError `document.in_use` when something that is kept names it.
    """
    row = session.exec(select(DocumentRow).where(DocumentRow.digest == digest)).first()
    try:
        session.delete(row)
        session.flush()
    except IntegrityError as error:
        raise ConflictError(
            "document.in_use",
            "a unit, a permit or a model stands by this document: end or replace that first",
        ) from error


def _envelope(row: DocumentRow) -> Envelope:
    return _parse(row.envelope)


@lru_cache(maxsize=512)
def _parse(text: str) -> Envelope:
    """Return the envelope of a row: the same text is the same envelope, and is read once."""
    return Envelope.from_bytes(text.encode())
