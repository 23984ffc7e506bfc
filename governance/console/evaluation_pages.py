"""Pages of evaluations and fairness audits: what a run has found of its models, each number with
its interval.
"""

from fastapi import APIRouter, Response

from fedcore.evaluation_outcomes import SEEN_BY_CHECKS, Evaluation
from fedcore.fairness_audits import FairnessAudit
from fedcore.record import Name
from governance.audits import find_audit, list_waivers
from governance.console.rim import ConsoleRoute, show_page
from governance.console.seats import Desks, Seated
from governance.decisions.waivers import tell_waivers
from governance.evaluation_results import find_evaluation

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@router.get("/evaluations/{run_id}")
def show_evaluation(run_id: Name, office: Desks, seat: Seated) -> Response:
    """Show everything that a run has found of its models."""
    with office.reading() as desk:
        found = desk.open_signed_here(find_evaluation(desk, run_id), Evaluation)
    return show_page(
        "evaluation.html",
        seat,
        "/console/models",
        {"evaluation": found, "seen_by_checks": SEEN_BY_CHECKS},
    )


@router.get("/audits/{run_id}")
def show_audit(run_id: Name, office: Desks, seat: Seated) -> Response:
    """Show the fairness audit of a run, and the waivers of its model version."""
    with office.reading() as desk:
        audit = desk.open_signed_here(find_audit(desk, run_id), FairnessAudit)
        waivers = list_waivers(desk, audit.name, audit.version)
        told = tell_waivers(waivers, audit.first or audit.digest, desk.now)
        content = {"audit": audit, "found": audit.found, "waivers": told}
    return show_page("audit.html", seat, "/console/models", content)
