"""Aliases of models: approvals, the gate of promotion, moves, and the way back."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedcore import canonical
from fedcore.errors import ConflictError, NotFoundError, RefusedError
from fedcore.promotions import (
    Alias,
    AliasHistory,
    ApprovalRequest,
    Holder,
    ModelApproval,
    MoveView,
    Promotion,
    PromotionCheck,
    RuleVerdict,
    Step,
)
from fedcore.signing import Envelope
from governance.bases import map_withdrawn_bases_of
from governance.decisions.gate_rule import Refusal
from governance.decisions.promotion import RULE_VERSION, decide_promotion, weigh
from governance.decisions.promotion_facts import PromotionFacts
from governance.decisions.rollback import decide_target
from governance.models import UNKNOWN, find_model
from governance.office import Desk
from governance.promotion_facts import load_promotion
from registry import documents, model_decisions, models, promotions
from registry.accounts import Account
from registry.promotions import StoredAnswer, StoredMove

ALIASES: tuple[Alias, ...] = ("challenger", "champion")
_NOBODY = "none"


@dataclass(frozen=True)
class _Move:
    """What moves an alias: where to, why, and what it rests on when a gate was asked."""

    alias: Alias
    step: Step
    to_version: int | None
    reason: str
    facts: PromotionFacts | None = None


def check_promotion(
    desk: Desk, name: str, version: int, alias: Alias, account: Account
) -> PromotionCheck:
    """Return every rule for an alias with what speaks against it now; nothing is changed or kept.

    Raises: NotFoundError `model.unknown`.
    """
    facts = load_promotion(desk, name, version, alias, account)
    return PromotionCheck(
        name=name,
        version=version,
        alias=alias,
        evidence=facts.seen,
        approved_by=tuple(sorted(approval.person for approval in facts.counted)),
        rules=RULE_VERSION,
        verdicts=tuple(
            RuleVerdict(code=rule.code, asks=rule.asks, asked_by=rule.asked_by, objection=objection)
            for rule, objection in weigh(facts)
        ),
    )


def approve(
    desk: Desk, name: str, version: int, request: ApprovalRequest, account: Account
) -> Envelope:
    """Approve a version on the evidence that was seen, and return the signed approval; the same
    person's second approval of it returns the first.

    Raises: NotFoundError `model.unknown`; ConflictError `approval.evidence_differs` when there is
        other evidence by now; RefusedError `approval.own_plan`.
    """
    facts = load_promotion(desk, name, version, "champion", account)
    if facts.plan_author == account.name:
        sentence = "You wrote the plan: two other people approve its model."
        raise RefusedError([("approval.own_plan", sentence)])
    if facts.seen != request.evidence:
        raise ConflictError(
            "approval.evidence_differs",
            "the evidence is another one now: look at it again, then approve",
        )
    known = promotions.list_approvals(desk.session, name, version)
    for item in known:
        if (item.evidence, item.approved_by) == (facts.seen, account.name):
            return desk.fetch(ModelApproval, item.document)
    approval = ModelApproval(
        name=name,
        version=version,
        model=facts.model,
        number=len(known) + 1,
        evidence=facts.seen,
        reason=request.reason,
        approved_by=account.name,
        approved_at=desk.now,
    )
    envelope = desk.issue(approval, run_id=find_model(desk, name, version).run_id)
    promotions.append_approval(desk.session, approval)
    return envelope


def promote(desk: Desk, facts: PromotionFacts, reason: str) -> Envelope | RefusedError:
    """Give a version an alias and return the signed move, or the refusal, which is kept like a yes
    and so not raised here.

    Guarantees: the version that had the alias has it no more; a challenger that becomes champion is
        challenger no more; whoever asks for what is so already gets the move that made it so.
    Raises: ConflictError `promotion.champion_already` for a champion as challenger.
    """
    newest = promotions.list_newest(desk.session, facts.name)
    held = newest.get(facts.alias)
    if held is not None and held.to_version == facts.version:
        return desk.fetch(Promotion, held.document)
    champion = newest.get("champion")
    if champion is not None and champion.to_version == facts.version:
        raise ConflictError(
            "promotion.champion_already",
            "the version is champion: promote another one, or roll back, before it is challenger",
        )
    refusals = decide_promotion(facts)
    _keep_answer(desk, facts, refusals)
    if refusals:
        return RefusedError(refusals)
    move = _Move(facts.alias, "promoted", facts.version, reason, facts)
    return _move(desk, facts.name, move, facts.person)


def roll_back(desk: Desk, name: str, alias: Alias, reason: str, account: Account) -> Envelope:
    """Give an alias back to who had it before, and return the signed move. No rule is asked: the
    way back is open whenever it is needed.

    Guarantees: what was rolled back does not come again by another rollback; a version that is
        withdrawn, or rests on one that is, is passed over; when nobody is left, nobody has the
        alias.
    Raises: NotFoundError `model.unknown`; RefusedError `promotion.nothing_to_roll_back`.
    """
    verify_named(desk, name)
    moves = [move for move in promotions.list_moves(desk.session, name) if move.alias == alias]
    if not moves or moves[-1].to_version is None:
        sentence = f"No version of {name} is {alias}: there is nothing to roll back."
        raise RefusedError([("promotion.nothing_to_roll_back", sentence)])
    withdrawn = model_decisions.list_withdrawn(desk.session)
    resting = map_withdrawn_bases_of(desk, name, [m.to_version for m in moves], withdrawn)
    gone = {version for known, version in [*withdrawn, *resting] if known == name}
    target = decide_target([(move.step, move.to_version) for move in moves], gone)
    return _move(desk, name, _Move(alias, "rolled_back", target, reason), account.name)


def verify_named(desk: Desk, name: str) -> None:
    """Refuse a name that no version has. Raises: NotFoundError `model.unknown`."""
    if models.next_version(desk.session, name) == 1:
        raise NotFoundError(*UNKNOWN)


def view_aliases(desk: Desk, name: str, moves: Sequence[StoredMove]) -> AliasHistory:
    """Return who has the aliases of a model now, and these of their moves."""
    newest = promotions.list_newest(desk.session, name)
    withdrawn = model_decisions.list_withdrawn(desk.session)
    found = documents.find_named(desk.session, Promotion, [move.document for move in moves])
    versions = {alias: newest[alias].to_version if alias in newest else None for alias in ALIASES}
    resting = map_withdrawn_bases_of(desk, name, list(versions.values()), withdrawn)
    return AliasHistory(
        holders=tuple(
            Holder(
                alias=alias,
                version=version,
                withdrawn=(name, version) in withdrawn,
                basis_withdrawn=(name, version) in resting,
            )
            for alias, version in versions.items()
        ),
        moves=tuple(
            MoveView(document=move.document, envelope=found[move.document]) for move in moves
        ),
    )


def aliases_seen(desk: Desk, name: str) -> str:
    """Return the digest of where the aliases of a model are, another one after each move."""
    newest = promotions.list_newest(desk.session, name)
    return canonical.digest_of(
        [newest[alias].document if alias in newest else _NOBODY for alias in ALIASES]
    )


def _keep_answer(desk: Desk, facts: PromotionFacts, refusals: tuple[Refusal, ...]) -> None:
    """Keep what was answered, from which facts and by which rules."""
    document = canonical.encode(facts.document)
    answer = StoredAnswer(
        name=facts.name,
        version=facts.version,
        alias=facts.alias,
        asked_by=facts.person,
        facts=canonical.digest(document),
        document=document.decode(),
        codes=tuple(code for code, _ in refusals),
        rules=RULE_VERSION,
        decided_at=desk.now,
    )
    promotions.append_answer(desk.session, answer)


def _move(desk: Desk, name: str, move: _Move, person: str) -> Envelope:
    """Sign and store a move, and before it the one that takes the other alias from its version."""
    newest = promotions.list_newest(desk.session, name)
    for alias in ALIASES:
        held = newest.get(alias)
        other = alias != move.alias and held is not None and held.to_version is not None
        if other and held is not None and held.to_version == move.to_version:
            _file(desk, name, _Move(alias, "vacated", None, move.reason), held, person)
    return _file(desk, name, move, newest.get(move.alias), person)


def _file(desk: Desk, name: str, move: _Move, before: StoredMove | None, person: str) -> Envelope:
    stored = None if move.to_version is None else find_model(desk, name, move.to_version)
    facts = move.facts
    record = Promotion(
        name=name,
        alias=move.alias,
        number=1 if before is None else before.number + 1,
        previous=None if before is None else before.document,
        step=move.step,
        from_version=None if before is None else before.to_version,
        to_version=move.to_version,
        model=None if stored is None else stored.document,
        evidence=None if facts is None else facts.seen,
        approvals=() if facts is None else tuple(item.document for item in facts.counted),
        facts=None if facts is None else canonical.digest_of(facts.document),
        rules=None if facts is None else RULE_VERSION,
        reason=move.reason,
        moved_by=person,
        moved_at=desk.now,
    )
    envelope = desk.issue(record, run_id=None if stored is None else stored.run_id)
    promotions.append_move(desk.session, record)
    return envelope
