"""Personal data in logged documents, erased on request; the log stays whole and says so."""

from fedcore.dpias import DpiaDecision
from fedcore.errors import ConflictError, NotFoundError, RefusedError
from fedcore.models import Erasure
from fedcore.signing import Envelope
from governance.decisions.dpia_standing import FINAL_STATES
from governance.dpias import find_dpia, state_now
from governance.office import Desk
from registry import documents, dpias, log, permits

# Papers of people, which the service can do without once they are superseded. Everything else is
# evidence of what was done with customers' data, and says nothing about a person but a key. A DPIA
# and the decisions on it become evidence with the first permit.
ERASABLE = frozenset({"dpia", "dpia-decision", "enrolment", "key-rotation", "leave"})


def erase_document(desk: Desk, digest: str, reason: str) -> Envelope:
    """Destroy a document, its digest and its salt in the log, and return the signed erasure.

    Guarantees: all of it or nothing; the erasure is logged; every checkpoint and proof of before
        still holds; of a DPIA, the acts and what they say go with it.
    Raises: NotFoundError `document.unknown`; RefusedError `document.not_erasable`,
        `document.carried_permits`; ConflictError `document.in_use`.
    """
    found = log.find_entry(desk.session, digest)
    if found is None:
        raise NotFoundError("document.unknown", "there is no document with this digest in the log")
    if found.entry.kind not in ERASABLE:
        raise RefusedError(
            [("document.not_erasable", f"a {found.entry.kind} is evidence and cannot be erased")]
        )
    if found.entry.kind == "dpia-decision":
        _verify_no_permit_rests_on(desk, digest)
    if found.entry.kind == "dpia":
        _erase_dpia(desk, digest)
    documents.erase(desk.session, digest)
    erasure: Erasure = log.erase(desk.session, found, reason, desk.now)
    return desk.issue(erasure)


def _verify_no_permit_rests_on(desk: Desk, digest: str) -> None:
    decision = desk.open_own(DpiaDecision, digest)
    dpia = dpias.find(desk.session, decision.dpia)
    if permits.any_under(desk.session, decision.dpia) or (dpia and dpia.decision == digest):
        raise ConflictError(
            "document.in_use", "the DPIA stands by this decision, or a permit was given under it"
        )


def _erase_dpia(desk: Desk, digest: str) -> None:
    """Take out a version that is over and never carried a permit."""
    if permits.any_under(desk.session, digest):
        raise RefusedError(
            [
                (
                    "document.carried_permits",
                    "permits were given under this DPIA: it is evidence (Art. 17(3)(b), (e) GDPR)",
                )
            ]
        )
    state = state_now(desk, find_dpia(desk, digest))
    if state not in FINAL_STATES and state != "expired":
        raise ConflictError(
            "document.in_use", f"the DPIA is {state}: withdraw it, or supersede it, first"
        )
    dpias.erase(desk.session, digest)
