"""Since when an opt-out acts, from what receipts and bulletins prove: pure, and never more."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fedcore.enforcement import SCORING
from fedcore.optouts import EFFECTS, Ground, State, epoch_of, excludes


@dataclass(frozen=True)
class Training:
    """A receipt of a unit.

    Attributes:
        purposes: the run's purpose with all above it.
        applied_epoch: the epoch of the bulletin that the node had applied.
        last_sequence: the newest opt-out in that bulletin; None when it is no longer kept.
    """

    run_id: str
    round: int
    answered_at: datetime
    purposes: tuple[str, ...]
    applied_epoch: int
    last_sequence: int | None


@dataclass(frozen=True)
class Objection:
    """An objection as of its newest event."""

    sequence: int
    purpose: str
    ground: Ground
    state: State
    received_at: datetime
    recorded_at: datetime


@dataclass(frozen=True)
class Enforcement:
    """What is shown of an objection.

    Attributes:
        since: the training from which on each one is shown to be without the customer.
        not_shown: trainings after it was received that are not, `since` coming after them.
        before: all trainings that are not shown to be without the customer.
    """

    since: Training | None
    not_shown: tuple[Training, ...]
    before: tuple[Training, ...]


def decide_enforcement(objection: Objection, trainings: Sequence[Training]) -> Enforcement:
    """Return what the trainings show, given in the order in which they were answered.

    Guarantees: only trainings for what the objection covers count; one under older opt-outs takes
        back what those before it showed.
    """
    before: list[Training] = []
    since: Training | None = None
    for training in trainings:
        if not _covers(objection, training):
            continue
        if not _shows(objection, training):
            before.append(training)
            since = None
        elif since is None:
            since = training
    late = tuple(each for each in before if each.answered_at >= objection.received_at)
    return Enforcement(since if excludes(objection.state) else None, late, tuple(before))


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


def _covers(objection: Objection, training: Training) -> bool:
    every = EFFECTS[objection.ground].every_purpose
    return every or objection.purpose in training.purposes


def _shows(objection: Objection, training: Training) -> bool:
    if training.last_sequence is not None:
        return training.last_sequence >= objection.sequence
    # A bulletin holds all that came before its hour.
    return training.applied_epoch > epoch_of(objection.recorded_at)
