"""Renewals of permits through the API: when governance says yes once more, and when it does not."""

from datetime import timedelta

import pytest

from fedcore.errors import ExpiredError, NotFoundError, RefusedError
from fedcore.permits import PermitRenewal
from fedcore.signing import SigningKey
from fedcore.trust import verify_permit_time, verify_renewal

HOUR = timedelta(hours=1)


@pytest.fixture
def brief(make_world, ready):
    """A world whose permits count for an hour."""
    return make_world(ready, permit_valid_s=3600)


def renew(world, run_id="run-1"):
    return world.open(world.gateway("operator").renew_permit(run_id), PermitRenewal)


def refused(world, run_id="run-1"):
    with pytest.raises(RefusedError) as caught:
        renew(world, run_id)
    return set(caught.value.codes)


def kept(world):
    return [d["codes"] for d in world.get("/v1/permits/run-1/decisions", "auditor")["decisions"]]


def test_a_renewal_lets_the_very_permit_count_longer(brief):
    permit = brief.permit()
    brief.clock.tick(minutes=40)
    renewal = renew(brief)
    verify_renewal(renewal, permit)
    assert (renewal.sequence, renewal.issued_at) == (1, brief.clock.now)
    assert renewal.expires_at == brief.clock.now + HOUR
    brief.clock.tick(minutes=30)
    with pytest.raises(ExpiredError):
        verify_permit_time(permit, brief.clock.now)
    verify_permit_time(permit, brief.clock.now, [renewal])
    assert brief.permit() == permit


def test_a_renewal_is_answered_again_while_it_lasts_and_the_log_does_not_grow(brief):
    brief.permit()
    first = renew(brief)
    size = brief.bulletin("north").log.size
    brief.clock.tick(minutes=29)
    assert renew(brief) == first
    assert brief.bulletin("north").log.size == size
    brief.clock.tick(minutes=1)
    second = renew(brief)
    assert (second.sequence, second.expires_at) == (2, brief.clock.now + HOUR)


def test_a_permit_that_has_expired_is_renewed_as_well(brief):
    permit = brief.permit()
    brief.clock.tick(hours=5)
    verify_permit_time(permit, brief.clock.now, [renew(brief)])


def test_every_answer_is_kept_yes_and_no_alike(brief):
    brief.permit()
    renew(brief)
    brief.gateway("dpo").revoke_permit("run-1", "a complaint")
    assert "permit.revoked" in refused(brief)
    assert kept(brief) == [[], [], ["permit.revoked"]]


def test_a_revoked_permit_is_never_renewed_and_another_runs_is(brief):
    brief.permit("run-1")
    brief.permit("run-2")
    brief.gateway("dpo").revoke_permit("run-1", "a complaint")
    assert "permit.revoked" in refused(brief)
    assert renew(brief, "run-2").run_id == "run-2"


def test_a_finished_run_needs_no_more_time(brief):
    permit = brief.permit()
    first = brief.round(permit, 1, None)
    assert renew(brief).run_id == "run-1"
    brief.round(permit, 2, first)
    assert refused(brief) == {"permit.run_finished"}


def test_the_gate_decides_anew_about_the_permits_own_dpia(brief):
    """A newer DPIA in force, under which the plan would get a permit, does not help an old one."""
    brief.permit()
    (running,) = {brief.dpia().digest}
    brief.gateway("dpo").act_on_dpia(running, "suspend", "a new risk")
    assert "dpia.not_in_force" in refused(brief)


def test_a_dpia_that_has_ended_ends_the_renewals(brief):
    permit = brief.permit()
    end = brief.dpia().valid_until
    brief.clock.now = end - timedelta(minutes=10)
    renewal = renew(brief)
    assert renewal.expires_at == end
    brief.clock.now = end
    assert refused(brief) >= {"dpia.expired"}
    with pytest.raises(ExpiredError):
        verify_permit_time(permit, end, [renewal])


def test_a_unit_that_is_revoked_ends_the_renewals(brief):
    brief.permit()
    assert renew(brief)
    brief.gateway("compliance").revoke_node("north", "a stolen machine")
    brief.clock.tick(minutes=31)
    assert refused(brief) & {"unit.revoked", "unit.not_enrolled"}


def test_only_the_server_of_the_permit_renews_it(brief):
    brief.permit()
    other = SigningKey.generate().public
    brief.api_keys["operator"] = brief.gateway("admin").create_account("olga", "operator", other)
    assert refused(brief) == {"permit.other_server"}
    with pytest.raises(NotFoundError, match=r"permit\.unknown"):
        renew(brief, "run-9")


def test_a_round_counts_in_a_renewed_window_and_not_between_two(brief):
    permit = brief.permit()
    first = brief.round(permit, 1, None)
    brief.clock.tick(hours=2)
    receipts = [brief.receipt(permit, unit, 2) for unit in ("north", "south")]
    report = brief.report(receipts, first)
    with pytest.raises(ExpiredError, match=r"permit\.expired"):
        brief.submit(report, receipts)
    brief.clock.tick(minutes=10)
    renew(brief)
    # Made when nothing allowed it, it is not recorded later either.
    with pytest.raises(ExpiredError, match=r"permit\.expired"):
        brief.submit(report, receipts)
    brief.round(permit, 2, first)


def test_a_report_made_in_time_is_recorded_after_a_renewal(brief):
    permit = brief.permit()
    receipts = [brief.receipt(permit, unit, 1) for unit in ("north", "south")]
    report = brief.report(receipts, None)
    brief.clock.tick(hours=2)
    with pytest.raises(ExpiredError, match=r"permit\.expired"):
        brief.submit(report, receipts)
    renew(brief)
    brief.submit(report, receipts)
