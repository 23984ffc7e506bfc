"""What acts on a DPIA must say, several controllers, conditions and the authority's clock."""

from datetime import UTC, datetime, timedelta

import pytest

from fedcore.dpia_acts import authority_due_at, open_conditions
from fedcore.dpias import ActRecord, Condition, DpiaState, ItemEvaluation
from fedcore.errors import TransitionError
from governance.decisions.dpia import decide_transition
from governance.decisions.dpia_standing import Standing, review_of, state_at

NOW = datetime(2025, 6, 1, tzinfo=UTC)
PEOPLE = {"author": "anna", "evaluator": "emil", "dpo": "dora", "approver": "paul"}
ROLE = {
    "submit": "author",
    "evaluate": "evaluator",
    "advise": "dpo",
    "extend_consultation": "compliance",
    "answer_of_authority": "compliance",
    "close_consultation": "compliance",
    "enter_force": "compliance",
    "open_review": "dpo",
}


class Case:
    """A DPIA that people act on, one day after the other."""

    def __init__(self, **changes):
        self.now = NOW
        self.acts = []
        self.values = {"valid_until": NOW + timedelta(days=365), **changes}
        self.state: DpiaState = "draft"

    @property
    def standing(self):
        return Standing(self.state, "anna", list(self.acts), **self.values)

    def act(self, act, **details):
        role = ROLE.get(act, "approver")
        record = ActRecord(
            act=act, actor=PEOPLE.get(role, "carla"), note="n", acted_at=self.now, **details
        )
        self.state = decide_transition(self.standing, record, role)
        self.acts.append(record)
        return self.state

    def refused(self, act, **details):
        with pytest.raises(TransitionError) as caught:
            self.act(act, **details)
        return caught.value.codes

    def advised(self, **details):
        self.act("submit")
        self.act("evaluate")
        return self.act("advise", **{"verdict": "favourable", **details})


def condition(id_="audit", days=10):
    return Condition(id=id_, text="t", owner="o", due_at=NOW + timedelta(days=days))


def test_each_controller_advises_and_approves_by_itself():
    case = Case(entities=("group", "west"))
    case.act("submit")
    case.act("evaluate")
    favourable = {"verdict": "favourable"}
    assert case.refused("advise", **favourable) == ("dpia.detail_missing",)
    assert case.refused("advise", entity="east", **favourable) == ("dpia.detail_unknown",)
    assert case.act("advise", entity="group", **favourable) == "dpo_review"
    assert case.refused("approve", entity="group") == ("dpia.act_not_allowed",)
    assert case.refused("advise", entity="group", **favourable) == ("dpia.entity_done",)
    assert case.act("advise", entity="west", **favourable) == "advised"
    assert case.refused("approve") == ("dpia.detail_missing",)
    assert case.act("approve", entity="west") == "pending_approval"
    assert case.refused("approve", entity="west") == ("dpia.entity_done",)
    assert case.act("approve", entity="group") == "in_force"


def test_what_was_said_before_a_new_submission_counts_no_more():
    case = Case(entities=("group", "west"))
    case.act("submit")
    case.act("evaluate")
    case.act("advise", entity="group", verdict="favourable")
    case.state = "draft"
    case.act("submit")
    case.act("evaluate")
    assert case.act("advise", entity="west", verdict="favourable") == "dpo_review"
    assert case.act("advise", entity="group", verdict="favourable") == "advised"


def test_an_advice_says_whether_it_is_in_favour():
    case = Case(entities=("company",))
    case.act("submit")
    case.act("evaluate")
    assert case.refused("advise") == ("dpia.detail_missing",)
    assert case.act("advise", verdict="favourable") == "advised"


@pytest.mark.parametrize("named", [{}, {"entity": "company"}])
def test_the_only_controller_need_not_be_named(named):
    case = Case(entities=("company",))
    assert case.advised(**named) == "advised"
    assert case.act("approve") == "in_force"


@pytest.mark.parametrize("entity", [None, "company"])
@pytest.mark.parametrize("approving", [None, "company"])
def test_unfavourable_advice_is_overruled_with_a_reason_or_not_at_all(entity, approving):
    case = Case(entities=("company",))
    case.advised(verdict="unfavourable", entity=entity)
    assert case.refused("approve", entity=approving) == ("dpia.advice_overruled",)
    assert case.act("approve", entity=approving, overruling_reason="r") == "in_force"


