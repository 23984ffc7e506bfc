"""What was decided about a model version that was trained before customers objected."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.record import At, Counter, Digest, Name, Part, Record, Text
from fedcore.signing import Envelope

Outcome = Literal["kept", "retrain_due", "withdrawn"]
_UpTo = Annotated[Counter, Field(ge=1)]


def _verify_term(outcome: Outcome, due_at: At | None) -> None:
    if (due_at is None) != (outcome != "retrain_due"):
        raise ValueError("due_at: goes together with the outcome retrain_due, and with no other")


class ModelDecision(Record):
    """A decision on a model version, about the opt-outs of one unit up to a number. Signed by
    governance. The newest one of a unit counts; none is ever taken out.

    `number` counts the decisions on the version from 1, and `previous` is the document of the one
    before, whatever unit it is about. `model` is the version's own document.
    """

    schema_name: Literal["model-decision/1"] = Field(default="model-decision/1", alias="schema")
    name: Name
    version: Annotated[int, Field(ge=1)]
    model: Digest
    number: Annotated[int, Field(ge=1, le=2**31 - 1)]
    previous: Digest | None = None
    unit: Name
    up_to: _UpTo
    outcome: Outcome
    due_at: At | None = None
    reason: Text
    decided_by: Name
    decided_at: At

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.previous is None) != (self.number == 1):
            raise ValueError("previous: the first decision has none, every other one names it")
        _verify_term(self.outcome, self.due_at)
        return self


class DecisionRequest(Part):
    """What is decided about a model version, and why; `up_to` is the newest opt-out of the unit
    that was looked at. The reason is no place for a customer's data, name or pseudonym.
    """

    unit: Name
    up_to: _UpTo
    outcome: Outcome
    due_at: At | None = None
    reason: Text

    @model_validator(mode="after")
    def _term_of_its_outcome(self) -> Self:
        _verify_term(self.outcome, self.due_at)
        return self


class DecisionView(Part):
    """A decision; it is in force until its unit has a newer one on the same version."""

    document: Digest
    envelope: Envelope
    in_force: bool


class DecisionList(Part):
    """The decisions on a model version, oldest first."""

    decisions: tuple[DecisionView, ...]
