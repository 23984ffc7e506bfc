"""Pages of DPIAs: what waits for whoever sits here, the record in full, and the acts on it.

Which acts are open is asked of the pure function that decides about them, and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, get_args

from fastapi import APIRouter, Path, Request, Response

from fedcore.contracts import Contract
from fedcore.dpia_acts import advice_is_unfavourable, open_conditions, open_review
from fedcore.dpia_record import AnyDpia, Dpia
from fedcore.dpias import ActRecord, DpiaAct, DpiaState
from fedcore.errors import InvalidRecordError, NotFoundError, TransitionError
from fedcore.record import Digest
from governance.console.act_forms import (
    CONDITION_ROWS,
    ITEM_VERDICTS,
    VERDICTS,
    details_of,
    request_of,
)
from governance.console.record_view import sections_of
from governance.console.rim import ConsoleRoute, see_other, show_page
from governance.console.risk_map import LEVELS, maps_of
from governance.console.seats import Desks, Filled, Seat, Seated
from governance.decisions.completeness import Lack, list_lacks
from governance.decisions.dpia import decide_transition
from governance.decisions.dpia_standing import Standing, standing_of
from governance.dpias import act_on_dpia, find_dpia, state_now, view_dpia
from governance.office import Desk
from governance.problems import Problem, problem_of
from registry import documents, dpias
from registry.accounts import Account
from registry.dpias import StoredDpia

ACTS: tuple[DpiaAct, ...] = get_args(DpiaAct)
# These may be done at almost any time, and are never waited for.
_UNASKED = frozenset({"suspend", "withdraw", "open_review", "comment", "reject"})
# Reasons against an act of which its form has not said everything yet: the form asks for it.
_ASKED_FOR = frozenset({"dpia.detail_missing", "dpia.advice_overruled"})
_NOT_NOW = frozenset({"dpia.act_not_allowed", "dpia.expired"})
_LIST = "/console/dpias"

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)
ActName = Annotated[str, Path(max_length=80)]


@dataclass(frozen=True)
class KnownAct:
    """An act that this DPIA's state knows: open to whoever sits here, or refused, and why.

    Attributes:
        leads_to: the state after it; None when that depends on what its form will say.
    """

    act: DpiaAct
    leads_to: DpiaState | None
    reasons: tuple[tuple[str, str], ...]

    @property
    def open(self) -> bool:
        """Whether its form can be filled in so that nothing speaks against it."""
        return {code for code, _ in self.reasons} <= _ASKED_FOR


@dataclass(frozen=True)
class Line:
    """A DPIA in a list."""

    stored: StoredDpia
    state: DpiaState
    acts: tuple[KnownAct, ...]


@router.get("")
def show_waiting(office: Desks, seat: Seated) -> Response:
    """Show the DPIAs that wait for an act of whoever sits here."""
    with office.reading() as desk:
        lines = [_line(desk, stored, seat.account) for stored in dpias.list_all(desk.session)]
    asked = [
        (line, [item for item in line.acts if item.open and item.act not in _UNASKED])
        for line in lines
    ]
    waiting = [(line, acts) for line, acts in asked if acts]
    return show_page("waiting.html", seat, "/console", {"waiting": waiting})


@router.get("/dpias")
def list_dpias(office: Desks, seat: Seated) -> Response:
    """Show all versions of all DPIAs, the newest first."""
    with office.reading() as desk:
        lines = [_line(desk, stored, seat.account) for stored in dpias.list_all(desk.session)]
    return show_page("dpias.html", seat, _LIST, {"lines": lines[::-1]})


@router.get("/dpias/{digest}")
def show_dpia(request: Request, digest: Digest, office: Desks, seat: Seated) -> Response:
    """Show a DPIA in full."""
    with office.reading() as desk:
        stored = find_dpia(desk, digest)
        line = _line(desk, stored, seat.account)
        view = view_dpia(desk, stored)
        lacks = _lacks(desk, view.record)
    before, after = maps_of(view.record.risks)
    done = request.query_params.get("done")
    content = {
        "line": line,
        "view": view,
        "lacks": lacks,
        "sections": sections_of(view.record),
        "language": view.record.language if isinstance(view.record, Dpia) else "en",
        "maps": (("Before the measures", before), ("After the measures", after)),
        "levels": LEVELS,
        "done": done if done in ACTS else None,
    }
    return show_page("dpia.html", seat, _LIST, content)


@router.get("/dpias/{digest}/acts/{act}")
def show_act(digest: Digest, act: ActName, office: Desks, seat: Seated) -> Response:
    """Show the form of an act."""
    return _act_page(office, seat, (digest, act), {}, None)


@router.post("/dpias/{digest}/acts/{act}")
def do_act(digest: Digest, act: ActName, office: Desks, form: Filled) -> Response:
    """Do an act, or show beside the form why it was refused."""
    try:
        request = request_of(act, form.fields)
        with office.writing() as desk:
            act_on_dpia(desk, digest, request, form.seat.account)
    except (TransitionError, InvalidRecordError) as error:
        problem = problem_of(error, f"{_LIST}/{digest}/acts/{act}")
        return _act_page(office, form.seat, (digest, act), form.fields, problem)
    return see_other(f"{_LIST}/{digest}?done={act}")


def _act_page(
    office: Desks,
    seat: Seat,
    place: tuple[str, str],
    fields: Mapping[str, str],
    problem: Problem | None,
) -> Response:
    digest, name = place
    act = next((act for act in ACTS if act == name), None)
    if act is None:
        raise NotFoundError("route.unknown", "there is no such page")
    with office.reading() as desk:
        stored = find_dpia(desk, digest)
        line = _line(desk, stored, seat.account)
    content = {
        "line": line,
        "known": next((item for item in line.acts if item.act == act), None),
        "act": act,
        "fields": fields,
        "problem": problem,
        **_choices(act, standing_of(stored)),
    }
    return show_page("act.html", seat, _LIST, content, problem.status if problem else 200)


def _choices(act: DpiaAct, standing: Standing) -> dict[str, object]:
    """Return what the fields of an act's form may say; nothing where there is nothing to say."""
    asked = details_of(act)
    overruling = "overruling_reason" in asked and advice_is_unfavourable(standing.acts, None)
    several = standing.entities if len(standing.entities) > 1 else ()
    return {
        "entities": several if "entity" in asked else (),
        "verdicts": VERDICTS if "verdict" in asked else (),
        "items": sorted(standing.items) if "items" in asked else (),
        "item_verdicts": ITEM_VERDICTS,
        "condition_rows": CONDITION_ROWS if "conditions" in asked else (),
        "fulfillable": open_conditions(standing.acts) if "fulfilled" in asked else (),
        "overruling": overruling,
    }


