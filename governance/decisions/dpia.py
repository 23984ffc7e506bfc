"""What may happen to a DPIA, to whom: one table and one function.

    draft -submit-> submitted -evaluate-> evaluated -request_advice-> dpo_review -advise-> advised
    advised -request_approval-> pending_approval -approve-> approved -enter_force-> in_force
    submitted -request_changes-> changes_requested -revise-> draft
    advised, pending_approval -consult_authority-> prior_consultation -> pending_approval
    in_force -suspend-> suspended -resume-> in_force      anything open -withdraw-> withdrawn
    in_force, suspended -open_review-> -close_review-> the same

The two requests may be left out: advice and approval need nobody's invitation. With several
controllers, a DPIA stays in `dpo_review` until each of them has its advice, and in
`pending_approval` until each of them has approved. An approved DPIA whose time has come is in force
at once.

Author, evaluator, data protection officer and approver are four persons (Art. 35(2) and 38(6) GDPR:
the officer advises, and nobody advises on their own work).
"""

from collections.abc import Mapping
from typing import get_args

from fedcore.dpia_acts import ADVICE, APPROVALS, current_line, entities_without
from fedcore.dpias import ActRecord, DpiaAct, DpiaState
from fedcore.errors import TransitionError
from governance.decisions.dpia_rules import reasons_against
from governance.decisions.dpia_standing import FINAL_STATES, Standing, state_at

_OPEN_STATES = tuple(
    state for state in get_args(DpiaState) if state not in FINAL_STATES and state != "expired"
)
_JUDGED: tuple[DpiaState, ...] = ("evaluated", "dpo_review", "advised", "pending_approval")
_RUNNING: tuple[DpiaState, ...] = ("in_force", "suspended")
_ALL = ("author", "evaluator", "dpo", "approver", "compliance")
_Row = tuple[DpiaState, tuple[str, ...]]

# The state that follows when nothing is missing any more, and the roles that may do the act. An
# act whose state is its own leaves things as they are.
TRANSITIONS: Mapping[tuple[DpiaState, DpiaAct], _Row] = {
    ("draft", "submit"): ("submitted", ("author",)),
    ("submitted", "request_changes"): ("changes_requested", ("evaluator",)),
    ("changes_requested", "revise"): ("draft", ("author",)),
    ("submitted", "evaluate"): ("evaluated", ("evaluator",)),
    ("evaluated", "request_advice"): ("dpo_review", ("evaluator",)),
    ("evaluated", "advise"): ("advised", ("dpo",)),
    ("dpo_review", "advise"): ("advised", ("dpo",)),
    ("advised", "request_approval"): ("pending_approval", ("dpo",)),
    **{
        (state, act): ("approved", ("approver",))
        for state in ("advised", "pending_approval")
        for act in sorted(APPROVALS)
    },
    **{(state, "reject"): ("rejected", ("approver",)) for state in _JUDGED},
    ("advised", "consult_authority"): ("prior_consultation", ("approver",)),
    ("pending_approval", "consult_authority"): ("prior_consultation", ("approver",)),
    ("prior_consultation", "extend_consultation"): ("prior_consultation", ("dpo", "compliance")),
    ("prior_consultation", "answer_of_authority"): ("pending_approval", ("dpo", "compliance")),
    ("prior_consultation", "close_consultation"): ("pending_approval", ("dpo", "compliance")),
    ("approved", "enter_force"): ("in_force", ("compliance",)),
    ("approved_with_conditions", "enter_force"): ("in_force", ("compliance",)),
    ("approved_with_conditions", "fulfil_conditions"): (
        "approved_with_conditions",
        ("approver",),
    ),
    ("in_force", "fulfil_conditions"): ("in_force", ("approver",)),
    ("suspended", "fulfil_conditions"): ("suspended", ("approver",)),
    ("in_force", "suspend"): ("suspended", ("dpo", "compliance")),
    ("suspended", "resume"): ("in_force", ("approver",)),
    # A review asks people to look again; what may run is decided by suspending, or not.
    **{(state, "open_review"): (state, ("dpo", "compliance")) for state in _RUNNING},
    **{(state, "close_review"): (state, ("dpo", "approver", "compliance")) for state in _RUNNING},
    **{(state, "withdraw"): ("withdrawn", ("author",)) for state in _OPEN_STATES},
    **{(state, "comment"): (state, _ALL) for state in _OPEN_STATES},
}


def decide_transition(standing: Standing, act: ActRecord, role: str) -> DpiaState:
    """Return the state to store after an act of its actor, in the role of their account, now.

    Guarantees: only the table's transitions, only by their roles, and never by a person who has
        another duty on this DPIA; `in_force` only with an advice and an approval for each
        controller that takes part; after `valid_until` it can only be withdrawn.
    Raises: TransitionError `dpia.expired`, `dpia.act_not_allowed`, and as `reasons_against` with
        all that apply.
    """
    state = state_at(standing, act.acted_at)
    if state == "expired" and act.act != "withdraw":
        raise _refusal("dpia.expired", "the DPIA has expired: submit a new version")
    row = TRANSITIONS.get((standing.state if state == "expired" else state, act.act))
    if row is None:
        raise _refusal("dpia.act_not_allowed", f"{act.act} is no act on a DPIA that is {state}")
    target, roles = row
    reasons = reasons_against(standing, act, role, roles)
    if reasons:
        raise TransitionError(reasons)
    return standing.state if target == state else _reached(standing, act, target)


def _reached(standing: Standing, act: ActRecord, target: DpiaState) -> DpiaState:
    """Return how far an act gets: not to its target while another controller's act is missing."""
    line = (*current_line(standing.acts), act)
    if act.act == "advise" and entities_without(line, ADVICE, standing.entities):
        return "dpo_review"
    if act.act == "answer_of_authority" and act.verdict == "unfavourable":
        return "rejected"
    if act.act not in APPROVALS:
        return target
    if entities_without(line, APPROVALS, standing.entities):
        return "pending_approval"
    if standing.effective_from is None or standing.effective_from <= act.acted_at:
        return "in_force"
    conditional = any(done.act == "approve_with_conditions" for done in line)
    return "approved_with_conditions" if conditional else "approved"


def _refusal(code: str, sentence: str) -> TransitionError:
    return TransitionError([(code, sentence)])
