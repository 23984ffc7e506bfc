"""Checks of a bundle: did everything happen in its order, while permit and DPIA were in force?"""

from collections.abc import Iterator
from datetime import datetime

from fedcore.dpia_acts import force_ends_at
from fedcore.errors import ExpiredError, MismatchError
from fedcore.rounds import Receipt
from fedcore.trust import MAX_CLOCK_SKEW, verify_permit_time
from fedcore.trust_reports import verify_report_times
from fedcore.verify_documents import Documents
from fedcore.verify_rounds import answered_receipts
from fedcore.verify_runs import RunDocuments


def verify_permit_in_time(documents: RunDocuments) -> None:
    """Hold the windows of permit and renewals, and the revocation, against what was done under it.

    Raises: ExpiredError `permit.expired`, `permit.early`; MismatchError `permit.revoked`,
        `revocation.other_permit`.
    """
    permit, renewals, revocation = documents.permit, documents.renewals, documents.revocation
    moments = [moment for _, moment in _moments(documents)]
    if permit.not_before < permit.issued_at - MAX_CLOCK_SKEW:
        raise ExpiredError("permit.early", "the permit's window begins before it was issued")
    for moment in moments:
        verify_permit_time(permit, moment, renewals)
    if revocation is None:
        return
    if (revocation.permit, revocation.run_id) != (permit.digest, permit.run_id):
        raise MismatchError("revocation.other_permit", "the revocation is of another permit")
    if any(moment >= revocation.revoked_at for moment in moments):
        raise MismatchError("permit.revoked", "the permit was revoked before the run had ended")
    if documents.made_at >= revocation.revoked_at:
        raise MismatchError("permit.revoked", "the permit was revoked before the result was there")
    if any(renewal.issued_at >= revocation.revoked_at for renewal in renewals):
        raise MismatchError("permit.revoked", "the permit was renewed after it had been revoked")


def verify_dpia_in_time(documents: RunDocuments) -> None:
    """Hold the end of the DPIA's force against every round, and against the windows of the permit.

    A permit ends, at the latest, when a condition of its DPIA is due; a renewal is held against the
    DPIA's validity alone: the condition may be fulfilled by then.
    Raises: ExpiredError `dpia.expired`; MismatchError `dpia.exceeded`.
    """
    decision = documents.dpia_decision
    valid_until = min(documents.dpia.valid_until, decision.valid_until)
    for name, moment in _moments(documents):
        if moment >= valid_until:
            raise ExpiredError("dpia.expired", f"{name} is of a time at which the DPIA had ended")
    if documents.permit.expires_at > force_ends_at(valid_until, decision.acts):
        raise MismatchError("dpia.exceeded", "the permit reaches beyond the force of its DPIA")
    if any(renewal.expires_at > valid_until for renewal in documents.renewals):
        raise MismatchError("dpia.exceeded", "a renewal reaches beyond the DPIA's validity")


def verify_times(documents: Documents) -> None:
    """Hold the times of the documents against the order in which one rests on the other.

    Raises: MismatchError `report.out_of_time`, `receipt.out_of_time`, `certificate.out_of_time`,
        `model.out_of_time`.
    """
    verify_run_times(documents)
    verify_before_checkpoint(documents, documents)


def verify_before_checkpoint(run: RunDocuments, documents: Documents) -> None:
    """Hold what came of a run against the time of the log's checkpoint.

    Raises: MismatchError `model.out_of_time`.
    """
    if documents.checkpoint.issued_at < run.made_at - MAX_CLOCK_SKEW:
        raise MismatchError(
            "model.out_of_time", "the log's checkpoint is older than what came of a run"
        )


def verify_run_times(documents: RunDocuments) -> None:
    """Hold the times of a run's documents against the order in which one rests on the other.

    Raises: as `verify_times`.
    """
    for unit, certificate in documents.certificates.items():
        if certificate.issued_at > documents.permit.issued_at:
            raise MismatchError(
                "certificate.out_of_time", f"{unit} was certified after the permit that names it"
            )
    made: dict[str, list[Receipt]] = {}
    for report, receipt in answered_receipts(documents):
        made.setdefault(report.digest, []).append(receipt)
    previous = None
    for report in documents.reports:
        verify_report_times(report, made.get(report.digest, []), previous)
        previous = report
    if previous is not None and documents.made_at < previous.ended_at - MAX_CLOCK_SKEW:
        raise MismatchError("model.out_of_time", "what came of a run is older than its last round")


def _moments(documents: RunDocuments) -> Iterator[tuple[str, datetime]]:
    """Yield when each round was reported and each receipt made, with its name."""
    for report in documents.reports:
        yield f"the report of round {report.round}, attempt {report.attempt}", report.ended_at
    for receipt in documents.receipts:
        yield f"the receipt of {receipt.unit} in round {receipt.round}", receipt.answered_at