def _lacks(desk: Desk, dpia: AnyDpia) -> tuple[Lack, ...]:
    if not isinstance(dpia, Dpia):
        return ()
    published = documents.find(desk.session, Contract, dpia.bindings.contract)
    contract = None if published is None else desk.open_signed_here(published, Contract)
    return list_lacks(dpia, contract)


def _line(desk: Desk, stored: StoredDpia, account: Account) -> Line:
    acts = [_known_act(desk, stored, act, account) for act in ACTS]
    return Line(stored, state_now(desk, stored), tuple(item for item in acts if item is not None))


def _known_act(desk: Desk, stored: StoredDpia, act: DpiaAct, account: Account) -> KnownAct | None:
    """Return what the rules would say to this act with nothing but a note, or None when the DPIA's
    state does not know it.
    """
    if act == "fulfil_conditions" and not open_conditions(stored.acts):
        return None  # a form that could say nothing
    if act == "close_review" and open_review(stored.acts) is None:
        return None
    tried = ActRecord(act=act, actor=account.name, note="tried", acted_at=desk.now)
    try:
        return KnownAct(act, decide_transition(standing_of(stored), tried, account.role), ())
    except TransitionError as error:
        if set(error.codes) & _NOT_NOW:
            return None
        return KnownAct(act, None, error.reasons)
