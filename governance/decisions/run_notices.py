"""Of what people are to be told about runs: silent nodes, privacy budgets, overdue models."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from governance.decisions.notice_kinds import Notice, NoticeTerms


@dataclass(frozen=True)
class RunStanding:
    """The units that gave no answer that counts, for each reported attempt of a run, in order."""

    run_id: str
    unavailable: tuple[frozenset[str], ...]


@dataclass(frozen=True)
class BudgetStanding:
    """What all permits that name a unit may have added to its ledger, as a sum of epsilons."""

    unit: str
    granted: float


@dataclass(frozen=True)
class OverdueModel:
    """A model version that was to be trained anew until a time that is over; `decision` is the
    document that says so, in force.
    """

    name: str
    version: int
    decision: str
    due_at: datetime


def notices_of_model(model: OverdueModel) -> Iterator[Notice]:
    """Yield a model version that is overdue; only another decision on it ends that."""
    text = f"was to be trained anew by {model.due_at.isoformat()}: decide about it once more"
    occasion = f"retrain_overdue {model.decision}"
    yield Notice("retrain_overdue", occasion, f"{model.name} version {model.version}", text)


def notices_of_run(run: RunStanding, terms: NoticeTerms) -> Iterator[Notice]:
    """Yield each unit that was missing in enough rounds in a row, also if it has come back since.

    Why is not known here: a node tells its own operator what it refuses.
    """
    for unit in sorted(frozenset().union(*run.unavailable)):
        if _longest(unit, run.unavailable) >= terms.refused_rounds:
            text = (
                f"gave no answer that counts in {terms.refused_rounds} rounds of {run.run_id} in a "
                "row: its node refuses or is away"
            )
            yield Notice("node_refusing", f"node_refusing {run.run_id} {unit}", unit, text)


def notices_of_budget(budget: BudgetStanding, terms: NoticeTerms) -> Iterator[Notice]:
    """Yield a unit whose permits may have used the share of its cap that is worth a notice."""
    cap = terms.unit_epsilon_cap
    if cap is not None and budget.granted >= terms.budget_low * cap:
        text = (
            f"was granted epsilon {budget.granted:.4g} by all permits together, of a cap of "
            f"{cap:.4g}: look at its node's ledger"
        )
        yield Notice("budget_low", f"budget_low {budget.unit} {cap!r}", budget.unit, text)


def _longest(unit: str, unavailable: tuple[frozenset[str], ...]) -> int:
    longest = current = 0
    for missing in unavailable:
        current = current + 1 if unit in missing else 0
        longest = max(longest, current)
    return longest
