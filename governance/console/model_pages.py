"""Pages of model versions: what is claimed, what was found, and who may become champion and why."""

from fastapi import APIRouter, Response

from fedcore.early_stopping import proved_of
from fedcore.models import ModelVersion
from fedcore.promotions import ModelApproval, Promotion
from fedcore.record import Name
from governance.audits import list_audits_of, list_waivers
from governance.bases import map_withdrawn_bases, map_withdrawn_bases_of
from governance.console.rendering import HEADERS
from governance.console.rim import ConsoleRoute, show_page
from governance.console.run_pages import PAGE_SIZE, Before
from governance.console.seats import Desks, Seated
from governance.decisions.waivers import tell_waivers
from governance.evaluation_results import list_outcomes
from governance.exports.evidence import export_evidence
from governance.exports.model_card import MEDIA_TYPES, render_card
from governance.model_cards import card_of
from governance.model_decisions import verify_handed_out
from governance.models import find_model
from governance.office import Desk, required
from governance.plans import open_plan
from governance.promotions import ALIASES, check_promotion
from governance.roles import PROMOTER_ROLES
from governance.routes.runs import Version
from registry import model_decisions, models, promotions

_LAST = 2**31 - 1
# So many moves are shown; the API lists all of them.
_MOVES = 50
_PAGE = "/console/models"
router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@router.get("/models")
def list_models(office: Desks, seat: Seated, before: Before = _LAST) -> Response:
    """Show the model versions, the newest first, which of them stand as what, and which are
    withdrawn or rest on a withdrawn one.
    """
    with office.reading() as desk:
        found = models.list_before(desk.session, before, PAGE_SIZE)
        stored = [model for _, model in found]
        withdrawn = model_decisions.list_withdrawn(desk.session)
        content = {
            "models": stored,
            "older": found[-1][0] if len(found) == PAGE_SIZE else None,
            "held": promotions.list_holders(desk.session),
            "withdrawn": withdrawn,
            "resting": map_withdrawn_bases(desk, stored, withdrawn) if withdrawn else {},
        }
    return show_page("models.html", seat, _PAGE, content)


@router.get("/models/{name}/{version}")
def show_model(name: Name, version: Version, office: Desks, seat: Seated) -> Response:
    """Show what is claimed about a model version, what was found of it, and every move of its
    model's aliases.
    """
    with office.reading() as desk:
        stored = find_model(desk, name, version)
        audits = list_audits_of(desk, name, version)
        withdrawn = model_decisions.list_withdrawn(desk.session)
        waivers = list_waivers(desk, name, version)
        model = desk.open_own(ModelVersion, stored.document)
        content = {
            "model": model,
            "proved": proved_of(open_plan(desk, model.plan)[0]),
            "outcomes": list_outcomes(desk, stored),
            "audits": audits,
            "waivers": tell_waivers(waivers, audits[0].digest if audits else "", desk.now),
            "stands_as": _aliases(desk, name, version),
            "withdrawn": (name, version) in withdrawn,
            "bases": map_withdrawn_bases_of(desk, name, [version], withdrawn),
            "moves": _moves(desk, name),
        }
    return show_page("model.html", seat, _PAGE, content)


@router.get("/models/{name}/{version}/gate")
def show_gate(name: Name, version: Version, office: Desks, seat: Seated) -> Response:
    """Show every rule of promotion at once, as it stands for who looks at it."""
    with office.reading() as desk:
        content = {
            "check": check_promotion(desk, name, version, "champion", seat.account),
            "approvals": _approvals(desk, name, version),
            "is_champion": "champion" in _aliases(desk, name, version),
            "may_move": seat.account.role in PROMOTER_ROLES,
        }
    return show_page("gate.html", seat, _PAGE, content)


@router.get("/models/{name}/{version}/evidence")
def fetch_evidence(name: Name, version: Version, office: Desks, seat: Seated) -> Response:
    """Return the evidence bundle of a model version as a file."""
    with office.reading() as desk:
        verify_handed_out(desk, name, version, seat.account)
        bundle = export_evidence(desk, name, version)
    file_name = f'attachment; filename="{name}-{version}.fedpact"'
    headers = {**HEADERS, "Content-Disposition": file_name}
    return Response(bundle, media_type="application/zip", headers=headers)


@router.get("/models/{name}/{version}/card")
def fetch_card(name: Name, version: Version, office: Desks, seat: Seated) -> Response:
    """Return the card of a model version as a file."""
    with office.reading() as desk:
        card = card_of(desk, name, version, seat.account)
    file_name = f'attachment; filename="{name}-{version}-card.md"'
    headers = {**HEADERS, "Content-Disposition": file_name}
    return Response(render_card(card, "md"), media_type=MEDIA_TYPES["md"], headers=headers)


def _aliases(desk: Desk, name: str, version: int) -> list[str]:
    held = promotions.list_holders(desk.session).get(name, {})
    return [alias for alias in ALIASES if held.get(alias) == version]


def _moves(desk: Desk, name: str) -> list[Promotion]:
    """Return the newest moves of a model's aliases, the newest first."""
    digests = [move.document for move in promotions.list_moves(desk.session, name)][-_MOVES:]
    opened = desk.open_each(dict.fromkeys(digests, Promotion))
    return [required(opened, Promotion, digest) for digest in reversed(digests)]


def _approvals(desk: Desk, name: str, version: int) -> list[ModelApproval]:
    stored = promotions.list_approvals(desk.session, name, version)
    digests = [item.document for item in stored]
    opened = desk.open_each(dict.fromkeys(digests, ModelApproval))
    return [required(opened, ModelApproval, digest) for digest in digests]
