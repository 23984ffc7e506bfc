"""Who may do an act on a DPIA, and what the act must say: small rules, each with its reason."""

from collections.abc import Callable, Mapping, Sequence

from fedcore.dpia_acts import (
    ADVICE,
    APPROVALS,
    advice_is_unfavourable,
    authority_due_at,
    authority_was_heard,
    current_line,
    entities_without,
    open_conditions,
    open_review,
)
from fedcore.dpias import ActRecord, DpiaAct
from governance.decisions.dpia_standing import Standing

Reasons = list[tuple[str, str]]

# Whoever does the act has done their duty on this DPIA, and may have no other.
DUTIES: Mapping[DpiaAct, str] = {
    "submit": "author",
    "revise": "author",
    "withdraw": "author",
    "request_changes": "evaluator",
    "evaluate": "evaluator",
    "request_advice": "evaluator",
    "advise": "dpo",
    "request_approval": "dpo",
    "consult_authority": "approver",
    "approve": "approver",
    "approve_with_conditions": "approver",
    "reject": "approver",
    "fulfil_conditions": "approver",
    "resume": "approver",
}
# The details that an act takes; those it cannot do without.
TAKES: Mapping[DpiaAct, frozenset[str]] = {
    "request_changes": frozenset({"items"}),
    "evaluate": frozenset({"items"}),
    "advise": frozenset({"entity", "verdict"}),
    "answer_of_authority": frozenset({"verdict"}),
    "approve": frozenset({"entity", "overruling_reason"}),
    "approve_with_conditions": frozenset({"entity", "overruling_reason", "conditions"}),
    "reject": frozenset({"entity"}),
    "fulfil_conditions": frozenset({"fulfilled"}),
}
NEEDS: Mapping[DpiaAct, frozenset[str]] = {
    "advise": frozenset({"verdict"}),
    "answer_of_authority": frozenset({"verdict"}),
    "approve_with_conditions": frozenset({"conditions"}),
    "fulfil_conditions": frozenset({"fulfilled"}),
}


def reasons_against(standing: Standing, act: ActRecord, role: str, roles: Sequence[str]) -> Reasons:
    """Return every reason against an act that the DPIA's state allows; none means yes.

    The codes are `dpia.wrong_role`, `dpia.same_person`, `dpia.other_author`,
    `dpia.detail_missing`, `dpia.detail_unknown`, and of the act itself `dpia.incomplete` (or what
    `standing.lacks` says), `dpia.item_unacceptable`, `dpia.entity_done`, `dpia.advice_overruled`,
    `dpia.consultation_needed`, `dpia.condition_known`, `dpia.condition_overdue`,
    `dpia.authority_pending`, `dpia.not_effective_yet`, `dpia.review_open`, `dpia.no_review` and
    `dpia.review_same_person`.
    """
    return [
        *_wrong_role(act, role, roles),
        *_same_person(standing, act),
        *_other_author(standing, act),
        *_details(standing, act),
        *(_RULES[act.act](standing, act) if act.act in _RULES else ()),
    ]


def _wrong_role(act: ActRecord, role: str, roles: Sequence[str]) -> Reasons:
    if role in roles:
        return []
    return [("dpia.wrong_role", f"{act.act} is for the role {' or '.join(roles)}.")]


def _same_person(standing: Standing, act: ActRecord) -> Reasons:
    done = {
        DUTIES[past.act] for past in standing.acts if past.actor == act.actor and past.act in DUTIES
    }
    if standing.author == act.actor:
        done.add("author")
    if act.act not in DUTIES or done <= {DUTIES[act.act]}:
        return []
    return [("dpia.same_person", f"{act.act} needs a person who has no other duty on this DPIA.")]


def _other_author(standing: Standing, act: ActRecord) -> Reasons:
    if DUTIES.get(act.act) != "author" or act.actor == standing.author:
        return []
    return [("dpia.other_author", f"{act.act} is for the author of this DPIA.")]


def _details(standing: Standing, act: ActRecord) -> Reasons:
    given = act.given
    missing = NEEDS.get(act.act, frozenset()) - given
    if "entity" in TAKES.get(act.act, ()) and act.act != "reject" and len(standing.entities) > 1:
        missing |= {"entity"} - given
    unknown = [f"takes no {name}" for name in sorted(given - TAKES.get(act.act, frozenset()))]
    unknown += [
        f"names {name}, which this DPIA does not have" for name in _strangers(standing, act)
    ]
    reasons = [("dpia.detail_missing", f"{act.act} needs {name}.") for name in sorted(missing)]
    return [*reasons, *(("dpia.detail_unknown", f"{act.act} {text}.") for text in unknown)]


