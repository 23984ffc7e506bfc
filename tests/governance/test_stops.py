"""The kill switch through the API: at once, until another person lifts it."""

import pytest

from fedcore.errors import ForbiddenError, InvalidRecordError, NotFoundError, RefusedError
from fedcore.stops import Stop, StopLift


def stop(world, role="dpo", scope="all", subject=None):
    return world.open(world.gateway(role).stop(scope, subject, "an incident"), Stop)


def refusal(world, run_id):
    with pytest.raises(RefusedError) as caught:
        world.permit(run_id)
    return caught.value.codes


SCOPES = [
    ("all", None),
    ("unit", "north"),
    ("purpose", "churn_prediction"),
    ("purpose", "marketing"),
    ("task", "churn"),
    ("dpia", "churn-dpia"),
]
OTHERS = [("unit", "west"), ("purpose", "survey"), ("task", "response"), ("dpia", "other-dpia")]


@pytest.mark.parametrize(("scope", "subject"), SCOPES)
def test_a_stop_revokes_what_it_concerns_and_lets_none_begin_until_it_is_lifted(
    world, scope, subject
):
    world.permit("run-1")
    pulled = stop(world, "dpo", scope, subject)
    assert pulled.stopped_by == "dora"
    for unit in ("north", "south"):
        assert world.bulletin(unit).revoked_runs == ("run-1",)
    assert refusal(world, "run-2") == ("stop.in_force",)
    lift = world.open(world.gateway("compliance").lift_stop(pulled.digest, "closed"), StopLift)
    assert (lift.stop, lift.lifted_by) == (pulled.digest, "carla")
    assert world.permit("run-2").run_id == "run-2"
    assert world.bulletin("north").revoked_runs == ("run-1",)


@pytest.mark.parametrize(("scope", "subject"), OTHERS)
def test_a_stop_of_something_else_changes_nothing_for_a_run(world, scope, subject):
    world.permit("run-1")
    stop(world, "dpo", scope, subject)
    assert world.bulletin("north").revoked_runs == ()
    assert world.permit("run-2").run_id == "run-2"
    world.gateway("operator").renew_permit("run-1")


def test_a_stop_ends_renewals_as_well_and_the_answer_names_it(world):
    world.permit("run-1")
    stop(world)
    with pytest.raises(RefusedError) as caught:
        world.gateway("operator").renew_permit("run-1")
    assert caught.value.codes == ("permit.revoked", "stop.in_force")


def test_who_has_stopped_lifts_in_no_role_and_another_person_does(world):
    pulled = stop(world, "dpo")
    world.api_keys["compliance"] = world.gateway("admin").create_account("dora", "compliance")
    with pytest.raises(RefusedError, match=r"stop\.same_person"):
        world.gateway("compliance").lift_stop(pulled.digest, "closed")
    assert refusal(world, "run-1") == ("stop.in_force",)
    world.api_keys["dpo"] = world.gateway("admin").create_account("dave", "dpo")
    world.gateway("dpo").lift_stop(pulled.digest, "closed")
    assert world.permit("run-1").run_id == "run-1"


def test_a_lift_happens_once_and_of_two_stops_each_must_be_lifted(world):
    first, second = stop(world), stop(world)
    assert (first.sequence, second.sequence) == (1, 2)
    lift = world.gateway("compliance").lift_stop(first.digest, "closed")
    world.clock.tick(minutes=1)
    assert world.gateway("compliance").lift_stop(first.digest, "again") == lift
    assert refusal(world, "run-1") == ("stop.in_force",)
    world.gateway("compliance").lift_stop(second.digest, "closed")
    assert world.permit("run-1").run_id == "run-1"


def test_a_finished_run_with_its_model_is_over_and_not_revoked(world, model_bytes):
    world.run("run-1")
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    world.permit("run-2")
    stop(world)
    assert world.bulletin("north").revoked_runs == ("run-2",)


def test_stops_are_logged_and_listed_with_what_lifted_them(world):
    pulled = stop(world, "compliance", "unit", "north")
    lift = world.gateway("dpo").lift_stop(pulled.digest, "closed")
    stop(world)
    kinds = [item["entry"]["kind"] for item in world.get("/v1/log/entries", "auditor")["entries"]]
    assert kinds[-3:] == ["stop", "stop-lift", "stop"]
    listed = world.get("/v1/stops", "auditor")["stops"]
    assert (listed[0]["stop"], listed[0]["lift"]) == (pulled.digest, lift.digest)
    assert listed[1]["lift"] is None


def test_only_compliance_and_the_dpo_pull_the_switch(world):
    for role in ("admin", "author", "operator", "approver", "evaluator", "auditor"):
        with pytest.raises(ForbiddenError, match=r"auth\.wrong_role"):
            world.gateway(role).stop("all", None, "r")
    assert world.permit("run-1").run_id == "run-1"


def test_a_stop_that_names_nothing_or_too_much_is_refused(world):
    for scope, subject in (("unit", None), ("all", "north")):
        with pytest.raises(InvalidRecordError, match=r"request\.invalid"):
            world.gateway("dpo").stop(scope, subject, "r")
    with pytest.raises(NotFoundError, match=r"stop\.unknown"):
        world.gateway("dpo").lift_stop("sha256:" + "0" * 64, "r")
