"""Aliases of models, their approvals, and what the gate answered: rows are added, never changed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlmodel import Session, col, func, select

from fedcore.promotions import Alias, ModelApproval, Promotion, Step
from registry.tables.promotions import AliasMoveRow, ModelApprovalRow, PromotionAnswerRow


@dataclass(frozen=True)
class StoredMove:
    """A move of an alias; `place` orders the moves of all aliases."""

    place: int
    alias: Alias
    number: int
    step: Step
    to_version: int | None
    document: str


@dataclass(frozen=True)
class StoredApproval:
    """An approval: who gave it, on which evidence, and its document."""

    number: int
    evidence: str
    approved_by: str
    document: str


@dataclass(frozen=True)
class StoredAnswer:
    """What the gate answered to a promotion; no codes mean yes.

    Attributes:
        facts: the digest of what it looked at, and `document` that as canonical JSON.
        rules: the version of the rules that it decided by.
    """

    name: str
    version: int
    alias: Alias
    asked_by: str
    facts: str
    document: str
    codes: tuple[str, ...]
    rules: str
    decided_at: datetime


def append_move(session: Session, move: Promotion) -> None:
    """Store a move, whose document must be stored before.

    Guarantees: of two moves with one number, in whatever transactions, only one is stored.
    Raises: IntegrityError for the other one.
    """
    session.flush()
    session.add(
        AliasMoveRow(
            name=move.name,
            alias=move.alias,
            number=move.number,
            step=move.step,
            to_version=move.to_version,
            document=move.digest,
        )
    )
    session.flush()


def list_moves(
    session: Session, name: str, after: int = 0, limit: int | None = None
) -> tuple[StoredMove, ...]:
    """Return at most `limit` moves of a model's aliases behind a place, oldest first."""
    query = (
        select(AliasMoveRow)
        .where(AliasMoveRow.name == name, col(AliasMoveRow.id) > after)
        .order_by(col(AliasMoveRow.id))
        .limit(limit)
    )
    return tuple(_move(row) for row in session.exec(query))


def list_newest(session: Session, name: str) -> dict[Alias, StoredMove]:
    """Return the newest move of each alias of a model."""
    return {move.alias: move for move in list_moves(session, name)}


def list_holders(session: Session) -> dict[str, dict[Alias, int]]:
    """Return which version of each model has which alias now; an alias that nobody has is left
    out, and so is a model without any.
    """
    newest = (
        select(func.max(AliasMoveRow.id))
        .group_by(col(AliasMoveRow.name), col(AliasMoveRow.alias))
        .scalar_subquery()
    )
    query = select(AliasMoveRow).where(
        col(AliasMoveRow.id).in_(newest), col(AliasMoveRow.to_version).is_not(None)
    )
    found: dict[str, dict[Alias, int]] = {}
    for row in session.exec(query):
        found.setdefault(row.name, {})[cast("Alias", row.alias)] = row.to_version or 0
    return found


def append_approval(session: Session, approval: ModelApproval) -> None:
    """Store an approval, whose document must be stored before."""
    session.flush()
    session.add(
        ModelApprovalRow(
            name=approval.name,
            version=approval.version,
            number=approval.number,
            evidence=approval.evidence,
            approved_by=approval.approved_by,
            document=approval.digest,
        )
    )
    session.flush()


def list_approvals(session: Session, name: str, version: int) -> tuple[StoredApproval, ...]:
    """Return the approvals of a version, on whatever evidence, oldest first."""
    query = (
        select(ModelApprovalRow)
        .where(ModelApprovalRow.name == name, ModelApprovalRow.version == version)
        .order_by(col(ModelApprovalRow.number))
    )
    return tuple(
        StoredApproval(row.number, row.evidence, row.approved_by, row.document)
        for row in session.exec(query)
    )


def append_answer(session: Session, answer: StoredAnswer) -> None:
    """Store what the gate answered."""
    session.add(
        PromotionAnswerRow(
            name=answer.name,
            version=answer.version,
            alias=answer.alias,
            asked_by=answer.asked_by,
            facts=answer.facts,
            document=answer.document,
            codes=json.dumps(answer.codes),
            rules=answer.rules,
            decided_at=answer.decided_at,
        )
    )
    session.flush()


def list_answers(
    session: Session, name: str, version: int, after: int = 0, limit: int | None = None
) -> Sequence[tuple[int, StoredAnswer]]:
    """Return at most `limit` answers about a version behind a place, oldest first, each with its
    place.
    """
    query = (
        select(PromotionAnswerRow)
        .where(
            PromotionAnswerRow.name == name,
            PromotionAnswerRow.version == version,
            col(PromotionAnswerRow.id) > after,
        )
        .order_by(col(PromotionAnswerRow.id))
        .limit(limit)
    )
    return [(row.id or 0, _answer(row)) for row in session.exec(query)]


def _move(row: AliasMoveRow) -> StoredMove:
    return StoredMove(
        place=row.id or 0,
        alias=cast("Alias", row.alias),
        number=row.number,
        step=cast("Step", row.step),
        to_version=row.to_version,
        document=row.document,
    )


def _answer(row: PromotionAnswerRow) -> StoredAnswer:
    return StoredAnswer(
        name=row.name,
        version=row.version,
        alias=cast("Alias", row.alias),
        asked_by=row.asked_by,
        facts=row.facts,
        document=row.document,
        codes=tuple(json.loads(row.codes)),
        rules=row.rules,
        decided_at=row.decided_at,
    )
