"""What governance can show of an opt-out: how far it has come, and since when it acts."""

from typing import Annotated

from pydantic import Field

from fedcore.record import At, Counter, Name, Part, Text

SCORING = "scoring outside fedpact is the unit's duty"


class TrainedRound(Part):
    """A round of a run in which a unit has trained, by its node's receipt."""

    run_id: Name
    round: Annotated[int, Field(ge=1)]
    answered_at: At


class TrainedModel(Part):
    """A model version from a run in which the unit trained, not shown to be without the customer.

    `rounds` of the unit's receipts are those.
    """

    name: Name
    version: Annotated[int, Field(ge=1)]
    run_id: Name
    rounds: Annotated[int, Field(ge=1)]


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