def _strangers(standing: Standing, act: ActRecord) -> list[str]:
    """Return what the details name and the DPIA does not have; a condition is named once only."""
    named = set() if act.entity is None else {act.entity}
    strangers = named - set(standing.entities)
    strangers |= {item.item for item in act.items or ()} - standing.items
    conditions = {condition.id for condition in open_conditions(standing.acts)}
    strangers |= set(act.fulfilled or ()) - conditions
    return sorted(strangers)


def _submit(standing: Standing, _act: ActRecord) -> Reasons:
    return list(standing.lacks)


def _evaluate(_standing: Standing, act: ActRecord) -> Reasons:
    bad = sorted(i.item for i in act.items or () if i.verdict == "unacceptable")
    if not bad:
        return []
    text = (
        f"{', '.join(bad)}: what is unacceptable is not evaluated but sent back: request changes."
    )
    return [("dpia.item_unacceptable", text)]


def _advise(standing: Standing, act: ActRecord) -> Reasons:
    return _entity_done(standing, act, ADVICE)


def _approve(standing: Standing, act: ActRecord) -> Reasons:
    reasons = _entity_done(standing, act, APPROVALS)
    line = current_line(standing.acts)
    if advice_is_unfavourable(line, act.entity) and act.overruling_reason is None:
        text = "The advice is unfavourable: say in overruling_reason why it is not followed."
        reasons.append(("dpia.advice_overruled", text))
    if standing.high_residual_risk and not authority_was_heard(line):
        text = "A risk stays high after the measures (Art. 36 GDPR): consult the authority first."
        reasons.append(("dpia.consultation_needed", text))
    return [*reasons, *_conditions(standing, act)]


def _conditions(standing: Standing, act: ActRecord) -> Reasons:
    """Refuse a condition under an id that was given before: fulfilling one must not end another;
    and one that is due already.
    """
    conditions = act.conditions or ()
    ids = [condition.id for past in standing.acts for condition in past.conditions or ()]
    ids += [condition.id for condition in conditions]
    reasons = [
        ("dpia.condition_known", f"There is a condition {id_} already: name it anew.")
        for id_ in sorted({id_ for id_ in ids if ids.count(id_) > 1})
    ]
    overdue = [condition.id for condition in conditions if condition.due_at <= act.acted_at]
    return [*reasons, *_overdue(overdue, "set a later time")]


def _overdue(ids: Sequence[str], way_out: str) -> Reasons:
    if not ids:
        return []
    return [("dpia.condition_overdue", f"Overdue: {', '.join(ids)}; {way_out}.")]


def _entity_done(standing: Standing, act: ActRecord, kinds: frozenset[DpiaAct]) -> Reasons:
    entity = act.entity
    waiting = entities_without(current_line(standing.acts), kinds, standing.entities)
    if entity is None or entity not in standing.entities or entity in waiting:
        return []
    return [("dpia.entity_done", f"{entity} has spoken: {', '.join(waiting)} has not yet.")]


def _close(standing: Standing, act: ActRecord) -> Reasons:
    due_at = authority_due_at(standing.acts)
    if due_at is not None and act.acted_at >= due_at:
        return []
    return [("dpia.authority_pending", f"The authority has time until {due_at}: wait for it.")]


def _resume(standing: Standing, act: ActRecord) -> Reasons:
    overdue = [item.id for item in open_conditions(standing.acts) if item.due_at <= act.acted_at]
    return _overdue(overdue, "have them fulfilled first")


def _enter(standing: Standing, act: ActRecord) -> Reasons:
    reasons = _resume(standing, act)
    effective = standing.effective_from
    if effective is not None and act.acted_at < effective:
        text = f"It takes effect at {effective:%Y-%m-%d %H:%M} UTC: wait for it."
        reasons.append(("dpia.not_effective_yet", text))
    return reasons


def _open_review(standing: Standing, _act: ActRecord) -> Reasons:
    opened = open_review(standing.acts)
    if opened is None:
        return []
    return [("dpia.review_open", f"{opened.actor} has opened a review: add to it by a comment.")]


def _close_review(standing: Standing, act: ActRecord) -> Reasons:
    """Who asked for a look, and who wrote what is looked at, do not answer."""
    opened = open_review(standing.acts)
    if opened is None:
        return [("dpia.no_review", "No review is open: there is nothing to close.")]
    if act.actor not in {opened.actor, standing.author}:
        return []
    text = "The review is closed by neither who opened it nor the author: somebody else must."
    return [("dpia.review_same_person", text)]


_RULES: Mapping[DpiaAct, Callable[[Standing, ActRecord], Reasons]] = {
    "submit": _submit,
    "evaluate": _evaluate,
    "advise": _advise,
    "approve": _approve,
    "approve_with_conditions": _approve,
    "close_consultation": _close,
    "resume": _resume,
    "enter_force": _enter,
    "open_review": _open_review,
    "close_review": _close_review,
}
