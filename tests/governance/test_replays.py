"""Kept decisions are decided once more, from what was kept with them."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text

from fedcore.errors import RefusedError
from governance.decisions.gate import RULE_VERSION


def replays(world, run_id="run-1"):
    answer = world.get(f"/v1/permits/{run_id}/replays", "auditor")
    assert answer["rules"] == RULE_VERSION
    return answer["replays"]


def ask(world, run_id="run-1"):
    with pytest.raises(RefusedError):
        world.permit(run_id)


def a_history(world):
    """Refusals and leave, for a run and for its renewals, while the facts change."""
    world.gateway("dpo").stop("all", None, "an incident")
    ask(world)
    [listed] = world.get("/v1/stops", "auditor")["stops"]
    world.gateway("compliance").lift_stop(listed["stop"], "closed")
    world.permit()
    world.gateway("operator").renew_permit("run-1")
    world.gateway("dpo").act_on_dpia(world.dpia().digest, "suspend", "a new risk")
    world.gateway("compliance").revoke_node("north", "a stolen machine")
    with pytest.raises(RefusedError):
        world.gateway("operator").renew_permit("run-1")


def change_kept(world, change):
    engine = create_engine(world.settings.database_url)
    with engine.begin() as connection:
        for row in connection.execute(text("SELECT id, document FROM gate_decisions")).all():
            connection.execute(
                text("UPDATE gate_decisions SET document = :document WHERE id = :id"),
                {"document": change(row.document), "id": row.id},
            )
    engine.dispose()


def test_every_kept_decision_is_answered_alike_although_the_facts_have_changed_since(world):
    a_history(world)
    world.clock.tick(days=400)
    seen = replays(world)
    assert [item["codes"] for item in seen] == [
        ["stop.in_force"],
        [],
        [],
        ["permit.revoked", "dpia.not_in_force", "unit.revoked"],
    ]
    assert [item["codes_today"] for item in seen] == [item["codes"] for item in seen]
    assert {item["agrees"] for item in seen} == {True}
    assert {item["rules"] for item in seen} == {RULE_VERSION}


def test_decisions_show_the_version_of_the_rules(world):
    world.permit()
    [shown] = world.get("/v1/permits/run-1/decisions", "auditor")["decisions"]
    assert shown["rules"] == RULE_VERSION


def test_kept_facts_that_were_changed_do_not_agree(world):
    world.permit()
    later = (world.clock.now + timedelta(days=365)).isoformat()
    change_kept(world, lambda kept: json.dumps({**json.loads(kept), "now": later}))
    [item] = replays(world)
    assert (item["codes"], item["codes_today"], item["agrees"]) == ([], ["dpia.expired"], False)


def test_changed_facts_that_lead_to_the_same_answer_do_not_agree_either(world):
    world.permit()
    change_kept(world, lambda kept: json.dumps({**json.loads(kept), "revoked_units": ["west"]}))
    [item] = replays(world)
    assert (item["codes_today"], item["agrees"]) == ([], False)


def test_a_decision_of_before_is_shown_without_facts_and_nothing_is_made_up(world):
    world.permit()
    change_kept(world, lambda _kept: None)
    [item] = replays(world)
    assert (item["codes"], item["codes_today"], item["agrees"]) == ([], None, None)
