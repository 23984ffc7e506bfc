"""Whatever people try, in whatever order: no way into force but the one of advice and approval."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fedcore.dpia_acts import open_conditions
from fedcore.dpias import ActRecord, Condition, DpiaAct, DpiaState
from fedcore.errors import TransitionError
from governance.decisions.dpia import TRANSITIONS, decide_transition
from governance.decisions.dpia_standing import Standing, state_at

NOW = datetime(2025, 6, 1, tzinfo=UTC)
ACTS = get_args(DpiaAct)
IDLE = {"comment", "withdraw", "reject", "request_changes", "suspend"}
USUAL = {
    "author": "anna",
    "evaluator": "emil",
    "dpo": "dora",
    "approver": "paul",
    "compliance": "carla",
}
ROLES = tuple(USUAL)
APPROVALS = {"approve", "approve_with_conditions"}
# How a DPIA comes into force when nobody errs; who must speak for each controller does.
USUAL_LINE: tuple[tuple[DpiaAct, str], ...] = (
    ("submit", "author"),
    ("evaluate", "evaluator"),
    ("advise", "dpo"),
    ("consult_authority", "approver"),
    ("answer_of_authority", "compliance"),
    ("approve", "approver"),
)


class Walk(RuleBasedStateMachine):
    """Five people in any role do any act, mostly one that the state allows."""

    state: DpiaState

    @initialize(
        entities=st.sampled_from([(), ("group",), ("group", "west")]),
        waits=st.booleans(),
        high=st.booleans(),
        begun=st.booleans(),
    )
    def draft(self, entities, waits, high, begun):
        self.now, self.acts = NOW, []
        self.state: DpiaState = "draft"
        self.values = {
            "valid_until": NOW + timedelta(days=400),
            "effective_from": NOW + timedelta(days=3) if waits else None,
            "entities": entities,
            "high_residual_risk": high,
        }
        if begun:
            self.go_the_usual_way()

    def go_the_usual_way(self):
        for act, role in USUAL_LINE:
            spoken = self.values["entities"] if act in {"advise", "approve"} else ()
            judged = act in {"advise", "answer_of_authority"}
            details = {"verdict": "favourable"} if judged else {}
            for entity in spoken or (None,):
                self.do(act, USUAL[role], role, {**details, "entity": entity})
        if self.values["effective_from"]:
            self.now = self.values["effective_from"]
            self.do("enter_force", "carla", "compliance", {})

    def do(self, act, name, role, details):
        record = ActRecord(act=act, actor=name, note="n", acted_at=self.now, **details)
        self.state = decide_transition(self.standing, record, role)
        self.acts.append(record)

    @property
    def standing(self):
        return Standing(self.state, "anna", tuple(self.acts), **self.values)

    @rule(data=st.data(), mischief=st.integers(0, 5))
    def act(self, data, mischief):
        state = state_at(self.standing, self.now)
        fitting = [key[1] for key in TRANSITIONS if key[0] == state]
        # Going round in circles and giving up lead nowhere: most walks do neither.
        onward = [act for act in fitting if act not in IDLE]
        act = data.draw(st.sampled_from((onward if mischief else fitting) or ACTS))
        role = data.draw(st.sampled_from(TRANSITIONS.get((state, act), ("", ROLES))[1]))
        name = USUAL[role] if mischief else data.draw(st.sampled_from(sorted(USUAL.values())))
        entity = data.draw(st.sampled_from(self.values["entities"] or (None,)))
        details = self.details(data, act, entity)
        with suppress(TransitionError):
            self.do(act, name, role, details)

    def details(self, data, act, entity):
        verdict = data.draw(st.sampled_from(["favourable", "favourable", "unfavourable"]))
        spoken = {"entity": entity, "overruling_reason": data.draw(st.sampled_from([None, "r"]))}
        due_at = self.now + timedelta(days=data.draw(st.integers(0, 30)))
        condition = Condition(id=f"c{len(self.acts)}", text="t", owner="o", due_at=due_at)
        open_ids = tuple(item.id for item in open_conditions(self.acts))
        return {
            "advise": {"entity": entity, "verdict": verdict},
            "approve": spoken,
            "approve_with_conditions": {**spoken, "conditions": (condition,)},
            "answer_of_authority": {"verdict": verdict},
            "fulfil_conditions": {"fulfilled": open_ids or None},
        }.get(act, {})

    @rule(days=st.sampled_from([1, 2, 4, 60]))
    def wait(self, days):
        self.now += timedelta(days=days)

    @invariant()
    def in_force_only_after_all_that_it_takes(self):
        if not hasattr(self, "values") or state_at(self.standing, self.now) != "in_force":
            return
        last = max(place for place, act in enumerate(self.acts) if act.act == "submit")
        line = self.acts[last:]
        # All four duties over the DPIA's whole life, and nobody with two of them.
        duties = [
            {act.actor for act in self.acts if act.act in kinds}
            for kinds in ({"submit"}, {"evaluate"}, {"advise"}, APPROVALS)
        ]
        assert all(duties)
        assert sum(map(len, duties)) == len(set().union(*duties))
        for entity in self.values["entities"]:
            for kinds in ({"advise"}, APPROVALS):
                spoken = [act.entity for act in line if act.act in kinds]
                assert entity in spoken or (len(self.values["entities"]) == 1 and spoken)
        approvals = [act for act in line if act.act in APPROVALS]
        against = [
            act.entity for act in line if act.act == "advise" and act.verdict == "unfavourable"
        ]
        for approval in approvals:
            overruled = any(
                None in {entity, approval.entity} or entity == approval.entity for entity in against
            )
            assert approval.overruling_reason or not overruled
        heard = {"answer_of_authority", "close_consultation"} & {act.act for act in line}
        assert heard or not self.values["high_residual_risk"]
        assert self.now >= (self.values["effective_from"] or self.now)
        assert all(item.due_at > self.now for item in open_conditions(self.acts))
        assert self.now < self.values["valid_until"]


def test_no_walk_comes_into_force_another_way():
    chosen = settings(max_examples=150, stateful_step_count=30, deadline=None, derandomize=True)
    run_state_machine_as_test(Walk, settings=chosen)


@pytest.mark.parametrize("entities", [(), ("group",), ("group", "west")])
def test_walks_that_begin_the_usual_way_begin_in_force(entities):
    """Half of the walks do: what is asked of what is in force is asked, whatever is drawn."""
    for waits, high in product((False, True), repeat=2):
        walk = Walk()
        walk.draft(entities, waits, high, begun=True)
        assert walk.state == "in_force"
        walk.in_force_only_after_all_that_it_takes()
        walk.acts = [act for act in walk.acts if act.act != "evaluate"]
        with pytest.raises(AssertionError):
            walk.in_force_only_after_all_that_it_takes()
