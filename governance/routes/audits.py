"""Routes of fairness audits, and of the waivers beside them."""

from fastapi import APIRouter
from starlette.status import HTTP_201_CREATED

from fedcore.audit_lists import AuditList, AuditTables, WaiverList, WaiverRequest, WaiverView
from fedcore.fairness_audits import Waiver
from fedcore.record import Name
from fedcore.signing import Envelope
from governance import audits, waivers
from governance.models import find_model
from governance.routes.callers import (
    OWN_UNIT,
    Anyone,
    Desks,
    House,
    ModelApprover,
    Overseer,
)
from governance.routes.decisions import Placed
from governance.routes.once import Once
from governance.routes.paging import Paged
from registry import audits as stored_audits
from registry import documents

router = APIRouter(prefix="/v1")


@router.get("/audits", summary="List the fairness audits", openapi_extra=OWN_UNIT)
def list_audits(page: Paged, office: Desks, caller: Anyone) -> AuditList:
    """Return all fairness audits in the order in which they were derived, each bound with its
    widest gap: over the versions of a model that is a trend.
    """
    with office.reading() as desk:
        found = stored_audits.list_after(
            desk.session, page.after(0), page.limit + 1, of_unit=caller.unit
        )
        shown = [item for _, item in page.cut(found, lambda pair: pair[0])]
        return AuditList(audits=audits.summarise(desk, shown))


@router.get("/audits/{run_id}", summary="Read a fairness audit")
def fetch_audit(run_id: Name, office: Desks, caller: House) -> Envelope:
    """Return what is claimed of the fairness of the first model of a run, signed. It is for the
    house: of two units, each could subtract its own counts from the groups' and have the other's.
    """
    with office.reading() as desk:
        return audits.find_audit(desk, run_id)


@router.get("/audits/{run_id}/tables", summary="Read the tables of a fairness audit")
def fetch_audit_tables(run_id: Name, office: Desks, caller: Overseer) -> AuditTables:
    """Return the units' noised tables, as the server signed them: whoever has them derives the
    audit again, and what other thresholds would do.
    """
    with office.reading() as desk:
        return AuditTables(tables=audits.find_tables(desk, run_id))


@router.post(
    "/models/{name}/{version}/waivers",
    summary="Waive the fairness audit of a model version",
    status_code=HTTP_201_CREATED,
)
def waive_audit(
    place: Placed, body: WaiverRequest, office: Desks, caller: ModelApprover, once: Once
) -> Envelope:
    """Return the signed waiver of the caller, or of both when they join that of another person."""
    with office.writing() as desk:
        return once.answer(
            desk,
            caller,
            Envelope,
            lambda: waivers.waive(desk, (place.name, place.version), body, caller),
        )


@router.get("/models/{name}/{version}/waivers", summary="Read the waivers of a model version")
def list_waivers(place: Placed, office: Desks, caller: House) -> WaiverList:
    """Return all waivers of a model version, oldest first."""
    with office.reading() as desk:
        find_model(desk, place.name, place.version)
        digests = stored_audits.list_waivers(desk.session, place.name, place.version)
        found = documents.find_named(desk.session, Waiver, digests)
    return WaiverList(
        waivers=tuple(WaiverView(document=each, envelope=found[each]) for each in digests)
    )
