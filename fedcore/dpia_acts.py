"""What the acts on a DPIA add up to: read alike by who issues permits and by who verifies them."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from fedcore.dpia_record import AnyDpia, Dpia
from fedcore.dpias import ActRecord, Condition, DpiaAct

ADVICE: frozenset[DpiaAct] = frozenset({"advise"})
APPROVALS: frozenset[DpiaAct] = frozenset({"approve", "approve_with_conditions"})
# Art. 36(2) GDPR: eight weeks, and six more when the authority says so.
CONSULTATION_TIME = timedelta(weeks=8)
CONSULTATION_EXTENSION = timedelta(weeks=6)


def participating_controllers(dpia: AnyDpia) -> tuple[str, ...]:
    """Return the controllers whose units take part, by id: each advises and approves by itself.

    None are known of a dpia/1, which one advice and one approval took into force.
    """
    if not isinstance(dpia, Dpia):
        return ()
    units = set(dpia.bindings.units)
    return tuple(entity.id for entity in dpia.controllers() if units & set(entity.units))


def current_line(acts: Sequence[ActRecord]) -> tuple[ActRecord, ...]:
    """Return the acts since the last submission; all that was said before is about a draft."""
    last = max((place for place, act in enumerate(acts) if act.act == "submit"), default=0)
    return tuple(acts[last:])


def entities_without(
    acts: Iterable[ActRecord], kinds: Iterable[DpiaAct], entities: Sequence[str]
) -> tuple[str, ...]:
    """Return the entities for which no act of these kinds was done.

    An act that names no entity speaks for the only one.
    """
    done = [act.entity for act in acts if act.act in set(kinds)]
    if len(entities) == 1 and done:
        return ()
    return tuple(entity for entity in entities if entity not in done)


def open_conditions(acts: Iterable[ActRecord]) -> tuple[Condition, ...]:
    """Return the conditions of approvals that are not fulfilled, in the order they were set."""
    found: dict[str, Condition] = {}
    for act in acts:
        found |= {condition.id: condition for condition in act.conditions or ()}
        for fulfilled in act.fulfilled or ():
            found.pop(fulfilled, None)
    return tuple(found.values())


def open_review(acts: Iterable[ActRecord]) -> ActRecord | None:
    """Return the act that opened the review that nobody has closed since, or None."""
    opened = None
    for act in acts:
        if act.act == "open_review":
            opened = act
        elif act.act == "close_review":
            opened = None
    return opened


def force_ends_at(valid_until: datetime, acts: Iterable[ActRecord]) -> datetime:
    """Return when a DPIA in force stops yielding permits, if nobody acts: at its end, or when the
    first open condition is due.
    """
    return min([valid_until, *(condition.due_at for condition in open_conditions(acts))])


def advice_is_unfavourable(acts: Iterable[ActRecord], entity: str | None) -> bool:
    """Return whether an advice for this controller is against the processing; where advice or
    question names no controller, whether any advice is.
    """
    against = [act for act in acts if act.act == "advise" and act.verdict == "unfavourable"]
    return any(entity is None or act.entity in (None, entity) for act in against)


def authority_due_at(acts: Sequence[ActRecord]) -> datetime | None:
    """Return until when the authority has time to answer (Art. 36(2) GDPR), or None when it was not
    asked since the last submission.
    """
    due_at = extended_at = None
    for act in current_line(acts):
        if act.act == "consult_authority":
            due_at = act.acted_at + CONSULTATION_TIME
            extended_at = due_at + CONSULTATION_EXTENSION
        elif act.act == "extend_consultation":
            due_at = extended_at
    return due_at


def authority_was_heard(acts: Sequence[ActRecord]) -> bool:
    """Return whether the authority has not objected in its time, since the last submission."""
    line = current_line(acts)
    return any(
        act.act == "close_consultation"
        or (act.act == "answer_of_authority" and act.verdict == "favourable")
        for act in line
    )


def has_high_residual_risk(dpia: AnyDpia) -> bool:
    """Return whether a risk stays high (severity and likelihood of 3 or 4) after the measures, so
    that the authority must be consulted (Art. 36(1) GDPR).

    A dpia/1 was taken into force without this question.
    """
    return isinstance(dpia, Dpia) and any(
        risk.severity_after >= 3 and risk.likelihood_after >= 3 for risk in dpia.risks
    )
