"""Waivers: two named people answer for a version that its fairness audit does not pass."""

from fedcore.audit_lists import WaiverRequest
from fedcore.errors import InvalidRecordError, NotFoundError, RefusedError
from fedcore.fairness_audits import Waiver
from fedcore.models import ModelVersion
from fedcore.signing import Envelope
from governance.audits import UNKNOWN, find_deciding, list_waivers
from governance.decisions.waivers import WaiverWish, list_reasons_against_waiver
from governance.models import find_model
from governance.office import Desk
from governance.promotion_facts import load_lineage
from registry import audits
from registry.accounts import Account


def waive(desk: Desk, place: tuple[str, int], request: WaiverRequest, account: Account) -> Envelope:
    """Sign and store a person's waiver, or that of both when they join another one's.

    Guarantees: never of who wrote the plan of the version's training; only two distinct people
        count at the gate, which asks for both.
    Raises: NotFoundError `model.unknown`, `audit.unknown`, `waiver.unknown`; RefusedError with
        every reason of `list_reasons_against_waiver`.
    """
    name, version = place
    stored = find_model(desk, name, version)
    audit = find_deciding(desk, name, version)
    if audit is None:
        raise NotFoundError(*UNKNOWN)
    known = list_waivers(desk, name, version)
    joined = _joined(known, request.joins)
    expires_at = request.expires_at if joined is None else joined.expires_at
    reason = request.reason if joined is None else joined.reason
    if expires_at is None or reason is None or not reason.strip():
        raise InvalidRecordError("record.invalid", "reason, expires_at: a new waiver has both")
    lineage = load_lineage(desk, desk.open_own(ModelVersion, stored.document))
    wish = WaiverWish(account.name, lineage.author, request.audit, audit, expires_at, joined)
    reasons = list_reasons_against_waiver(wish, desk.now)
    if reasons:
        raise RefusedError(reasons)
    waiver = Waiver(
        name=name,
        version=version,
        number=len(known) + 1,
        audit=audit.digest,
        people=(*(joined.people if joined else ()), account.name),
        reason=reason,
        expires_at=expires_at,
        joins=None if joined is None else joined.digest,
        waived_at=desk.now,
    )
    envelope = desk.issue(waiver, run_id=stored.run_id)
    audits.append_waiver(desk.session, waiver)
    return envelope


def _joined(known: tuple[Waiver, ...], digest: str | None) -> Waiver | None:
    if digest is None:
        return None
    for waiver in known:
        if waiver.digest == digest:
            return waiver
    raise NotFoundError("waiver.unknown", "the version has no waiver with this digest")
