"""DPIA versions, their states and the acts that led there."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import bindparam, delete
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from fedcore import canonical
from fedcore.dpia_record import AnyDpia, parse_dpia
from fedcore.dpias import ActDetails, ActRecord, DpiaState
from registry.tables.dpias import DpiaActRow, DpiaRow


@dataclass(frozen=True)
class StoredDpia:
    """A DPIA version as it stands: `state` is the stored one, before expiry is derived."""

    record: AnyDpia
    state: DpiaState
    author: str
    acts: tuple[ActRecord, ...]
    decision: str | None


def append(session: Session, record: AnyDpia, author: str, created_at: datetime) -> None:
    """Store a draft."""
    session.add(
        DpiaRow(
            digest=record.digest,
            dpia_id=record.dpia_id,
            version=record.version,
            state="draft",
            author=author,
            record=record.to_bytes().decode(),
            created_at=created_at,
        )
    )
    session.flush()


def append_act(session: Session, digest: str, act: ActRecord, position: int) -> None:
    """Store an act under its place in the order of acts."""
    session.add(
        DpiaActRow(
            dpia=digest,
            position=position,
            act=act.act,
            actor=act.actor,
            note=act.note,
            acted_at=act.acted_at,
            details=_details(act),
        )
    )
    session.flush()


def set_state(session: Session, digest: str, state: DpiaState) -> None:
    """Store a new state."""
    row = session.exec(select(DpiaRow).where(DpiaRow.digest == digest)).one()
    row.state = state
    session.add(row)
    session.flush()


def set_decision(session: Session, digest: str, decision: str) -> None:
    """Store the digest of the newest signed decision."""
    row = session.exec(select(DpiaRow).where(DpiaRow.digest == digest)).one()
    row.decision = decision
    session.add(row)
    session.flush()


def erase(session: Session, digest: str) -> None:
    """Destroy a version and the acts on it; its document and log entry are for others."""
    session.flush()
    connection = session.connection()
    connection.execute(delete(DpiaActRow).where(col(DpiaActRow.dpia) == digest))
    connection.execute(delete(DpiaRow).where(col(DpiaRow.digest) == digest))


def find(session: Session, digest: str) -> StoredDpia | None:
    """Return the version of this digest, or None."""
    return next(iter(_load(session, _OF_DIGEST, digest=digest)), None)


def find_version(session: Session, dpia_id: str, version: int) -> StoredDpia | None:
    """Return one version of a DPIA, or None."""
    found = _load(session, _OF_VERSION, dpia_id=dpia_id, version=version)
    return next(iter(found), None)


def list_of(session: Session, dpia_id: str) -> tuple[StoredDpia, ...]:
    """Return all versions of one DPIA, oldest first."""
    found = _load(session, _OF_ID, dpia_id=dpia_id)
    return tuple(sorted(found, key=lambda stored: stored.record.version))


def list_all(session: Session) -> tuple[StoredDpia, ...]:
    """Return all versions of all DPIAs in the order in which they were drafted."""
    return _load(session, _ALL)


@dataclass(frozen=True)
class _Queries:
    """The query of some versions, in the order in which they were drafted, and that of their acts,
    in order: two, however many versions there are.
    """

    versions: SelectOfScalar[DpiaRow]
    acts: SelectOfScalar[DpiaActRow]


def _queries(*conditions: Any) -> _Queries:
    of_them = select(DpiaActRow).join(DpiaRow, col(DpiaRow.digest) == col(DpiaActRow.dpia))
    return _Queries(
        select(DpiaRow).where(*conditions).order_by(col(DpiaRow.id)),
        of_them.where(*conditions).order_by(col(DpiaActRow.dpia), col(DpiaActRow.position)),
    )


_IS_ID = DpiaRow.dpia_id == bindparam("dpia_id")
_ALL, _OF_ID = _queries(), _queries(_IS_ID)
_OF_DIGEST = _queries(DpiaRow.digest == bindparam("digest"))
_OF_VERSION = _queries(_IS_ID, DpiaRow.version == bindparam("version"))


def _load(session: Session, queries: _Queries, **params: str | int) -> tuple[StoredDpia, ...]:
    rows = session.exec(queries.versions, params=params).all()
    acts: dict[str, list[ActRecord]] = {row.digest: [] for row in rows}
    for act in session.exec(queries.acts, params=params):
        acts[act.dpia].append(_act(act))
    return tuple(
        StoredDpia(
            record=_parse(row.record),
            state=cast("DpiaState", row.state),
            author=row.author,
            acts=tuple(acts[row.digest]),
            decision=row.decision,
        )
        for row in rows
    )


@lru_cache(maxsize=128)
def _parse(text: str) -> AnyDpia:
    """Return the DPIA of a row: the same text is the same frozen record, and is read once."""
    return parse_dpia(text.encode())


def _act(row: DpiaActRow) -> ActRecord:
    values = {} if row.details is None else canonical.decode(row.details.encode())
    return ActRecord.model_validate(
        {
            **values,
            "act": row.act,
            "actor": row.actor,
            "note": row.note,
            "acted_at": row.acted_at,
        }
    )


def _details(act: ActRecord) -> str | None:
    if not act.given:
        return None
    own = act.model_dump(mode="json", include=set(ActDetails.model_fields), exclude_none=True)
    return canonical.encode(own).decode()
