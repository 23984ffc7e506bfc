"""The DPIA as a document: what people weighed, and the bindings that machines hold runs against."""

from typing import Annotated, Literal

from pydantic import Field

from fedcore.record import At, Digest, Name, Part, Positive, Record, Text

DpiaState = Literal[
    "draft",
    "submitted",
    "evaluated",
    "advised",
    "in_force",
    "rejected",
    "suspended",
    "withdrawn",
    "superseded",
    "expired",
]
DpiaAct = Literal[
    "submit",
    "request_changes",
    "evaluate",
    "advise",
    "approve",
    "reject",
    "suspend",
    "resume",
    "withdraw",
]
Level = Annotated[int, Field(ge=1, le=4)]


class Risk(Part):
    """A feared event: severity and likelihood, 1 (negligible) to 4 (maximum), before and after."""

    id: Name
    text: Text
    severity_before: Level
    likelihood_before: Level
    measures: Annotated[tuple[Text, ...], Field(min_length=1)]
    severity_after: Level
    likelihood_after: Level


class FairnessBound(Part):
    """The most that a metric may differ between the groups of a sensitive attribute."""

    attribute: Text
    metric: Name
    largest_gap: Annotated[float, Field(gt=0, le=1)]


class Bindings(Part):
    """What the gate holds a plan against. A plan that leaves these bounds gets no permit."""

    task: Name
    purposes: Annotated[tuple[Name, ...], Field(min_length=1)]
    contract: Digest
    features: Annotated[tuple[Text, ...], Field(min_length=1)]
    units: Annotated[tuple[Name, ...], Field(min_length=1)]
    privacy_modes: Annotated[tuple[Literal["local"], ...], Field(min_length=1)]
    epsilon_cap: Positive
    delta_cap: Positive
    minimum_units: Annotated[int, Field(ge=1)]
    secure_aggregation: bool | None = None
    fairness: tuple[FairnessBound, ...] | None = None
    update_retention_days: Annotated[int, Field(ge=0, le=36_600)] | None = None


class Dpia(Record):
    """A data protection impact assessment (Art. 35 GDPR), one version."""

    schema_name: Literal["dpia/1"] = Field(default="dpia/1", alias="schema")
    dpia_id: Name
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    title: Text
    description: Text
    necessity: Text
    legal_basis: Text
    risks: Annotated[tuple[Risk, ...], Field(min_length=1, max_length=100)]
    data_subject_rights: Text
    bindings: Bindings
    valid_until: At


class ActRecord(Part):
    """One act of one person on a DPIA."""

    act: DpiaAct
    actor: Name
    note: Text
    acted_at: At


class DpiaDecision(Record):
    """Governance states a DPIA version's state and the acts that led there."""

    schema_name: Literal["dpia-decision/1"] = Field(default="dpia-decision/1", alias="schema")
    dpia: Digest
    state: DpiaState
    acts: tuple[ActRecord, ...]
    decided_at: At
    valid_until: At
