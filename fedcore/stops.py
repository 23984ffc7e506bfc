"""The kill switch: a stop ends runs at once and lets none begin, until another person lifts it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.record import At, Digest, Name, Record, Text

StopScope = Literal["all", "unit", "purpose", "task", "dpia"]


class Stop(Record):
    """Everything, or all that one unit, purpose, task or DPIA takes part in, is stopped.

    `subject` is the name of the unit, purpose (with all below it), task or DPIA (all its versions);
    `sequence` counts the stops from 1.
    """

    schema_name: Literal["stop/1"] = Field(default="stop/1", alias="schema")
    sequence: Annotated[int, Field(ge=1, le=2**31 - 1)]
    scope: StopScope
    subject: Name | None = None
    reason: Text
    stopped_by: Name
    stopped_at: At

    @model_validator(mode="after")
    def _subject_of_its_scope(self) -> Self:
        if (self.subject is None) != (self.scope == "all"):
            raise ValueError("subject: names what is stopped, and nothing for the scope all")
        return self


class StopLift(Record):
    """A stop is no longer in force. Permits that it revoked stay revoked."""

    schema_name: Literal["stop-lift/1"] = Field(default="stop-lift/1", alias="schema")
    stop: Digest
    reason: Text
    lifted_by: Name
    lifted_at: At
