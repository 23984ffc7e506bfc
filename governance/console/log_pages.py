"""Pages of the log: its checkpoint, its entries, and the proof that an entry is in it."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from fedcore import merkle
from fedcore.errors import NotFoundError
from fedcore.models import Checkpoint
from fedcore.rounds import Cosignature
from fedcore.signing import open_envelope
from governance.console.rim import ConsoleRoute, show_page
from governance.console.seats import Desks, Seated
from governance.exports.evidence import sign_checkpoint
from registry import cosignatures, log

PAGE_SIZE = 50
_LAST = 2**31 - 1

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@router.get("/log")
def show_log(
    office: Desks, seat: Seated, before: Annotated[int, Query(ge=1, le=_LAST)] = _LAST
) -> Response:
    """Show the signed checkpoint, who has cosigned the log, and its entries, the newest first."""
    with office.reading() as desk:
        view = log.load_view(desk.session)
        signed = sign_checkpoint(desk, view)
        end = min(before, view.size)
        start = max(end - PAGE_SIZE, 0)
        content = {
            "checkpoint": desk.open_signed_here(signed, Checkpoint),
            "signer": signed.signer,
            "signature": signed.signatures[0].sig,
            "witnesses": [
                open_envelope(envelope, Cosignature, envelope.signer, desk.realm)
                for envelope in cosignatures.list_newest(desk.session, view.size)
            ],
            "entries": log.list_entries(desk.session, start, end - start)[::-1],
            "older": start or None,
        }
    return show_page("log.html", seat, "/console/log", content)


@router.get("/log/{index}")
def show_entry(
    index: Annotated[int, Path(ge=0, le=_LAST)], office: Desks, seat: Seated
) -> Response:
    """Show an entry, and the way from its leaf to the root, walked once more for this page."""
    with office.reading() as desk:
        view = log.load_view(desk.session)
        if index >= view.size:
            raise NotFoundError("log.index_invalid", f"the log has no entry {index}")
        [found] = log.list_entries(desk.session, index, 1)
        position, proof = view.position(), view.inclusion(index)
    leaf = merkle.leaf_hash(found.entry.to_bytes())
    nodes = [bytes.fromhex(node) for node in proof]
    merkle.verify_inclusion(leaf, index, position.size, nodes, bytes.fromhex(position.root))
    content = {"found": found, "leaf": leaf.hex(), "proof": proof, "position": position}
    return show_page("log_entry.html", seat, "/console/log", content)
