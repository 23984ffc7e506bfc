"""May this person decide so about a model version? Pure, like every decision here."""

from dataclasses import dataclass
from datetime import datetime

from fedcore.model_decisions import DecisionRequest, ModelDecision, Outcome


@dataclass(frozen=True)
class DecisionFacts:
    """What a decision is held against.

    Attributes:
        person: who decides.
        plan_author: who wrote the plan that the model follows; None is nobody known here.
        has_trained: whether the unit gave a receipt in the model's run.
        in_force: the unit's decision on the version so far.
    """

    person: str
    plan_author: str | None
    has_trained: bool
    in_force: ModelDecision | None


def decide_decision(
    request: DecisionRequest, facts: DecisionFacts, now: datetime
) -> tuple[tuple[str, str], ...]:
    """Return every reason against a decision; none means yes.

    Guarantees: one person withdraws, and another one ends that; nobody lets the model of their own
        plan stay; a decision covers all that the one before it covered.
    """
    found: list[tuple[str, str]] = []
    before, stays = facts.in_force, request.outcome != "withdrawn"
    if not facts.has_trained:
        found.append(("decision.unit_not_trained", "This unit did not train this model version."))
    if stays and _has_withdrawn(facts.person, before):
        sentence = "Who has withdrawn it may not end that: another person must."
        found.append(("decision.same_person", sentence))
    if stays and facts.plan_author == facts.person:
        sentence = "Who wrote the model's plan may not let it stay: another person decides."
        found.append(("decision.own_plan", sentence))
    if before is not None and request.up_to < before.up_to:
        sentence = (
            f"The decision in force covers opt-outs up to {before.up_to}: name that, or more."
        )
        found.append(("decision.covers_less", sentence))
    if request.due_at is not None and request.due_at <= now:
        found.append(("decision.due_past", "due_at: must be a time to come."))
    return tuple(found)


def is_overdue(outcome: Outcome, due_at: datetime | None, now: datetime) -> bool:
    """Return whether a model was to be trained anew by now. Only another decision ends that."""
    return outcome == "retrain_due" and due_at is not None and due_at <= now


def _has_withdrawn(person: str, before: ModelDecision | None) -> bool:
    return before is not None and before.outcome == "withdrawn" and before.decided_by == person
