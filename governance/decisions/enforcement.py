"""Since when an opt-out acts, from what receipts and bulletins prove: pure, and never more."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fedcore.enforcement import SCORING, TrainedModel
from fedcore.optouts import EFFECTS, Ground, State, excludes


@dataclass(frozen=True)
class Training:
    """A receipt of a unit.

    Attributes:
        purposes: the run's purpose with all above it.
        last_sequence: the newest opt-out in the bulletin that the node had applied; 0 when that was
            not kept, which shows nothing.
    """

    run_id: str
    round: int
    answered_at: datetime
    purposes: tuple[str, ...]
    last_sequence: int


@dataclass(frozen=True)
class Objection:
    """An objection as of its newest event."""

    sequence: int
    purpose: str
    ground: Ground
    state: State
    received_at: datetime


@dataclass(frozen=True)
class Enforcement:
    """What is shown of an objection.

    Attributes:
        since: the training from which on each one is shown to be without the customer.
        not_shown: trainings after it was received that are not, `since` coming after them.
        before: of each run, how many trainings are not shown to be without the customer.
    """

    since: Training | None
    not_shown: tuple[Training, ...]
    before: Mapping[str, int]


class _Line:
    """Trainings in the order in which they were answered, sorted once for many questions."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self._trainings = trainings
        self._answered = [each.answered_at for each in trainings]
        # The least that any training from here on had applied: it never falls.
        self._floor = [each.last_sequence for each in trainings]
        for place in range(len(trainings) - 2, -1, -1):
            self._floor[place] = min(self._floor[place : place + 2])
        self._of_run: dict[str, list[int]] = defaultdict(list)
        for each in trainings:
            self._of_run[each.run_id].append(each.last_sequence)
        for applied in self._of_run.values():
            applied.sort()

    def ask(self, objection: Objection) -> Enforcement:
        """Return what these trainings show of an objection, all of which it covers."""
        since = bisect_left(self._floor, objection.sequence)
        late = self._trainings[bisect_left(self._answered, objection.received_at) : since]
        older = (
            (run_id, bisect_left(applied, objection.sequence))
            for run_id, applied in self._of_run.items()
        )
        acts = excludes(objection.state) and since < len(self._trainings)
        return Enforcement(
            since=self._trainings[since] if acts else None,
            not_shown=tuple(each for each in late if each.last_sequence < objection.sequence),
            before={run_id: count for run_id, count in older if count},
        )


class History:
    """All trainings of a unit, given in the order in which they were answered."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        """Keep the trainings; they are sorted when the first objection to a purpose asks."""
        self._trainings = trainings
        self._lines: dict[str | None, _Line] = {}

    def decide_enforcement(self, objection: Objection) -> Enforcement:
        """Return what the trainings show of an objection.

        Guarantees: only trainings for what the objection covers count; one under older opt-outs
            takes back what those before it showed.
        """
        purpose = None if EFFECTS[objection.ground].every_purpose else objection.purpose
        if purpose not in self._lines:
            self._lines[purpose] = _Line(
                [each for each in self._trainings if purpose is None or purpose in each.purposes]
            )
        return self._lines[purpose].ask(objection)


def say_enforcement(objection: Objection, found: Enforcement) -> str:
    """Return what may be said of an objection, in the words that the law's readers are given."""
    if not excludes(objection.state):
        return f"excludes nobody now ({objection.state}); {SCORING}"
    if found.since is not None:
        round_ = f"round {found.since.round} of run {found.since.run_id}"
        return f"excluded from training since {round_}; {SCORING}"
    if found.not_shown:
        last = found.not_shown[-1]
        return (
            f"not shown to be excluded: round {last.round} of run {last.run_id} was answered after "
            f"it was received, under older opt-outs; {SCORING}"
        )
    return f"no training since; {SCORING}"


def say_decided(model: TrainedModel) -> str:
    """Return what is decided about a model that was trained before an opt-out, for who asks."""
    withdrawn = "withdrawn; " if model.withdrawn else ""
    decided = model.decided
    if decided is None:
        return f"{withdrawn}nothing is decided yet"
    until = ""
    if decided.due_at is not None:
        until = f" by {decided.due_at.isoformat()}" + (", OVERDUE" if decided.overdue else "")
    outcome = "" if decided.outcome == "withdrawn" else f"{decided.outcome}{until}; "
    return f"{withdrawn}{outcome}decided {decided.decided_at.isoformat()}: {decided.reason}"
