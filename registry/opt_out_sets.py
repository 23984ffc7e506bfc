"""The current states of units' objections and consents, and the digests of each unit's set."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import delete, func, text
from sqlmodel import Session, col, select

from fedcore.opt_out_sets import BUCKETS, bucket_digests, bucket_of
from fedcore.optouts import Entry, Ground, State, next_state
from registry.tables.optouts import OptOutBucketRow, OptOutStateRow

_Subject = tuple[str, str, Ground]
# With more buckets to work out than these, one look at all states is less work.
_FEW_BUCKETS = 16
_QUERY_PAGE = 5_000
# All rows in one statement: each statement of its own would cost several times as much.
_MOVE = {
    "postgresql": text(
        "INSERT INTO opt_out_states (unit, pseudonym, purpose, ground, state, sequence) "
        "SELECT :unit, moved.* FROM unnest(CAST(:pseudonyms AS text[]), CAST(:purposes AS text[]), "
        "CAST(:grounds AS text[]), CAST(:states AS text[]), CAST(:sequences AS bigint[])) AS moved "
        "ON CONFLICT (unit, pseudonym, purpose, ground) "
        "DO UPDATE SET state = excluded.state, sequence = excluded.sequence"
    ),
    "sqlite": text(
        "INSERT INTO opt_out_states (unit, pseudonym, purpose, ground, state, sequence) "
        "VALUES (:unit, :pseudonym, :purpose, :ground, :state, :sequence) "
        "ON CONFLICT (unit, pseudonym, purpose, ground) "
        "DO UPDATE SET state = excluded.state, sequence = excluded.sequence"
    ),
}


def move(session: Session, unit: str, entries: Sequence[Entry], first_sequence: int) -> None:
    """Store the states that consecutive events lead to.

    Raises: ConflictError `opt_out.act_not_open`; nothing is stored then.
    """
    pseudonyms = {entry.pseudonym for entry in entries}
    states = _load(session, unit, sorted(pseudonyms))
    moved: dict[_Subject, tuple[State, int]] = {}
    for sequence, (pseudonym, said, _) in enumerate(entries, first_sequence):
        subject = pseudonym, said.purpose, said.ground
        states[subject] = state = next_state(said, states.get(subject))
        moved[subject] = state, sequence
    _store(session, unit, moved)
    changed = {bucket_of(pseudonym) for pseudonym in pseudonyms}
    session.exec(
        delete(OptOutBucketRow).where(
            col(OptOutBucketRow.unit) == unit, col(OptOutBucketRow.bucket).in_(changed)
        )
    )


def load_buckets(session: Session, unit: str) -> list[bytes]:
    """Return the digests of a unit's buckets in order; those that changed are worked out and kept.

    To be called in a transaction that may write.
    """
    query = select(OptOutBucketRow.bucket, OptOutBucketRow.digest).where(
        OptOutBucketRow.unit == unit
    )
    known = {bucket: bytes.fromhex(digest) for bucket, digest in session.exec(query)}
    changed = [bucket for bucket in range(BUCKETS) if bucket not in known]
    if len(changed) <= _FEW_BUCKETS:
        fresh = {b: bucket_digests(_classes(session, unit, f"{b:02x}"))[b] for b in changed}
    else:
        every = bucket_digests(_classes(session, unit, ""))
        fresh = {bucket: every[bucket] for bucket in changed}
    session.add_all(
        OptOutBucketRow(unit=unit, bucket=bucket, digest=digest.hex())
        for bucket, digest in fresh.items()
    )
    session.flush()
    return [digest for _, digest in sorted((known | fresh).items())]


def _classes(session: Session, unit: str, prefix: str) -> dict[tuple[str, Ground, State], str]:
    """Return the pseudonyms that begin so, joined in the database, by what they are in."""
    row = OptOutStateRow
    query = (
        select(row.purpose, row.ground, row.state, func.aggregate_strings(col(row.pseudonym), ""))
        .where(row.unit == unit, row.pseudonym >= prefix, row.pseudonym < f"{prefix}g")
        .group_by(col(row.purpose), col(row.ground), col(row.state))
    )
    return {
        (purpose, cast(Ground, ground), cast(State, state)): joined
        for purpose, ground, state, joined in session.exec(query)
    }


def _load(session: Session, unit: str, pseudonyms: Sequence[str]) -> dict[_Subject, State]:
    found: dict[_Subject, State] = {}
    row = OptOutStateRow
    for first in range(0, len(pseudonyms), _QUERY_PAGE):
        page = pseudonyms[first : first + _QUERY_PAGE]
        query = select(row.pseudonym, row.purpose, row.ground, row.state).where(
            row.unit == unit, col(row.pseudonym).in_(page)
        )
        for pseudonym, purpose, ground, state in session.exec(query):
            found[pseudonym, purpose, cast(Ground, ground)] = cast(State, state)
    return found


def _store(session: Session, unit: str, moved: Mapping[_Subject, tuple[State, int]]) -> None:
    connection = session.connection()
    rows = [(*subject, *reached) for subject, reached in moved.items()]
    names = ("pseudonym", "purpose", "ground", "state", "sequence")
    if connection.dialect.name == "postgresql":
        columns = dict(
            zip((f"{name}s" for name in names), map(list, zip(*rows, strict=True)), strict=True)
        )
        connection.execute(_MOVE["postgresql"], {"unit": unit, **columns})
        return
    values: list[dict[str, Any]] = [
        {"unit": unit, **dict(zip(names, row, strict=True))} for row in rows
    ]
    connection.execute(_MOVE["sqlite"], values)
