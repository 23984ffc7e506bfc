"""Routes of the log, and the service's health."""

from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from fedcore.gateway import About
from fedcore.record import Digest
from fedcore.signing import Envelope
from fedcore.version import VERSION
from governance.bodies import EntryView, HandoverList, Health, LogEntries
from governance.erasures import erase_document
from governance.exports.evidence import prove_logged, sign_checkpoint
from governance.exports.log_export import export_log as exported_lines
from governance.log_bodies import ConsistencyProof, ErasureRequest, LogProof
from governance.routes.callers import NO_UNIT, PUBLIC, Anyone, Desks, House, Revoker
from governance.routes.paging import LongPaged
from registry import log

_CHUNK_BYTES = 256 * 1024

router = APIRouter()


@router.get("/v1/log/checkpoint", summary="Read the log's checkpoint", openapi_extra=NO_UNIT)
def fetch_checkpoint(office: Desks, caller: Anyone) -> Envelope:
    """Return the log's size and root, signed now."""
    with office.reading() as desk:
        return sign_checkpoint(desk, log.load_view(desk.session))


@router.get("/v1/log/entries", summary="Read the log's entries")
def list_entries(
    page: LongPaged,
    office: Desks,
    caller: House,
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
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}}},
)
def export_log(office: Desks, caller: House) -> StreamingResponse:
    """Return all entries and what was signed about them, as `fedpact log verify` reads it.

    The lines (`log-export/2`) are gathered on the disk before the first one is sent: no transaction
    waits for the caller.
    """
    with ExitStack() as until_done:
        gathered = until_done.enter_context(TemporaryFile())
        with office.reading() as desk:
            gathered.writelines(exported_lines(desk))
        gathered.seek(0)
        until_done.pop_all()
    return StreamingResponse(_chunks(gathered), media_type="application/jsonl")


@router.get(
    "/v1/log/proof", summary="Read the proof that a document is in the log", openapi_extra=NO_UNIT
)
def prove_inclusion(
    office: Desks, caller: Anyone, document: Annotated[Digest, Query()]
) -> LogProof:
    """Return a document's entry, its place, the proof, and the signed checkpoint that it is for."""
    with office.reading() as desk:
        view = log.load_view(desk.session)
        logged = prove_logged(desk, document, view)
        return LogProof(logged=logged, checkpoint=sign_checkpoint(desk, view))


@router.get(
    "/v1/log/consistency",
    summary="Read the proof that the log continues an older one",
    openapi_extra=NO_UNIT,
)
def prove_consistency(
    office: Desks, caller: Anyone, size: Annotated[int, Query(ge=0, le=2**31 - 1)]
) -> ConsistencyProof:
    """Return the proof from the log's first `size` entries to the signed checkpoint beside it."""
    with office.reading() as desk:
        view = log.load_view(desk.session)
        proof = view.consistency(size)
        return ConsistencyProof(consistency=proof, checkpoint=sign_checkpoint(desk, view))


@router.post("/v1/log/erasures", summary="Erase a document and its log entry", status_code=201)
def erase(body: ErasureRequest, office: Desks, caller: Revoker) -> Envelope:
    """Destroy a document, its digest and its salt; the leaf stays, and the log says who asked."""
    with office.writing() as desk:
        return erase_document(desk, body.document, body.reason)


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


def _chunks(gathered: IO[bytes]) -> Iterator[bytes]:
    with gathered:
        yield from iter(lambda: gathered.read(_CHUNK_BYTES), b"")
