"""Permits through the API."""

import math
from datetime import timedelta

import pytest

from fedcore.bulletins import epoch_of
from fedcore.caps import EpsilonCaps
from fedcore.errors import ConflictError, NotFoundError, RefusedError
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.trust import verify_permit, verify_permit_time


def test_a_permit_holds_against_the_rules_that_nodes_apply(world):
    permit = world.permit()
    verify_permit(permit, world.plan(), "run-1", world.settings.realm)
    verify_permit_time(permit, world.clock.now)
    assert permit.server_key == world.keys["operator"].public
    assert permit.author_key == world.keys["author"].public
    assert {grant.node_key for grant in permit.cohort} == {
        world.keys[unit].public for unit in ("north", "south")
    }
    assert permit.min_opt_out_epoch == epoch_of(world.clock.now)
    assert permit.accepted_versions == ("test-1",)


def test_a_permit_grants_the_epsilon_of_all_rounds_and_spare_ones_and_hardly_more(world):
    plan = world.plan()
    needed = renyi_epsilon([plan.round_event()] * 3, plan.privacy.delta)
    granted = world.permit().cohort[0].epsilon
    assert needed <= granted <= needed + 1e-8
    assert math.isfinite(granted)


def test_the_same_run_and_plan_get_the_same_permit(world):
    first = world.permit("run-1")
    world.clock.tick(minutes=5)
    assert world.permit("run-1") == first
    assert world.permit("run-2") != first


def test_a_known_run_gets_no_permit_for_another_plan(world):
    world.permit("run-1")
    other = world.plan(rounds=1)
    world.register(other)
    with pytest.raises(ConflictError, match=r"permit\.run_known"):
        world.permit("run-1", other)
    assert world.permit("run-2", other).rounds == 1


@pytest.mark.parametrize("kind", ["evaluate", "score"])
def test_a_permit_that_nobody_could_act_on_is_refused_and_the_refusal_kept(world, kind):
    body = {"plan": world.plan().digest, "run_id": "run-1", "kind": kind}
    headers = {"Authorization": f"Bearer {world.api_keys['operator']}"}
    refused = world.client.post("/v1/permits", json=body, headers=headers)
    assert (refused.status_code, refused.json()["codes"]) == (403, ["permit.kind_not_served"])
    [kept] = world.get("/v1/permits/run-1/decisions", "auditor")["decisions"]
    assert kept["codes"] == ["permit.kind_not_served"]
    assert world.permit("run-1").kind == "train"
    known = world.client.post("/v1/permits", json=body, headers=headers)
    assert (known.status_code, known.json()["code"]) == (409, "permit.run_known")


def test_an_unregistered_plan_is_not_found(world):
    other = world.plan(rounds=1)
    with pytest.raises(NotFoundError, match=r"plan\.unknown"):
        world.permit("run-1", other)
    world.register(other)
    assert world.permit("run-1", other).plan == other.digest


def test_a_refusal_carries_every_code_and_is_kept_like_a_yes(world):
    bad = world.plan(task="response", purpose="marketing", title="Bad")
    world.register(bad)
    with pytest.raises(RefusedError) as caught:
        world.permit("run-1", bad)
    assert caught.value.codes == ("dpia.task_differs", "dpia.purpose_not_covered")
    assert world.permit("run-1").plan == world.plan().digest
    kept = world.get("/v1/permits/run-1/decisions", "auditor")["decisions"]
    assert [(item["plan"], item["codes"]) for item in kept] == [
        (bad.digest, ["dpia.task_differs", "dpia.purpose_not_covered"]),
        (world.plan().digest, []),
    ]
    assert kept[0]["facts"] != kept[1]["facts"]


def test_a_permit_ends_with_its_dpia_at_the_latest(make_world, ready):
    world = make_world(ready, permit_valid_s=7200)
    assert world.permit("run-1").expires_at == world.clock.now + timedelta(hours=2)
    world.clock.tick(days=300, hours=-1)
    assert world.permit("run-2").expires_at == world.dpia().valid_until


def test_a_revocation_names_the_permit_and_happens_once(world):
    permit = world.permit()
    path = "/v1/permits/run-1/revocation"
    headers = {"Authorization": f"Bearer {world.api_keys['dpo']}"}
    first = world.client.post(path, json={"reason": "r"}, headers=headers).json()
    world.clock.tick(minutes=1)
    assert world.client.post(path, json={"reason": "x"}, headers=headers).json() == first
    world.gateway("compliance").revoke_permit("run-1", "again")
    assert world.bulletin("south").revoked_runs == (permit.run_id,)


def test_an_unknown_run_has_no_permit_to_read_or_revoke(world):
    with pytest.raises(NotFoundError, match=r"permit\.unknown"):
        world.gateway("dpo").revoke_permit("run-9", "r")
    assert world.get("/v1/permits/run-9", "auditor")["code"] == "permit.unknown"


def test_the_minimum_cohort_is_the_stricter_of_plan_and_dpia(world):
    lax = world.plan(minimum_units=1)
    world.register(lax)
    assert world.permit("run-1", lax).minimum_cohort == 2


def test_a_permit_carries_the_caps_that_the_dpia_binds_ledgers_to(world):
    assert world.permit().ledger_caps is None
    caps = EpsilonCaps(purpose=6.0, year=2.5)
    before = world.dpia()
    days = next(kept.days for kept in before.retention if kept.what == "updates")
    kept = {"ledger_caps": caps, "update_retention_days": days}
    bindings = before.bindings.model_copy(update=kept)
    world.take_into_force(world.dpia(version=2, bindings=bindings))
    assert world.permit("run-2").ledger_caps == caps
    assert world.permit("run-2").update_retention_days == days
