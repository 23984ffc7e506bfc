"""Checks of a bundle: do reports and receipts tell one story that ends with this very model?"""

from collections.abc import Iterator

import safetensors

from fedcore import canonical
from fedcore.early_stopping import Standing, is_over, standing_after, verify_gains
from fedcore.errors import MismatchError
from fedcore.model_signatures import verify_model_signature
from fedcore.plans import TrainingPlan
from fedcore.rounds import Receipt, RoundReport
from fedcore.trust import verify_receipt_terms
from fedcore.trust_reports import (
    verify_report_chain,
    verify_report_status,
    verify_report_units,
)
from fedcore.verify_documents import Documents
from fedcore.verify_runs import RunDocuments


def verify_chain(documents: Documents) -> None:
    """Hold the reports against each other, the public initial model and the permit's rounds.

    Raises: MismatchError `report.chain_broken`, `report.other_run`, `report.rounds_incomplete`,
        `model.reports_differ`.
    """
    verify_chained(documents)
    if documents.model_version.round_reports != tuple(item.digest for item in documents.reports):
        raise MismatchError("model.reports_differ", "the model names other round reports")


def verify_chained(documents: RunDocuments) -> None:
    """Hold the reports of a run against each other, its first model and the permit's rounds.

    Raises: MismatchError `report.chain_broken`, `report.other_run`, `report.rounds_incomplete`.
    """
    permit, previous = documents.permit, None
    for report in documents.reports:
        if report.run_id != permit.run_id:
            raise MismatchError("report.other_run", "a round report is of another run")
        verify_report_chain(report, previous, documents.plan.initial_model)
        previous = report
    accepted = [report.round for report in documents.reports if report.status == "accepted"]
    if accepted != list(range(1, _rounds_due(documents) + 1)) or previous is None:
        raise MismatchError("report.rounds_incomplete", "not every round was accepted once")
    if previous.status != "accepted":
        raise MismatchError("report.rounds_incomplete", "the last report is of a void round")


def _rounds_due(documents: RunDocuments) -> int:
    """Return how many rounds were to be accepted: all, or those up to the check that ended it."""
    plan = documents.plan
    if isinstance(plan, TrainingPlan):
        standing = Standing(plan.initial_model)
        for report in documents.reports:
            standing = standing_after(plan, standing, report)
            if is_over(plan, standing, report) and report.round < plan.rounds:
                return report.round
    return documents.permit.rounds


def verify_cohort(documents: RunDocuments) -> None:
    """Hold the answers and tries of each round against what the permit allows.

    Guarantees: a report is accepted exactly when enough units answered, so that nobody who saw the
        noise of a round could have it drawn again.
    Raises: MismatchError `report.too_few_answers`, `report.void_though_enough`,
        `report.other_cohort`, `report.attempts_exceeded`.
    """
    permit = documents.permit
    if len(documents.reports) > permit.exchanges:
        raise MismatchError("report.attempts_exceeded", "the run had more exchanges than permitted")
    for report in documents.reports:
        verify_report_units(report, permit)
        verify_report_status(report, permit)
        if report.attempt > permit.attempts:
            raise MismatchError(
                "report.attempts_exceeded", f"{_named(report)} is a try more than permitted"
            )


def verify_artifact(documents: Documents) -> None:
    """Hold the model's bytes against the last report and the model version.

    Raises: MismatchError `artifact.differs`, `artifact.not_safetensors`, `report.released_early`.
    """
    model, artifact = documents.model_version, documents.evidence.artifact
    digest = canonical.digest(artifact)
    released = [report.released for report in documents.reports]
    if any(item is not None for item in released[:-1]):
        raise MismatchError("report.released_early", "a model was released before the last round")
    if released[-1:] != [digest] or model.artifact != digest:
        raise MismatchError(
            "artifact.differs",
            "model.safetensors is not the model that the last round released and governance signed",
        )
    if model.artifact_bytes != len(artifact):
        raise MismatchError("artifact.differs", "model.safetensors has another size than signed")
    try:
        safetensors.deserialize(artifact)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise MismatchError(
            "artifact.not_safetensors", "model.safetensors is not a plain file of tensors"
        ) from error


def verify_artifact_signed(documents: Documents) -> None:
    """Hold the OpenSSF signature against the model and the key that governance states.

    Raises: MismatchError `artifact.signature_invalid`, `artifact.other_key`, `artifact.not_signed`.
    """
    stated, signed = documents.model_key, documents.evidence.signed_model
    if signed is None or stated.public_key.encode() != signed.public_key:
        raise MismatchError(
            "artifact.other_key", "model-key.pem is not the key that governance states"
        )
    verify_model_signature(documents.evidence.artifact, signed.signature, stated.public_key)


def verify_receipts_complete(documents: Documents) -> None:
    """Hold the receipts against the answers: one for each, none besides.

    Raises: MismatchError `receipt.missing`, `receipt.surplus`, `model.receipts_differ`.
    """
    verify_answers_receipted(documents)
    found = [envelope.digest for envelope in documents.evidence.receipts]
    if sorted(documents.model_version.receipts) != sorted(found):
        raise MismatchError("model.receipts_differ", "the model names other receipts")