def test_only_the_controller_that_was_advised_against_needs_the_reason():
    case = Case(entities=("group", "west"))
    case.act("submit")
    case.act("evaluate")
    case.act("advise", entity="group", verdict="unfavourable")
    case.act("advise", entity="west", verdict="favourable")
    assert case.act("approve", entity="west") == "pending_approval"
    assert case.refused("approve", entity="group") == ("dpia.advice_overruled",)
    assert case.act("approve", entity="group", overruling_reason="r") == "in_force"


def test_an_evaluation_names_items_of_the_dpia_and_finds_none_unacceptable():
    case = Case(items=frozenset({"risks", "risks.leak"}))
    case.act("submit")

    def items(item, verdict):
        return {"items": (ItemEvaluation(item=item, verdict=verdict, text="t"),)}

    assert case.refused("evaluate", **items("risks.other", "acceptable")) == (
        "dpia.detail_unknown",
    )
    assert case.refused("evaluate", **items("risks.leak", "unacceptable")) == (
        "dpia.item_unacceptable",
    )
    assert case.act("evaluate", **items("risks.leak", "improvable")) == "evaluated"


@pytest.mark.parametrize(
    "details",
    [
        {"conditions": (condition(),)},
        {"fulfilled": ("audit",)},
        {"verdict": "favourable"},
        {"items": (ItemEvaluation(item="risks", verdict="acceptable", text="t"),)},
    ],
)
def test_a_detail_that_an_act_does_not_take_is_refused(details):
    case = Case(items=frozenset({"risks"}))
    case.advised()
    assert set(case.refused("approve", **details)) == {"dpia.detail_unknown"}
    assert case.act("approve") == "in_force"


def test_an_overdue_condition_suspends_until_the_approver_finds_it_fulfilled():
    case = Case()
    case.advised()
    assert case.refused("approve_with_conditions") == ("dpia.detail_missing",)
    assert case.act("approve_with_conditions", conditions=(condition(),)) == "in_force"
    assert case.standing.force_ends_at == NOW + timedelta(days=10)
    case.now += timedelta(days=10) - timedelta(seconds=1)
    assert state_at(case.standing, case.now) == "in_force"
    case.now += timedelta(seconds=1)
    assert state_at(case.standing, case.now) == "suspended"
    assert case.refused("resume") == ("dpia.condition_overdue",)
    assert case.refused("fulfil_conditions", fulfilled=("other",)) == ("dpia.detail_unknown",)
    case.act("fulfil_conditions", fulfilled=("audit",))
    assert state_at(case.standing, case.now) == "in_force"
    assert open_conditions(case.acts) == ()
    assert case.refused("fulfil_conditions", fulfilled=("audit",)) == ("dpia.detail_unknown",)


def test_fulfilling_a_condition_does_not_resume_what_people_have_suspended():
    case = Case()
    case.advised()
    case.act("approve_with_conditions", conditions=(condition(),))
    case.state = "suspended"
    case.act("fulfil_conditions", fulfilled=("audit",))
    assert state_at(case.standing, case.now) == "suspended"
    assert case.act("resume") == "in_force"


def test_conditions_have_ids_of_their_own_and_a_time_to_come():
    case = Case(entities=("group", "west"))
    case.act("submit")
    case.act("evaluate")
    for entity in ("group", "west"):
        case.act("advise", entity=entity, verdict="favourable")
    due = {"conditions": (condition(days=0),)}
    twice = {"conditions": (condition(), condition())}
    act = "approve_with_conditions"
    assert case.refused(act, entity="group", **due) == ("dpia.condition_overdue",)
    assert case.refused(act, entity="group", **twice) == ("dpia.condition_known",)
    case.act(act, entity="group", conditions=(condition(),))
    assert case.refused(act, entity="west", conditions=(condition(),)) == ("dpia.condition_known",)
    assert case.act(act, entity="west", conditions=(condition("report"),)) == "in_force"


