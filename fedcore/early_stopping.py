"""The public rule by which a training ends early: a function of plan and reports alone.

In a check each unit says, with noise, how much smaller the losses of its customers set aside are
under the model now than under the best one before (`fedcore.rounds.NoisedGain`). A model is better
when the sum over the units is more than its noise alone shows once in twenty checks; that units
sample, where the plan says so, is not in that. The run ends with
the check that has shown no better one for the plan's `patience`-th time in a row.

Guarantees: server, governance and verifiers of a bundle find the same end from the same reports;
    it depends on customers through charged numbers only.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedcore.errors import MismatchError
from fedcore.plans import TrainingPlan
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.rounds import GAIN_SCALE, Answer, NoisedGain, Receipt, RoundReport

# A sum of Gaussian noise is above so many of its standard deviations once in twenty times.
_ONE_IN_TWENTY = 1.645


@dataclass(frozen=True)
class Standing:
    """Where the checks of a run stand.

    Attributes:
        best: the digest of the best model that a check has shown, at first of the plan's own.
        missed: how many checks since have shown no better one.
    """

    best: str
    missed: int = 0


def proved_of(plan: TrainingPlan) -> str | None:
    """Return what is proved of a run with checks alone, in words; None for one without.

    How many rounds were done depended on their outputs (ADR 0051).
    """
    if plan.early_stopping is None:
        return None
    epsilon = renyi_epsilon([plan.run_event()], plan.delta)
    return (
        "Checks decided when this run ended: its epsilon is of what was done; proved of the run "
        f"alone is what it had reserved, at most {epsilon:.4f} for a customer of one unit."
    )


def smallest_gain(plan: TrainingPlan, units: int) -> float:
    """Return what the sum of so many units' gains must be above, in millionths: 1.645 standard
    deviations of their noise.
    """
    terms = plan.privacy
    of_step = terms.noise_multiplier * GAIN_SCALE / terms.sampling_rate
    return _ONE_IN_TWENTY * of_step * math.sqrt(units) / math.sqrt(terms.local_steps)


def is_better(plan: TrainingPlan, gains: Sequence[int]) -> bool:
    """Return whether the units' gains show a better model."""
    return sum(gains) > smallest_gain(plan, len(gains))


def standing_after(plan: TrainingPlan, standing: Standing, report: RoundReport) -> Standing:
    """Return where the checks stand after one report more."""
    if report.status != "accepted" or not plan.is_check(report.round):
        return standing
    if is_better(plan, [answer.gain or 0 for answer in report.answered]):
        return Standing(report.model_in)
    return Standing(standing.best, standing.missed + 1)


def is_over(plan: TrainingPlan, standing: Standing, report: RoundReport) -> bool:
    """Return whether a run ends with a report, after which its checks stand so."""
    stopping = plan.early_stopping
    missed_enough = stopping is not None and standing.missed >= stopping.patience
    is_last = report.round == plan.rounds or (plan.is_check(report.round) and missed_enough)
    return is_last and report.status == "accepted"


def verify_released(plan: TrainingPlan, standing: Standing, report: RoundReport) -> None:
    """Hold what a report releases against the end of its run.

    Args: `standing` is that after the report.
    Raises: MismatchError `report.released_early`.
    """
    if (report.released is not None) != is_over(plan, standing, report):
        raise MismatchError(
            "report.released_early",
            "a model is released by the last accepted round, or by the check that ends the run, "
            "and by no other",
        )


def verify_gains(
    plan: TrainingPlan, standing: Standing, report: RoundReport, receipts: Iterable[Receipt]
) -> None:
    """Hold the answers of a report and their receipts against the plan's checks.

    Args: `standing` is that before the report.
    Guarantees: answers say a gain in checks and nowhere else, each the one that its digest is of,
        and of a comparison with the best model so far; a check changes no model.
    Raises: MismatchError `report.check_differs`, `receipt.other_compared`.
    """
    is_check = plan.is_check(report.round)
    if is_check and report.model_out != report.model_in:
        raise MismatchError("report.check_differs", "a check makes no other model")
    for answer in report.answered:
        if (answer.gain is not None) != is_check or not _is_of_digest(report, answer):
            raise MismatchError(
                "report.check_differs",
                f"round {report.round}: {answer.unit} answers with the gain that its receipt "
                "names, in a check only",
            )
    for receipt in receipts:
        if receipt.compared != (standing.best if is_check else None):
            raise MismatchError(
                "receipt.other_compared",
                f"round {report.round}: {receipt.unit} compares with the best model so far, in a "
                "check only",
            )


def _is_of_digest(report: RoundReport, answer: Answer) -> bool:
    if answer.gain is None:
        return True
    gain = NoisedGain(
        run_id=report.run_id,
        unit=answer.unit,
        round=report.round,
        attempt=report.attempt,
        gain=answer.gain,
    )
    return answer.update == gain.digest