def verify_answers_receipted(documents: RunDocuments) -> None:
    """Hold the receipts of a run against the answers: one for each, none besides.

    Raises: MismatchError `receipt.missing`, `receipt.surplus`.
    """
    answers = [answer.receipt for report in documents.reports for answer in report.answered]
    found = [envelope.digest for envelope in documents.papers.receipts]
    missing = set(answers) - set(found)
    if missing:
        raise MismatchError("receipt.missing", f"{len(missing)} answers have no receipt")
    if sorted(answers) != sorted(found):
        raise MismatchError("receipt.surplus", "a receipt belongs to no answer, or to two")


def verify_receipts_fit(documents: RunDocuments) -> None:
    """Hold each receipt against permit and plan, and against the report that it answers in.

    Raises: MismatchError as `trust.verify_receipt_terms` and `verify_gains`, and
        `receipt.report_differs`.
    """
    for receipt in documents.receipts:
        verify_receipt_terms(receipt, documents.permit, documents.plan)
    for report, receipt in answered_receipts(documents):
        update = next(item.update for item in report.answered if item.unit == receipt.unit)
        if (receipt.round, receipt.attempt, receipt.model_in, receipt.update) != (
            report.round,
            report.attempt,
            report.model_in,
            update,
        ):
            raise MismatchError(
                "receipt.report_differs",
                f"the receipt of {receipt.unit} tells {_named(report)} differently than its report",
            )
    _verify_checks(documents)


def _verify_checks(documents: RunDocuments) -> None:
    plan = documents.plan
    if not isinstance(plan, TrainingPlan):
        gains = [answer.gain for report in documents.reports for answer in report.answered]
        if any(each is not None for each in (*gains, *(r.compared for r in documents.receipts))):
            raise MismatchError("report.check_differs", "an evaluation has no checks")
        return
    standing = Standing(plan.initial_model)
    for report in documents.reports:
        receipts = [documents.receipt_of_digest[answer.receipt] for answer in report.answered]
        verify_gains(plan, standing, report, receipts)
        standing = standing_after(plan, standing, report)


def verify_opt_outs(documents: RunDocuments) -> None:
    """Hold the applied opt-out epochs of a run against its permit and what governance states.

    Guarantees: at each unit they rise from round to round, as do those of its bulletins.
    Raises: MismatchError `receipt.opt_outs_missing`, `receipt.opt_outs_forgotten`,
        `model.opt_outs_differ`.
    """
    lowest: dict[str, int] = {}
    newest: dict[str, int] = {}
    for report, receipt in answered_receipts(documents):
        if receipt.applied_epoch < documents.permit.min_opt_out_epoch:
            raise MismatchError(
                "receipt.opt_outs_missing", f"{receipt.unit} had applied too few opt-outs"
            )
        if receipt.applied_epoch < newest.get(receipt.unit, 0):
            raise MismatchError(
                "receipt.opt_outs_forgotten",
                f"{receipt.unit} had applied fewer opt-outs in {_named(report)} than before",
            )
        newest[receipt.unit] = receipt.applied_epoch
        if report.status == "accepted":
            before = lowest.get(receipt.unit, receipt.applied_epoch)
            lowest[receipt.unit] = min(before, receipt.applied_epoch)
    stated = [(item.unit, item.epoch) for item in documents.stated_epochs]
    if sorted(stated) != sorted(lowest.items()):
        raise MismatchError(
            "model.opt_outs_differ", "governance states other opt-out epochs than the receipts"
        )


def verify_ledgers(documents: RunDocuments) -> None:
    """Hold the order of each unit's receipts against its ledger.

    Raises: MismatchError `receipt.ledger_not_rising`, `receipt.order_repeated`.
    """
    newest: dict[str, int] = {}
    for _, receipt in answered_receipts(documents):
        if receipt.ledger_sequence <= newest.get(receipt.unit, -1):
            raise MismatchError(
                "receipt.ledger_not_rising",
                f"the ledger of {receipt.unit} went back or stood still",
            )
        newest[receipt.unit] = receipt.ledger_sequence
    if len({receipt.order for receipt in documents.receipts}) != len(documents.receipts):
        raise MismatchError("receipt.order_repeated", "two receipts answer one order")


def answered_receipts(documents: RunDocuments) -> Iterator[tuple[RoundReport, Receipt]]:
    """Yield each report's receipts in the order of the chain.

    Raises: MismatchError `receipt.missing`, `receipt.report_differs`.
    """
    for report in documents.reports:
        for answer in report.answered:
            receipt = documents.receipt_of_digest.get(answer.receipt)
            if receipt is None:
                raise MismatchError("receipt.missing", f"an answer of {answer.unit} has no receipt")
            if receipt.unit != answer.unit:
                raise MismatchError(
                    "receipt.report_differs", f"a receipt is counted for {answer.unit} falsely"
                )
            yield report, receipt


def _named(report: RoundReport) -> str:
    return f"round {report.round}, attempt {report.attempt}"
