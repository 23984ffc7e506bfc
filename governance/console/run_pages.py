"""Pages of what runs: permits, refusals, and whether opt-outs have reached the units."""

import json
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response

from fedcore.permits import Permit, Revocation
from fedcore.record import Name
from fedcore.rounds import Receipt, RoundReport
from fedcore.signing import open_envelope
from governance.console.rim import ConsoleRoute, show_page
from governance.console.seats import OVERSEERS, Desks, Overseeing, Seated
from governance.enforcement import opt_out_sla
from governance.office import Desk
from governance.permits import find_permit, load_renewals
from registry import documents, evaluations, models, notices, optouts, overviews, permits, units
from registry.overviews import BulletinSummary, OptOutCount

PAGE_SIZE = 50
_LAST = 2**31 - 1

Before = Annotated[int, Query(ge=1, le=_LAST)]
router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@dataclass(frozen=True)
class TrainedWith:
    """The newest training of a unit, and the newest opt-out that it had applied, where known."""

    receipt: Receipt
    last_sequence: int | None


@dataclass(frozen=True)
class OptOutStatus:
    """How far the opt-outs of a unit have come. Nobody is named, by whatever pseudonym."""

    unit: str
    takes_part: bool
    known: OptOutCount | None
    bulletin: BulletinSummary | None
    trained: TrainedWith | None
    waiting_s: float | None

    @property
    def missing_in_training(self) -> int | None:
        """How many opt-outs the newest training had not applied, or None when none is known."""
        if self.trained is None or self.trained.last_sequence is None:
            return None
        return (self.known.last_sequence if self.known else 0) - self.trained.last_sequence


@router.get("/runs")
def list_runs(office: Desks, seat: Seated, before: Before = _LAST) -> Response:
    """Show the runs that have or had a permit, the newest first."""
    with office.reading() as desk:
        runs = overviews.list_runs(desk.session, before, PAGE_SIZE)
        cohorts = overviews.list_cohorts(desk.session, tuple(run.run_id for run in runs))
    older = runs[-1].place if len(runs) == PAGE_SIZE else None
    content = {"runs": runs, "cohorts": cohorts, "older": older}
    return show_page("runs.html", seat, "/console/runs", content)


@router.get("/runs/{run_id}")
def show_run(run_id: Name, office: Desks, seat: Seated) -> Response:
    """Show a run's permit, its rounds, and, to those who may read it, what the gate answered."""
    overseen = seat.account.role in OVERSEERS
    with office.reading() as desk:
        stored = find_permit(desk, run_id)
        permit = desk.open_own(Permit, stored.permit)
        revocation = desk.open_own(Revocation, stored.revocation) if stored.revocation else None
        renewals = load_renewals(desk, run_id)
        ends = max([permit.expires_at, *(renewal.expires_at for renewal in renewals)])
        content = {
            "permit": permit,
            "digest": stored.permit,
            "revocation": revocation,
            "ends": ends,
            "expired": desk.now >= ends,
            "renewals": renewals,
            "rounds": [
                open_envelope(envelope, RoundReport, envelope.signer, desk.realm)
                for envelope in documents.of_run(desk.session, RoundReport, run_id)
            ],
            "decisions": _decisions(desk, run_id) if overseen else None,
            "model": models.find_of_run(desk.session, run_id),
            "is_evaluated": evaluations.find_document(desk.session, run_id) is not None,
        }
    return show_page("run.html", seat, "/console/runs", content)


def _decisions(desk: Desk, run_id: str) -> list[permits.GateDecision]:
    return [decision for _, decision in permits.list_decisions(desk.session, run_id)]


@router.get("/refusals")
def list_refusals(office: Desks, seat: Overseeing, before: Before = _LAST) -> Response:
    """Show which runs the gate refused and why, the newest first."""
    with office.reading() as desk:
        refusals = overviews.list_refusals(desk.session, before, PAGE_SIZE)
    older = refusals[-1].place if len(refusals) == PAGE_SIZE else None
    content = {"refusals": [(item, json.loads(item.codes)) for item in refusals], "older": older}
    return show_page("refusals.html", seat, "/console/refusals", content)


@router.get("/opt-outs")
def show_opt_outs(office: Desks, seat: Overseeing) -> Response:
    """Show how far each unit's opt-outs have come."""
    with office.reading() as desk:
        known = overviews.count_opt_outs(desk.session)
        newest = overviews.newest_bulletins(desk.session)
        trained = _trained(desk)
        waiting = _waiting(desk)
        statuses = [
            OptOutStatus(
                unit.unit,
                unit.revocation is None,
                known.get(unit.unit),
                newest.get(unit.unit),
                trained.get(unit.unit),
                waiting.get(unit.unit),
            )
            for unit in units.list_after(desk.session, "", _LAST)
        ]
        sla_s = opt_out_sla(desk.settings).total_seconds()
    content = {"statuses": statuses, "sla_s": sla_s}
    return show_page("opt_outs.html", seat, "/console/opt-outs", content)


def _waiting(desk: Desk) -> dict[str, float]:
    """Return how long each unit's oldest opt-out that no bulletin has held has waited."""
    found: dict[str, float] = {}
    for contact in notices.list_contacts(desk.session):
        if contact.pending_sequence is not None:
            [pending] = optouts.find_events(
                desk.session, contact.unit, {contact.pending_sequence}
            ).values()
            waited = (desk.now - pending.event.received_at).total_seconds()
            found[contact.unit] = max(waited, 0.0)
    return found


def _trained(desk: Desk) -> dict[str, TrainedWith]:
    receipts = [
        open_envelope(envelope, Receipt, envelope.signer, desk.realm)
        for envelope in overviews.newest_receipts(desk.session)
    ]
    used = overviews.find_bulletins(desk.session, tuple(item.bulletin for item in receipts))
    return {
        item.unit: TrainedWith(
            item, used[item.bulletin].last_sequence if item.bulletin in used else None
        )
        for item in receipts
    }
