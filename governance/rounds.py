"""Round reports with their receipts, and the log positions that nodes cosign."""

from collections.abc import Sequence

from fedcore.errors import MismatchError, RefusedError
from fedcore.permits import Permit
from fedcore.rounds import Cosignature, Receipt, RoundReport
from fedcore.signing import Envelope, open_envelope
from fedcore.trust import verify_not_forked, verify_permit_time
from governance.auth import open_from_node, verify_not_future, verify_speaks_for
from governance.decisions.rounds import verify_round
from governance.evaluations import open_charged
from governance.office import Desk
from governance.permits import find_permit, load_renewals
from registry import cosignatures, documents, enforcement, log
from registry.accounts import Account


def submit_round(
    desk: Desk, envelope: Envelope, receipts: Sequence[Envelope], operator: Account
) -> None:
    """Record a report and its receipts; the same report again changes nothing.

    Guarantees: recorded whole or not at all, only under a permit that is valid now, as it stands or
        renewed, and was so when the report and its receipts were made; signed by its server and by
        the nodes of its cohort.
    Raises: NotFoundError `permit.unknown`; RefusedError `permit.revoked`; ExpiredError;
        SignatureError; MismatchError as `verify_round`.
    """
    report = open_envelope(envelope, RoundReport, operator.public_key or "", desk.realm)
    if documents.find(desk.session, RoundReport, report.digest) is not None:
        return
    stored = find_permit(desk, report.run_id)
    permit = desk.open_own(Permit, stored.permit)
    if permit.server_key != envelope.signer:
        raise MismatchError("permit.other_server", "the permit names another server's key")
    if stored.revocation is not None:
        reason = "The permit was revoked: the run is over; request a permit for a new one."
        raise RefusedError([("permit.revoked", reason)])
    verify_not_future(report.ended_at, desk.now)
    plan = open_charged(desk, permit)
    opened = [_open_receipt(desk, item, permit) for item in receipts]
    renewals = load_renewals(desk, report.run_id)
    for moment in (desk.now, report.ended_at, *(receipt.answered_at for receipt in opened)):
        verify_permit_time(permit, moment, renewals)
    verify_round(report, opened, permit, plan, load_reports(desk, permit))
    for receipt, item in zip(opened, receipts, strict=True):
        if not desk.file(receipt, item, unit=receipt.unit, run_id=report.run_id):
            raise MismatchError("receipt.surplus", "a receipt was used in another round already")
    enforcement.file_receipts(desk.session, opened, permit)
    desk.file(report, envelope, run_id=report.run_id)


def load_reports(desk: Desk, permit: Permit) -> tuple[RoundReport, ...]:
    """Return the recorded reports of a run in order."""
    envelopes = documents.of_run(desk.session, RoundReport, permit.run_id)
    return tuple(
        open_envelope(envelope, RoundReport, permit.server_key, desk.realm)
        for envelope in envelopes
    )


def submit_cosignatures(desk: Desk, envelopes: Sequence[Envelope]) -> None:
    """Record nodes' cosignatures.

    Raises: SignatureError; ExpiredError `request.from_future`; RollbackError `log.rollback` for a
        position that this log never had; MismatchError `log.forked`.
    """
    view = log.load_view(desk.session)
    for envelope in envelopes:
        record, unit = open_from_node(desk, envelope, Cosignature)
        verify_speaks_for(unit, record.unit)
        verify_not_future(record.seen_at, desk.now)
        verify_not_forked(record.log, view.position(record.log.size))
        cosignatures.append(desk.session, record, envelope, desk.now)


def _open_receipt(desk: Desk, envelope: Envelope, permit: Permit) -> Receipt:
    receipt, unit = open_from_node(desk, envelope, Receipt)
    verify_speaks_for(unit, receipt.unit)
    grant = permit.grant(receipt.unit)
    if grant is None or grant.node_key != envelope.signer:
        raise MismatchError("permit.other_node", "a receipt is of a node outside of the permit")
    return receipt
