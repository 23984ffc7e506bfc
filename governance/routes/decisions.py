"""Routes of decisions on models: compliance and the DPO decide, who oversees reads."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from starlette.status import HTTP_201_CREATED

from fedcore.model_decisions import DecisionList, DecisionRequest
from fedcore.record import Name
from fedcore.signing import Envelope
from governance import model_decisions
from governance.office import Desk
from governance.routes.callers import Desks, Overseer, Revoker
from governance.routes.once import Once
from governance.routes.paging import Paged
from governance.routes.preconditions import IfMatch, verify_match
from governance.routes.runs import Version
from registry import model_decisions as stored_decisions

router = APIRouter(prefix="/v1")


@dataclass(frozen=True)
class Place:
    """The model version that a path names."""

    name: Name
    version: Version


Placed = Annotated[Place, Depends()]


@router.post(
    "/models/{name}/{version}/decisions",
    summary="Decide about a model version",
    status_code=HTTP_201_CREATED,
)
def decide_model(
    place: Placed,
    body: DecisionRequest,
    office: Desks,
    caller: Revoker,
    once: Once,
    if_match: IfMatch = None,
) -> Envelope:
    """Return the signed decision, made by who has seen the newest one before."""

    def decide(desk: Desk) -> Envelope:
        verify_match(
            if_match, _etag(model_decisions.newest_decision(desk, place.name, place.version))
        )
        return model_decisions.decide(desk, place.name, place.version, body, caller)

    with office.writing() as desk:
        return once.answer(desk, caller, Envelope, lambda: decide(desk))


@router.get(
    "/models/{name}/{version}/decisions", summary="List the decisions about a model version"
)
def list_model_decisions(
    place: Placed, page: Paged, response: Response, office: Desks, caller: Overseer
) -> DecisionList:
    """Return all decisions, oldest first; the ETag is what the next one must name."""
    with office.reading() as desk:
        newest = model_decisions.newest_decision(desk, place.name, place.version)
        found = stored_decisions.list_after(
            desk.session, place.name, place.version, page.after(0), page.limit + 1
        )
        shown = page.cut(found, lambda item: item.number)
        views = model_decisions.view_decisions(desk, shown)
    response.headers["ETag"] = _etag(newest)
    return DecisionList(decisions=views)


def _etag(newest: str) -> str:
    return f'"{newest}"'
