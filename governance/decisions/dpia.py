"""What may happen to a DPIA, to whom: one table, and the separation of duties.

    draft -submit-> submitted -evaluate-> evaluated -advise-> advised -approve-> in_force
    submitted -request_changes-> draft      evaluated, advised -reject-> rejected
    in_force -suspend-> suspended -resume-> in_force      anything open -withdraw-> withdrawn

Author, evaluator, data protection officer and approver are four persons (Art. 35(2) GDPR asks for
the officer's advice, which nobody gives on their own work).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from fedcore.dpias import ActRecord, DpiaAct, DpiaState
from fedcore.errors import TransitionError

FINAL_STATES: frozenset[DpiaState] = frozenset({"rejected", "withdrawn", "superseded"})
_OPEN_STATES = tuple(
    state for state in get_args(DpiaState) if state not in FINAL_STATES and state != "expired"
)

# Whoever does the act has done their duty on this DPIA, and may have no other.
DUTIES: Mapping[DpiaAct, str] = {
    "submit": "author",
    "withdraw": "author",
    "request_changes": "evaluator",
    "evaluate": "evaluator",
    "advise": "dpo",
    "approve": "approver",
    "reject": "approver",
    "resume": "approver",
}

TRANSITIONS: Mapping[tuple[DpiaState, DpiaAct], tuple[DpiaState, tuple[str, ...]]] = {
    ("draft", "submit"): ("submitted", ("author",)),
    ("submitted", "request_changes"): ("draft", ("evaluator",)),
    ("submitted", "evaluate"): ("evaluated", ("evaluator",)),
    ("evaluated", "advise"): ("advised", ("dpo",)),
    ("evaluated", "reject"): ("rejected", ("approver",)),
    ("advised", "approve"): ("in_force", ("approver",)),
    ("advised", "reject"): ("rejected", ("approver",)),
    ("in_force", "suspend"): ("suspended", ("dpo", "compliance")),
    ("suspended", "resume"): ("in_force", ("approver",)),
    **{(state, "withdraw"): ("withdrawn", ("author",)) for state in _OPEN_STATES},
}


@dataclass(frozen=True)
class Person:
    """Someone who acts, in the role of the account that they use."""

    name: str
    role: str


@dataclass(frozen=True)
class Standing:
    """A DPIA version as it stands: its stored state, its author, and the acts so far."""

    state: DpiaState
    author: str
    acts: Sequence[ActRecord]
    valid_until: datetime


def state_at(state: DpiaState, valid_until: datetime, now: datetime) -> DpiaState:
    """Return the state that counts at `now`: nothing open outlives its validity."""
    return "expired" if state not in FINAL_STATES and now >= valid_until else state


def decide_transition(standing: Standing, act: DpiaAct, person: Person, now: datetime) -> DpiaState:
    """Return the state after an act.

    Guarantees: only the table's transitions, only by their roles, and never by a person who has
        another duty on this DPIA; after `valid_until` it can only be withdrawn.
    Raises: TransitionError `dpia.expired`, `dpia.act_not_allowed`, and with all that apply
        `dpia.wrong_role`, `dpia.same_person`, `dpia.other_author`.
    """
    expired = state_at(standing.state, standing.valid_until, now) == "expired"
    if expired and act != "withdraw":
        raise _refusal("dpia.expired", "the DPIA has expired: submit a new version")
    transition = TRANSITIONS.get((standing.state, act))
    if transition is None:
        raise _refusal(
            "dpia.act_not_allowed", f"{act} is no act on a DPIA that is {standing.state}"
        )
    state, roles = transition
    reasons = [
        *_wrong_role(act, person, roles),
        *_same_person(standing, act, person),
        *_other_author(standing, act, person),
    ]
    if reasons:
        raise TransitionError(reasons)
    return state


def _wrong_role(act: DpiaAct, person: Person, roles: Sequence[str]) -> list[tuple[str, str]]:
    if person.role in roles:
        return []
    return [("dpia.wrong_role", f"{act} is for the role {' or '.join(roles)}.")]


def _same_person(standing: Standing, act: DpiaAct, person: Person) -> list[tuple[str, str]]:
    done = {
        DUTIES[past.act]
        for past in standing.acts
        if past.actor == person.name and past.act in DUTIES
    }
    if standing.author == person.name:
        done.add("author")
    if act not in DUTIES or done <= {DUTIES[act]}:
        return []
    return [("dpia.same_person", f"{act} needs a person who has no other duty on this DPIA.")]


def _other_author(standing: Standing, act: DpiaAct, person: Person) -> list[tuple[str, str]]:
    if DUTIES.get(act) != "author" or person.name == standing.author:
        return []
    return [("dpia.other_author", f"{act} is for the author of this DPIA.")]


def _refusal(code: str, sentence: str) -> TransitionError:
    return TransitionError([(code, sentence)])
