"""The DPIA as a document: what people weighed, and the bindings that machines hold runs against."""

from typing import Annotated, Literal

from pydantic import Field

from fedcore.caps import EpsilonCaps
from fedcore.fairness_bindings import AttributeUse, AuditTerms
from fedcore.record import At, Digest, Name, Part, Positive, Record, Text

DpiaState = Literal[
    "draft",
    "submitted",
    "changes_requested",
    "evaluated",
    "dpo_review",
    "advised",
    "pending_approval",
    "prior_consultation",
    "approved",
    "approved_with_conditions",
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
    "revise",
    "evaluate",
    "request_advice",
    "advise",
    "request_approval",
    "consult_authority",
    "extend_consultation",
    "answer_of_authority",
    "close_consultation",
    "approve",
    "approve_with_conditions",
    "reject",
    "enter_force",
    "fulfil_conditions",
    "suspend",
    "resume",
    "withdraw",
    "open_review",
    "close_review",
    "comment",
]
Level = Annotated[int, Field(ge=1, le=4)]


class RiskV1(Part):
    """A feared event of a dpia/1: severity and likelihood, 1 (negligible) to 4 (maximum)."""

    id: Name
    text: Text
    severity_before: Level
    likelihood_before: Level
    measures: Annotated[tuple[Text, ...], Field(min_length=1)]
    severity_after: Level
    likelihood_after: Level


class FairnessBound(Part):
    """The most that a metric may differ between the groups of a sensitive attribute, or of several
    that are crossed, with " & " between them.
    """

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
    ledger_caps: EpsilonCaps | None = None
    fairness_audit: AuditTerms | None = None
    fairness_mitigation: (
        Annotated[tuple[AttributeUse, ...], Field(min_length=1, max_length=10)] | None
    ) = None


class DpiaV1(Record):
    """A DPIA as version 0.2 wrote it: still read and held against runs, no longer drafted."""

    schema_name: Literal["dpia/1"] = Field(default="dpia/1", alias="schema")
    dpia_id: Name
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    title: Text
    description: Text
    necessity: Text
    legal_basis: Text
    risks: Annotated[tuple[RiskV1, ...], Field(min_length=1, max_length=100)]
    data_subject_rights: Text
    bindings: Bindings
    valid_until: At

    @property
    def effective_from(self) -> None:
        """A dpia/1 took effect when it was approved."""


class ItemEvaluation(Part):
    """What the evaluator thinks of one item: a section of the DPIA, or `<section>.<id>`."""

    item: Text
    verdict: Literal["acceptable", "improvable", "unacceptable"]
    text: Text


class Condition(Part):
    """What somebody must have done by when; overdue, it suspends the DPIA."""

    id: Name
    text: Text
    owner: Text
    due_at: At


class ActDetails(Part):
    """What an act says besides its note; which act takes what is in the reference of DPIAs.

    Attributes:
        entity: the controller that an advice or approval speaks for.
        verdict: of an advice, or of the authority's answer. An advice of before that has none was
            favourable; none is taken without one any more.
        items: the evaluation, item by item.
        conditions: under which it is approved.
        fulfilled: conditions, by their ids, that the approver has found fulfilled.
        overruling_reason: why it is approved against the advice.
    """

    entity: Name | None = None
    verdict: Literal["favourable", "unfavourable"] | None = None
    items: Annotated[tuple[ItemEvaluation, ...], Field(min_length=1, max_length=500)] | None = None
    conditions: Annotated[tuple[Condition, ...], Field(min_length=1, max_length=100)] | None = None
    fulfilled: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)] | None = None
    overruling_reason: Text | None = None

    @property
    def given(self) -> frozenset[str]:
        """The names of the details that are given."""
        own = ActDetails.model_fields
        return frozenset(name for name in own if getattr(self, name) is not None)


class ActRecord(ActDetails):
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
