"""May this round report be recorded? Permit, plan, earlier reports and answers must agree."""

from collections.abc import Mapping, Sequence

from fedcore.early_stopping import Standing, standing_after, verify_gains, verify_released
from fedcore.errors import MismatchError
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.rounds import Receipt, RoundReport
from fedcore.trust import verify_receipt_terms
from fedcore.trust_reports import (
    ends_run,
    verify_report_chain,
    verify_report_status,
    verify_report_times,
    verify_report_units,
)
from governance.decisions.facts import AnyPlan


def verify_round(
    report: RoundReport,
    receipts: Sequence[Receipt],
    permit: Permit,
    plan: AnyPlan,
    earlier: Sequence[RoundReport],
) -> None:
    """Hold a report and its receipts against the permit, the plan and the run's earlier reports.

    Guarantees: one receipt for each answer and none besides, each under the permit's terms; the
        report follows the last one, also in time, and counts every unit of the cohort once, as one
        that answered or was unavailable; a training's checks follow its plan, and it ends when
        they say; an evaluation hands on the model that it was about.
    Raises: MismatchError `report.other_run`, `report.rounds_exceeded`, `report.other_cohort`,
        `report.model_changed`, and as `verify_report_status`, `verify_report_chain`,
        `verify_report_times`, `verify_receipt_terms`, `verify_answers`, `verify_gains` and
        `verify_released`.
    """
    previous = earlier[-1] if earlier else None
    _verify_within_permit(report, permit, earlier)
    verify_report_chain(report, previous, plan.initial_model)
    verify_answers(report, receipts)
    verify_report_times(report, receipts, previous)
    for receipt in receipts:
        verify_receipt_terms(receipt, permit, plan)
    if not isinstance(plan, TrainingPlan):
        _verify_unchanged(report, receipts)
        return
    standing = Standing(plan.initial_model)
    for one in earlier:
        standing = standing_after(plan, standing, one)
    verify_gains(plan, standing, report, receipts)
    verify_released(plan, standing_after(plan, standing, report), report)


def is_finished(reports: Sequence[RoundReport], permit: Permit) -> bool:
    """Return whether the last of a run's reports ends it: nothing more can follow."""
    return bool(reports) and ends_run(reports[-1], permit)


def rounds_told(plan: TrainingPlan | None, reports: Sequence[RoundReport]) -> str:
    """Return how many rounds a run had, and whether a check has ended it, in words."""
    accepted = sum(report.status == "accepted" for report in reports)
    told = f"{accepted} accepted, {len(reports) - accepted} void"
    if plan is None or not any(r.released and r.round < plan.rounds for r in reports):
        return told
    return f"{told}; a check has ended the training, of at most {plan.rounds}"


def verify_answers(report: RoundReport, receipts: Sequence[Receipt]) -> None:
    """Hold the receipts against the answers that the report counts.

    Raises: MismatchError `receipt.missing`, `receipt.surplus`, `receipt.report_differs`.
    """
    by_digest: Mapping[str, Receipt] = {receipt.digest: receipt for receipt in receipts}
    for answer in report.answered:
        receipt = by_digest.get(answer.receipt)
        if receipt is None:
            raise MismatchError("receipt.missing", f"the answer of {answer.unit} has no receipt")
        told = (receipt.unit, receipt.round, receipt.attempt, receipt.model_in, receipt.update)
        if told != (answer.unit, report.round, report.attempt, report.model_in, answer.update):
            raise MismatchError(
                "receipt.report_differs", f"the receipt of {answer.unit} differs from the report"
            )
    if len(receipts) != len(report.answered):
        raise MismatchError("receipt.surplus", "a receipt belongs to no answer of this report")


def _verify_unchanged(report: RoundReport, receipts: Sequence[Receipt]) -> None:
    if report.model_out != report.model_in:
        raise MismatchError("report.model_changed", "an evaluation makes no other model")
    if report.released is not None:
        raise MismatchError("report.released_early", "an evaluation releases no model")
    checked = (*(answer.gain for answer in report.answered), *(r.compared for r in receipts))
    if any(each is not None for each in checked):
        raise MismatchError("report.check_differs", "an evaluation has no checks")


def _verify_within_permit(
    report: RoundReport, permit: Permit, earlier: Sequence[RoundReport]
) -> None:
    if (report.run_id, report.realm) != (permit.run_id, permit.realm):
        raise MismatchError("report.other_run", "the report is of another run or realm")
    if (
        report.round > permit.rounds
        or report.attempt > permit.attempts
        or len(earlier) >= permit.exchanges
        or is_finished(earlier, permit)
    ):
        raise MismatchError(
            "report.rounds_exceeded", "the run has ended, or the permit allows fewer attempts"
        )
    verify_report_units(report, permit)
    verify_report_status(report, permit)
