"""What governance holds of a unit's ledger, for a node that has lost its own."""

from fedcore.ledgers import LedgerHistory, LedgerRequest
from fedcore.permits import Permit
from fedcore.signing import Envelope, sign_record
from governance.auth import open_from_node, verify_fresh, verify_speaks_for
from governance.evaluations import plan_kind
from governance.office import Desk
from registry import bulletins, documents, permits


def load_history(desk: Desk, envelope: Envelope) -> Envelope:
    """Return everything that a unit's ledger may have been charged with, signed.

    Guarantees: each permit that ever named the unit, whatever key the unit had and whatever became
        of the permit, with its plan, to train or to evaluate by; nothing of any other unit's.
    Raises: SignatureError; RefusedError `unit.revoked`; ExpiredError; NotFoundError
        `plan.unknown`, `evaluation-plan.unknown`.
    """
    request, unit = open_from_node(desk, envelope, LedgerRequest)
    verify_speaks_for(unit, request.unit)
    verify_fresh(request.requested_at, desk.now)
    digests = permits.list_of_unit(desk.session, request.unit)
    given = documents.find_named(desk.session, Permit, digests)
    opened = [desk.open_signed_here(given[digest], Permit) for digest in digests]
    wanted = {permit.plan: plan_kind(permit) for permit in opened}
    history = LedgerHistory(
        unit=request.unit,
        nonce=request.nonce,
        permits=tuple(given[digest] for digest in digests),
        plans=tuple(desk.fetch(kind, digest) for digest, kind in wanted.items()),
        receipts=documents.first_receipts(desk.session, request.unit),
        witnessed=bulletins.find_newest_head(desk.session, request.unit),
        issued_at=desk.now,
    )
    return sign_record(history, desk.key, desk.realm)
