"""Pages of model versions: what is claimed, what was found, and who may become champion and why."""

from fastapi import APIRouter, Response

from fedcore.models import ModelVersion
from fedcore.promotions import ModelApproval, Promotion
from fedcore.record import Name
from governance.audits import list_audits_of, list_waivers
from governance.console.rendering import HEADERS
from governance.console.rim import ConsoleRoute, show_page
from governance.console.seats import Desks, Seated
from governance.evaluation_results import list_outcomes
from governance.exports.evidence import export_evidence
from governance.exports.model_card import MEDIA_TYPES, render_card
from governance.model_cards import card_of
from governance.model_decisions import verify_handed_out
from governance.models import find_model
from governance.office import Desk, required
from governance.promotions import ALIASES, check_promotion
from governance.routes.runs import Version
from registry import models, promotions

_LAST = 2**31 - 1
_PAGE = "/console/models"
router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@router.get("/models")
def list_models(office: Desks, seat: Seated) -> Response:
    """Show all model versions, the newest first, and which of them stand as what."""
    with office.reading() as desk:
        stored = [model for _, model in models.list_after(desk.session, 0, _LAST)]
        held = {name: _holders(desk, name) for name in {model.name for model in stored}}
    content = {"models": stored[::-1], "held": held}
    return show_page("models.html", seat, _PAGE, content)


@router.get("/models/{name}/{version}")
def show_model(name: Name, version: Version, office: Desks, seat: Seated) -> Response:
    """Show what is claimed about a model version, what was found of it, and every move of its
    model's aliases.
    """
    with office.reading() as desk:
        stored = find_model(desk, name, version)
        content = {
            "model": desk.open_own(ModelVersion, stored.document),
            "outcomes": list_outcomes(desk, stored),
            "audits": list_audits_of(desk, name, version),
            "waivers": list_waivers(desk, name, version),
            "stands_as": _holders(desk, name).get(version, ()),
            "moves": _moves(desk, name),
            "now": desk.now,
        }
    return show_page("model.html", seat, _PAGE, content)


@router.get("/models/{name}/{version}/gate")
def show_gate(name: Name, version: Version, office: Desks, seat: Seated) -> Response:
    """Show every rule of promotion at once, as it stands for who looks at it."""
    with office.reading() as desk:
        content = {
            "check": check_promotion(desk, name, version, "champion", seat.account),
            "approvals": _approvals(desk, name, version),
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


def _holders(desk: Desk, name: str) -> dict[int, tuple[str, ...]]:
    """Return the versions that have an alias now, each with its aliases."""
    newest = promotions.list_newest(desk.session, name)
    found: dict[int, tuple[str, ...]] = {}
    for alias in ALIASES:
        version = newest[alias].to_version if alias in newest else None
        if version is not None:
            found[version] = (*found.get(version, ()), alias)
    return found


def _moves(desk: Desk, name: str) -> list[Promotion]:
    digests = [move.document for move in promotions.list_moves(desk.session, name)]
    opened = desk.open_each(dict.fromkeys(digests, Promotion))
    return [required(opened, Promotion, digest) for digest in reversed(digests)]


def _approvals(desk: Desk, name: str, version: int) -> list[ModelApproval]:
    stored = promotions.list_approvals(desk.session, name, version)
    digests = [item.document for item in stored]
    opened = desk.open_each(dict.fromkeys(digests, ModelApproval))
    return [required(opened, ModelApproval, digest) for digest in digests]
