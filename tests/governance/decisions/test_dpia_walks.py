"""Whatever people try, in whatever order: no way into force but the one of advice and approval."""

from datetime import UTC, datetime, timedelta
from typing import get_args

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
REACHED_FORCE: list[tuple[str, ...]] = []


class Walk(RuleBasedStateMachine):
    """Five people in any role do any act, mostly one that the state allows."""

    @initialize(
        entities=st.sampled_from([(), ("group",), ("group", "west")]),
        waits=st.booleans(),
        high=st.booleans(),
    )
    def draft(self, entities, waits, high):
        self.now, self.acts = NOW, []
        self.state: DpiaState = "draft"
        self.values = {
            "valid_until": NOW + timedelta(days=400),
            "effective_from": NOW + timedelta(days=3) if waits else None,
            "entities": entities,
            "high_residual_risk": high,
        }

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
        record = ActRecord(
            act=act, actor=name, note="n", acted_at=self.now, **self.details(data, act, entity)
        )
        try:
            self.state = decide_transition(self.standing, record, role)
        except TransitionError:
            return
        self.acts.append(record)

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
        REACHED_FORCE.append(self.values["entities"])
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


def test_no_walk_comes_into_force_another_way_and_many_do_come():
    REACHED_FORCE.clear()
    chosen = settings(max_examples=150, stateful_step_count=30, deadline=None, derandomize=True)
    run_state_machine_as_test(Walk, settings=chosen)
    assert set(REACHED_FORCE) == {(), ("group",), ("group", "west")}
