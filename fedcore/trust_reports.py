"""Pure rules of round reports: may this one follow those before it?

Reports form one chain: each names its predecessor, and starts from the model that it ended with;
each ends after its predecessor, and its receipts were made between the two.
"""

from collections.abc import Sequence

from fedcore.errors import MismatchError
from fedcore.permits import Permit
from fedcore.rounds import Receipt, RoundReport
from fedcore.trust import MAX_CLOCK_SKEW


def ends_run(report: RoundReport, permit: Permit) -> bool:
    """Return whether a report is the last one of its run: nothing more can follow.

    It is of the permit's last round, or of a check that ended the training and released its model.
    """
    is_last = report.round == permit.rounds or report.released is not None
    return is_last and report.status == "accepted"


def verify_report_chain(report: RoundReport, previous: RoundReport | None, initial: str) -> None:
    """Hold a report against its predecessor (rule 5).

    Raises: MismatchError `report.chain_broken`.
    """
    if previous is None:
        follows = report.round == 1 and report.attempt == 1 and report.previous_report is None
        expected = initial
    else:
        due = (previous.round, previous.attempt + 1)
        if previous.status == "accepted":
            due = (previous.round + 1, 1)
        follows = report.previous_report == previous.digest
        follows = follows and (report.round, report.attempt) == due
        expected = previous.model_out
    unchanged = report.status == "accepted" or report.model_out == report.model_in
    if not follows or report.model_in != expected or not unchanged:
        raise MismatchError("report.chain_broken", "the round reports do not form one chain")


def verify_report_units(report: RoundReport, permit: Permit) -> None:
    """Hold the units of a report against the permit's cohort (rule 5).

    Guarantees: each unit of the cohort stands there once, as one that answered or as one that was
        unavailable; whoever answered was asked. A unit that missed the roll call is unavailable
        without having been asked.
    Raises: MismatchError `report.other_cohort`.
    """
    cohort = sorted(grant.unit for grant in permit.cohort)
    answered = [answer.unit for answer in report.answered]
    asked = set(report.asked)
    if (
        sorted([*answered, *report.unavailable]) != cohort
        or not set(answered) <= asked <= set(cohort)
        or len(asked) != len(report.asked)
    ):
        raise MismatchError(
            "report.other_cohort",
            f"round {report.round}, attempt {report.attempt}: its units are not, each once, those "
            "of the permit",
        )


def verify_report_status(report: RoundReport, permit: Permit) -> None:
    """Hold the status of a report against the number of its answers.

    Guarantees: it is accepted exactly when it names enough answers, so that noise is drawn again
        only by hiding answers: their units' ledgers have charged them, and permits bound how often.
    Raises: MismatchError `report.too_few_answers`, `report.void_though_enough`.
    """
    named = f"round {report.round}, attempt {report.attempt}"
    enough = len(report.answered) >= permit.minimum_cohort
    if report.status == "accepted" and not enough:
        raise MismatchError("report.too_few_answers", f"{named} was accepted with too few answers")
    if report.status == "void" and enough:
        raise MismatchError("report.void_though_enough", f"{named} is void, though enough answered")


def verify_report_times(
    report: RoundReport, receipts: Sequence[Receipt], previous: RoundReport | None
) -> None:
    """Hold the times of a report and its receipts against its predecessor's (rules 5 and 6).

    Guarantees: clocks that are `MAX_CLOCK_SKEW` apart do no harm.
    Raises: MismatchError `report.out_of_time`, `receipt.out_of_time`.
    """
    starts_at = None if previous is None else previous.ended_at - MAX_CLOCK_SKEW
    if starts_at is not None and report.ended_at < starts_at:
        raise MismatchError("report.out_of_time", "a round report is older than the one before it")
    for receipt in receipts:
        early = starts_at is not None and receipt.answered_at < starts_at
        if early or receipt.answered_at > report.ended_at + MAX_CLOCK_SKEW:
            raise MismatchError(
                "receipt.out_of_time",
                f"the receipt of {receipt.unit} was not made between its round's start and report: "
                "do the clocks of node and server agree?",
            )
