"""What governance can show of an opt-out: how far it has come, and since when it acts."""

from typing import Annotated

from pydantic import Field

from fedcore.model_decisions import Outcome
from fedcore.record import At, Counter, Digest, Name, Part, Text

SCORING = "scoring outside fedpact is the unit's duty"


class TrainedRound(Part):
    """A round of a run in which a unit has trained, by its node's receipt."""

    run_id: Name
    round: Annotated[int, Field(ge=1)]
    answered_at: At


class Decided(Part):
    """The decision in force on a model version for a unit; `document` is the signed one."""

    outcome: Outcome
    up_to: Counter
    due_at: At | None
    overdue: bool
    reason: Text
    decided_at: At
    document: Digest


class TrainedModel(Part):
    """A model version from a run in which the unit trained, not shown to be without the customer.

    Attributes:
        rounds: of the unit's receipts, so many are those.
        decided: the unit's decision in force, if it is about this opt-out too; None is open.
        withdrawn: by a decision for whatever unit.
    """

    name: Name
    version: Annotated[int, Field(ge=1)]
    run_id: Name
    rounds: Annotated[int, Field(ge=1)]
    decided: Decided | None
    withdrawn: bool


class OptOutStatus(Part):
    """One event of a unit's opt-outs. It names nobody, not even by a pseudonym.

    Attributes:
        newest: the newest event about the same customer, purpose and ground; `state` and what
            follows from it are as of that one.
        confirmed_at: of the first bulletin that held the event.
        lag_s: from `received_at` until then, or until now.
        enforced_since: the round from which on every receipt is under opt-outs that hold it.
        not_shown: rounds that were answered after it was received, under opt-outs without it.
    """

    unit: Name
    sequence: Counter
    purpose: Name
    ground: Name
    act: Name | None
    received_at: At
    recorded_at: At
    newest: Counter
    state: Name
    excludes: bool
    confirmed_at: At | None
    lag_s: Annotated[float, Field(ge=0)]
    sla_s: Annotated[float, Field(ge=0)]
    within_sla: bool
    enforced_since: TrainedRound | None
    not_shown: int
    trained_before: tuple[TrainedModel, ...]
    sentence: Text


class OptOutStatusList(Part):
    """Events of a unit's opt-outs, by sequence."""

    opt_outs: tuple[OptOutStatus, ...]


class ActsAt(Part):
    """Since when a unit of the group acts on a group opt-out, as far as signed documents show.

    Attributes:
        since: when the first of its bulletins was issued that shows the opt-out; under it the node
            reads nobody before it has all that it shows.
        epoch: of that bulletin.
        first_round: the first of the unit's rounds, for whatever purpose, under it or a later one.
    """

    unit: Name
    since: At
    epoch: Counter
    first_round: TrainedRound | None


class GroupOptOutStatus(Part):
    """What a unit was told for all units of its group. It names nobody, not even by a pseudonym.

    Attributes:
        set_aside_by: units that found it without the group's seal, by which it acts nowhere if they
            are right; only units can tell.
        acts_at: units of the group; those that no bulletin has shown it are not in it.
    """

    unit: Name
    sequence: Counter
    purpose: Name
    ground: Name
    act: Name | None
    received_at: At
    recorded_at: At
    set_aside_by: tuple[Name, ...]
    acts_at: tuple[ActsAt, ...]


class GroupOptOutStatusList(Part):
    """What a unit was told for its group, by sequence."""

    opt_outs: tuple[GroupOptOutStatus, ...]
