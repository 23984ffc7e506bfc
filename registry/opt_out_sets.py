"""The current states of units' objections and consents, and the digests of each unit's set."""

import json
from collections.abc import Mapping, Sequence
from typing import cast

from sqlalchemy import delete, func, text
from sqlmodel import Session, col, select

from fedcore.opt_out_sets import BUCKETS, bucket_digests, bucket_of
from fedcore.optouts import Entry, Ground, State, Subject, next_state
from registry.tables.optouts import OptOutBucketRow, OptOutStateRow

# With more buckets to work out than these, one look at all states is less work.
_FEW_BUCKETS = 16
# All rows in one statement: each statement of its own would cost several times as much. Looking for
# a row to move costs as much again, so that it is asked only of customers who have a state.
_MOVE = (
    " ON CONFLICT (unit, pseudonym, purpose, ground) "
    "DO UPDATE SET state = excluded.state, sequence = excluded.sequence"
)
_ADD_SQLITE = (
    "INSERT INTO opt_out_states (pseudonym, purpose, ground, state, sequence, unit) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
# Each column is one text: the driver takes longer over a list of 10,000 than the database over
# all that is asked of it. None of the values can hold the sign in between.
_BETWEEN = ","
_COLUMNS = ("pseudonyms", "purposes", "grounds", "states", "sequences")
_ADD_POSTGRESQL = (
    "INSERT INTO opt_out_states (unit, pseudonym, purpose, ground, state, sequence) "
    "SELECT :unit, moved.* FROM unnest(string_to_array(:pseudonyms, ','), "
    "string_to_array(:purposes, ','), string_to_array(:grounds, ','), "
    "string_to_array(:states, ','), CAST(string_to_array(:sequences, ',') AS bigint[])) AS moved"
)
_FIND = "SELECT pseudonym, purpose, ground, state FROM opt_out_states WHERE unit = :unit AND "
_FIND_SQLITE = text(
    _FIND + "pseudonym IN (SELECT value FROM json_each(:wanted))"  # noqa: S608 - constants
)
_FIND_POSTGRESQL = text(_FIND + "pseudonym = ANY(string_to_array(:wanted, ','))")


def move(session: Session, unit: str, entries: Sequence[Entry], first_sequence: int) -> None:
    """Store the states that consecutive events lead to.

    Raises: ConflictError `opt_out.act_not_open`; nothing is stored then.
    """
    pseudonyms = {entry.pseudonym for entry in entries}
    heirs = {entry.successor for entry in entries if entry.successor}
    known = _load(session, unit, sorted(pseudonyms | heirs))
    states = dict(known)
    moved: dict[Subject, tuple[State, int]] = {}
    for sequence, entry in enumerate(entries, first_sequence):
        pseudonym, said, _, _, successor, _ = entry
        subject = pseudonym, said.purpose, said.ground
        heir = states.get((successor, *subject[1:])) if successor else None
        states[subject] = state = next_state(said, states.get(subject), heir)
        moved[subject] = state, sequence
    _store(session, unit, {s: to for s, to in moved.items() if s not in known}, "")
    _store(session, unit, {s: to for s, to in moved.items() if s in known}, _MOVE)
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


def _load(session: Session, unit: str, pseudonyms: Sequence[str]) -> dict[Subject, State]:
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        wanted = {"unit": unit, "wanted": _BETWEEN.join(pseudonyms)}
        rows = connection.execute(_FIND_POSTGRESQL, wanted)
    else:
        rows = connection.execute(_FIND_SQLITE, {"unit": unit, "wanted": json.dumps(pseudonyms)})
    return {
        (pseudonym, purpose, cast(Ground, ground)): cast(State, state)
        for pseudonym, purpose, ground, state in rows
    }


def _store(
    session: Session, unit: str, moved: Mapping[Subject, tuple[State, int]], conflict: str
) -> None:
    """Write where customers are now; `conflict` says what becomes of where they were."""
    if not moved:
        return
    connection = session.connection()
    rows = [(*subject, *reached) for subject, reached in moved.items()]
    if connection.dialect.name == "postgresql":
        texts = (_BETWEEN.join(map(str, column)) for column in zip(*rows, strict=True))
        columns = dict(zip(_COLUMNS, texts, strict=True))
        connection.execute(text(_ADD_POSTGRESQL + conflict), {"unit": unit, **columns})
    else:
        connection.exec_driver_sql(_ADD_SQLITE + conflict, [(*row, unit) for row in rows])