@pytest.mark.parametrize(
    ("act", "details", "expected"),
    [
        ("approve", {}, "approved"),
        ("approve_with_conditions", {"conditions": (condition(),)}, "approved_with_conditions"),
    ],
)
def test_an_approved_dpia_enters_force_at_its_time(act, details, expected):
    case = Case(effective_from=NOW + timedelta(days=5))
    case.advised()
    assert case.act(act, **details) == expected
    case.now += timedelta(days=5) - timedelta(seconds=1)
    assert case.refused("enter_force") == ("dpia.not_effective_yet",)
    case.now += timedelta(seconds=1)
    assert case.act("enter_force") == "in_force"


def test_an_overdue_condition_keeps_an_approved_dpia_out_of_force():
    case = Case(effective_from=NOW + timedelta(days=20))
    case.advised()
    case.act("approve_with_conditions", conditions=(condition(),))
    case.now += timedelta(days=20)
    assert case.refused("enter_force") == ("dpia.condition_overdue",)
    case.act("fulfil_conditions", fulfilled=("audit",))
    assert case.act("enter_force") == "in_force"


@pytest.mark.parametrize(("extended", "weeks"), [(False, 8), (True, 14)])
def test_the_authority_has_eight_weeks_and_six_more_when_it_says_so(extended, weeks):
    case = Case(high_residual_risk=True)
    case.advised()
    assert case.refused("approve") == ("dpia.consultation_needed",)
    assert authority_due_at(case.acts) is None
    case.act("consult_authority")
    if extended:
        assert case.act("extend_consultation") == "prior_consultation"
    assert authority_due_at(case.acts) == NOW + timedelta(weeks=weeks)
    assert case.refused("approve") == ("dpia.act_not_allowed",)
    case.now += timedelta(weeks=weeks) - timedelta(seconds=1)
    assert case.refused("close_consultation") == ("dpia.authority_pending",)
    case.now += timedelta(seconds=1)
    assert case.act("close_consultation") == "pending_approval"
    assert case.act("approve") == "in_force"


@pytest.mark.parametrize(
    ("verdict", "state"), [("favourable", "pending_approval"), ("unfavourable", "rejected")]
)
def test_the_answer_of_the_authority_decides(verdict, state):
    case = Case(high_residual_risk=True)
    case.advised()
    case.act("consult_authority")
    assert case.refused("answer_of_authority") == ("dpia.detail_missing",)
    assert case.act("answer_of_authority", verdict=verdict) == state


def test_a_draft_that_lacks_something_is_not_submitted():
    case = Case(lacks=(("dpia.incomplete", "It lacks risks."),))
    assert case.refused("submit") == ("dpia.incomplete",)
    case.values["lacks"] = ()
    assert case.act("submit") == "submitted"


def in_force():
    case = Case()
    case.advised()
    case.act("approve")
    return case


def test_a_review_is_a_flag_and_changes_no_state():
    case = in_force()
    assert review_of(case.standing, case.now) is None
    assert case.refused("close_review") == ("dpia.no_review",)
    assert case.act("open_review") == "in_force"
    assert review_of(case.standing, case.now) == case.acts[-1]
    assert case.refused("open_review") == ("dpia.review_open",)
    case.state = "suspended"
    assert review_of(case.standing, case.now) is not None
    assert case.act("close_review") == "suspended"
    assert review_of(case.standing, case.now) is None
    assert case.refused("close_review") == ("dpia.no_review",)
    assert case.act("open_review") == "suspended"


@pytest.mark.parametrize("over", ["superseded", "expired"])
def test_what_is_over_is_not_under_review(over):
    case = in_force()
    case.act("open_review")
    if over == "expired":
        case.now = case.standing.valid_until
    else:
        case.state = over
    assert review_of(case.standing, case.now) is None


@pytest.mark.parametrize(("name", "allowed"), [("dora", False), ("anna", False), ("carla", True)])
def test_neither_who_opened_a_review_nor_the_author_closes_it(name, allowed):
    """A person may have several roles: the DPO who opened it, or the author, as compliance too."""
    case = in_force()
    case.act("open_review")
    act = ActRecord(act="close_review", actor=name, note="n", acted_at=case.now)
    if allowed:
        assert decide_transition(case.standing, act, "compliance") == "in_force"
        return
    with pytest.raises(TransitionError) as caught:
        decide_transition(case.standing, act, "compliance")
    assert caught.value.codes == ("dpia.review_same_person",)
