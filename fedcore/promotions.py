"""Aliases of a model: which version is challenger and champion, who approved it, every move."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.record import At, Digest, Name, Part, Record, Text
from fedcore.signing import Envelope

Alias = Literal["challenger", "champion"]
Step = Literal["promoted", "rolled_back", "vacated"]
_Number = Annotated[int, Field(ge=1, le=2**31 - 1)]


class ModelApproval(Record):
    """A person approves a model version on the evidence that they have seen. Signed by governance.

    `model` is the version's own document; `number` counts the approvals of the version from 1.
    `evidence` is the digest of what was seen: with another evaluation or audit it is another one,
    and the approval counts no more.
    """

    schema_name: Literal["approval/1"] = Field(default="approval/1", alias="schema")
    name: Name
    version: _Number
    model: Digest
    number: _Number
    evidence: Digest
    reason: Text
    approved_by: Name
    approved_at: At


class Promotion(Record):
    """An alias of a model moves from one version to another. Signed by governance.

    `number` counts the moves of the alias from 1, and `previous` is the document of the one before.
    A version is `promoted` by the gate, which looked at `facts` by `rules`, and on the approvals
    of `evidence` that are named; `rolled_back` brings back who stood there before, and asks nobody;
    `vacated` takes the alias away from a version that got the other one. Without `to_version`
    nobody has the alias.
    """

    schema_name: Literal["promotion/1"] = Field(default="promotion/1", alias="schema")
    name: Name
    alias: Alias
    number: _Number
    previous: Digest | None = None
    step: Step
    from_version: _Number | None = None
    to_version: _Number | None = None
    model: Digest | None = None
    evidence: Digest | None = None
    approvals: Annotated[tuple[Digest, ...], Field(max_length=100)] = ()
    facts: Digest | None = None
    rules: Text | None = None
    reason: Text
    moved_by: Name
    moved_at: At

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.previous is None) != (self.number == 1):
            raise ValueError("previous: the first move has none, every other one names it")
        if self.from_version == self.to_version:
            raise ValueError("to_version: is another one than from_version")
        if (self.model is None) != (self.to_version is None):
            raise ValueError("model: goes together with to_version")
        gated = (self.evidence, self.facts, self.rules)
        if any((value is None) != (self.step != "promoted") for value in gated):
            raise ValueError("evidence, facts, rules: go together with the step promoted")
        if self.step == "promoted" and self.to_version is None:
            raise ValueError("to_version: a promotion names it")
        if self.step == "vacated" and self.to_version is not None:
            raise ValueError("to_version: nobody has an alias that is vacated")
        return self


class ApprovalRequest(Part):
    """An approval of the evidence that was seen, and why."""

    evidence: Digest
    reason: Text


class PromotionRequest(Part):
    """The alias that a version is to get, and why."""

    alias: Alias
    reason: Text


class RollbackRequest(Part):
    """The alias that goes back to who had it before, and why."""

    alias: Alias = "champion"
    reason: Text


class RuleVerdict(Part):
    """A rule of promotion: what must hold, who asks, and what speaks against it, if anything."""

    code: Text
    asks: Text
    asked_by: Text
    objection: Text | None


class PromotionCheck(Part):
    """All rules for an alias at once, and the evidence that people would approve now.

    `approved_by` are those whose approvals of that evidence count.
    """

    name: Name
    version: _Number
    alias: Alias
    evidence: Digest
    approved_by: tuple[Name, ...]
    rules: Text
    verdicts: tuple[RuleVerdict, ...]


class MoveView(Part):
    """A move of an alias."""

    document: Digest
    envelope: Envelope


class Holder(Part):
    """The version that has an alias, None for nobody, and whether a decision withdrew it since, or
    a model that it rests on.
    """

    alias: Alias
    version: _Number | None
    withdrawn: bool
    basis_withdrawn: bool = False


class AliasHistory(Part):
    """Who has the aliases of a model now, and all moves, oldest first."""

    holders: tuple[Holder, ...]
    moves: tuple[MoveView, ...]


class PromotionAnswer(Part):
    """What the gate answered to a promotion; no codes mean yes. `facts` is the digest of what it
    looked at, `rules` the version of the rules that it decided by.
    """

    alias: Alias
    asked_by: Name
    facts: Digest
    codes: tuple[Text, ...]
    rules: Text
    decided_at: At


class PromotionAnswers(Part):
    """Everything that the gate answered about a version, oldest first."""

    answers: tuple[PromotionAnswer, ...]
