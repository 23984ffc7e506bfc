"""Routes of aliases and cards: the rules of promotion, approvals, moves, and the way back."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.status import HTTP_201_CREATED

from fedcore.errors import RefusedError
from fedcore.promotions import (
    Alias,
    AliasHistory,
    ApprovalRequest,
    PromotionAnswer,
    PromotionAnswers,
    PromotionCheck,
    PromotionRequest,
    RollbackRequest,
)
from fedcore.record import Name
from fedcore.signing import Envelope
from governance import promotions
from governance.exports.model_card import MEDIA_TYPES, CardFormat, render_card
from governance.model_cards import card_of
from governance.office import Desk
from governance.promotion_facts import load_promotion
from governance.routes.callers import (
    Desks,
    House,
    ModelApprover,
    Overseer,
    Promoter,
    RollbackKeeper,
)
from governance.routes.decisions import Placed
from governance.routes.once import Once
from governance.routes.paging import Paged
from governance.routes.preconditions import IfMatch, verify_match
from registry import promotions as stored_promotions

router = APIRouter(prefix="/v1")
_CARDS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The card.",
        "content": {media: {"schema": {"type": "string"}} for media in MEDIA_TYPES.values()},
    }
}
Form = Annotated[CardFormat, Query(alias="format", description="What the card is written in.")]


@router.get("/models/{name}/{version}/promotion", summary="Hold a model version against the rules")
def check_promotion(
    place: Placed, office: Desks, caller: House, alias: Alias = "champion"
) -> PromotionCheck:
    """Return all rules for an alias at once, each with what speaks against it and the way out."""
    with office.reading() as desk:
        return promotions.check_promotion(desk, place.name, place.version, alias, caller)


@router.post(
    "/models/{name}/{version}/approvals",
    summary="Approve a model version",
    status_code=HTTP_201_CREATED,
)
def approve_model(
    place: Placed, body: ApprovalRequest, office: Desks, caller: ModelApprover, once: Once
) -> Envelope:
    """Return the signed approval of the evidence that the caller has seen."""
    with office.writing() as desk:
        return once.answer(
            desk,
            caller,
            Envelope,
            lambda: promotions.approve(desk, place.name, place.version, body, caller),
        )


@router.post("/models/{name}/{version}/promotion", summary="Give a model version an alias")
def promote_model(
    place: Placed,
    body: PromotionRequest,
    office: Desks,
    caller: Promoter,
    once: Once,
    if_match: IfMatch = None,
) -> Envelope:
    """Return the signed move, made by who has seen where the aliases are; a refusal names every
    rule that speaks against it.
    """

    def promote(desk: Desk) -> Envelope | RefusedError:
        facts = load_promotion(desk, place.name, place.version, body.alias, caller)
        verify_match(if_match, _etag(desk, place.name))
        return promotions.promote(desk, facts, body.reason)

    with office.writing() as desk:
        outcome = once.answer(desk, caller, Envelope, lambda: promote(desk))
    # Raised only here: the answer is kept either way.
    if isinstance(outcome, RefusedError):
        raise outcome
    return outcome


@router.get(
    "/models/{name}/{version}/promotion/answers",
    summary="Read what the gate answered about a model version",
)
def list_promotion_answers(
    place: Placed, page: Paged, office: Desks, caller: Overseer
) -> PromotionAnswers:
    """Return every answer to a promotion, yes and no, oldest first."""
    with office.reading() as desk:
        found = stored_promotions.list_answers(
            desk.session, place.name, place.version, page.after(0), page.limit + 1
        )
    return PromotionAnswers(
        answers=tuple(
            PromotionAnswer(
                alias=item.alias,
                asked_by=item.asked_by,
                facts=item.facts,
                codes=item.codes,
                rules=item.rules,
                decided_at=item.decided_at,
            )
            for _, item in page.cut(found, lambda pair: pair[0])
        )
    )


@router.get(
    "/models/{name}/{version}/card",
    summary="Read the card of a model version",
    response_class=Response,
    responses=_CARDS,
)
def fetch_card(place: Placed, office: Desks, caller: House, form: Form = "html") -> Response:
    """Return what is recorded of a version, for people who decide, as one document."""
    with office.reading() as desk:
        card = card_of(desk, place.name, place.version, caller)
    return Response(render_card(card, form), media_type=MEDIA_TYPES[form])


@router.get("/aliases/{name}", summary="Read the aliases of a model")
def fetch_aliases(
    name: Name, page: Paged, response: Response, office: Desks, caller: House
) -> AliasHistory:
    """Return which versions are challenger and champion, and every move, oldest first; the ETag is
    what the next move must name.
    """
    with office.reading() as desk:
        promotions.verify_named(desk, name)
        found = stored_promotions.list_moves(desk.session, name, page.after(0), page.limit + 1)
        shown = page.cut(found, lambda item: item.place)
        history = promotions.view_aliases(desk, name, shown)
        response.headers["ETag"] = _etag(desk, name)
    return history


@router.post("/aliases/{name}/rollback", summary="Roll an alias back")
def roll_back(
    name: Name,
    body: RollbackRequest,
    office: Desks,
    caller: RollbackKeeper,
    once: Once,
    if_match: IfMatch = None,
) -> Envelope:
    """Return the signed move, made by who has seen where the aliases are."""

    def move(desk: Desk) -> Envelope:
        promotions.verify_named(desk, name)
        verify_match(if_match, _etag(desk, name))
        return promotions.roll_back(desk, name, body.alias, body.reason, caller)

    with office.writing() as desk:
        return once.answer(desk, caller, Envelope, lambda: move(desk))


def _etag(desk: Desk, name: str) -> str:
    return f'"{promotions.aliases_seen(desk, name)}"'
