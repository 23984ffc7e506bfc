"""Routes of the log, and the service's health."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from fedcore.bundle import LogExport
from fedcore.gateway import About
from fedcore.signing import Envelope
from fedcore.version import VERSION
from governance.bodies import EntryView, HandoverList, Health, LogEntries
from governance.exports.evidence import sign_checkpoint
from governance.routes.callers import PUBLIC, Anyone, Desks
from governance.routes.paging import LongPaged
from registry import log

router = APIRouter()


@router.get("/v1/log/checkpoint", summary="Read the log's checkpoint")
def fetch_checkpoint(office: Desks, caller: Anyone) -> Envelope:
    """Return the log's size and root, signed now."""
    with office.reading() as desk:
        return sign_checkpoint(desk, log.load_view(desk.session))


@router.get("/v1/log/entries", summary="Read the log's entries")
def list_entries(
    page: LongPaged,
    office: Desks,
    caller: Anyone,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> LogEntries:
    """Return at most `limit` entries from index `after`, or from the cursor's place, on."""
    with office.reading() as desk:
        found = log.list_entries(desk.session, page.after(after), page.limit + 1)
    shown = page.cut(found, lambda item: item.index + 1)
    return LogEntries(entries=tuple(EntryView(index=e.index, entry=e.entry) for e in shown))


@router.get(
    "/v1/log/export",
    summary="Export the whole log for an offline check",
    response_model=LogExport,
)
def export_log(office: Desks, caller: Anyone) -> Response:
    """Return all entries and the signed checkpoint, as `fedpact log verify` reads them."""
    with office.reading() as desk:
        view = log.load_view(desk.session)
        entries = log.list_entries(desk.session, 0, view.size)
        export = LogExport(
            entries=tuple(found.entry for found in entries), checkpoint=sign_checkpoint(desk, view)
        )
    return Response(export.to_bytes(), media_type="application/json")


@router.get("/v1/handovers", summary="Read how this service's keys followed", openapi_extra=PUBLIC)
def list_handovers(office: Desks) -> HandoverList:
    """Return every hand-over from one key of this service to the next, oldest first."""
    with office.reading() as desk:
        return HandoverList(handovers=desk.handovers())


@router.get("/healthz", summary="Is the service there?", openapi_extra=PUBLIC)
def healthz(office: Desks) -> Health:
    """Return the realm and the public key, after the database has answered."""
    with office.reading() as desk:
        log.list_entries(desk.session, 0, 1)
        return Health(status="ok", realm=desk.realm.value, public_key=desk.key.public)


@router.get("/v1/about", summary="Read what this service is", openapi_extra=PUBLIC)
def about(office: Desks) -> About:
    """Return versions, key, realm and clock, so that a node can find out why it is refused."""
    with office.reading() as desk:
        return About(
            version=VERSION,
            realm=desk.realm,
            public_key=desk.key.public,
            accepted_versions=desk.settings.accepted_versions,
            now=desk.now,
        )
