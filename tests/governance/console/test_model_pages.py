"""Pages of a version on its way to champion: audits, waivers, the gate, approvals, moves."""

import re
from datetime import timedelta

import numpy as np
import pytest
from safetensors.numpy import save

from fedcore.audit_lists import WaiverRequest
from fedcore.canonical import digest
from fedcore.fairness_audits import Waiver
from fedcore.model_decisions import DecisionRequest
from fedcore.record import Realm
from governance.roles import HOUSE_ROLES, ROLES

MODEL = "/console/models/churn/3"
GATE = f"{MODEL}/gate"
AUDIT = "/console/audits/eval-1"


@pytest.fixture
def realm():
    """Nothing of a simulation gets an alias."""
    return Realm.PRODUCTION


@pytest.fixture
def audited(evaluating, model_bytes):
    """Version 3 of a model, trained under a DPIA that binds an audit."""
    evaluating.world.take_into_force(evaluating.audited_dpia(2))
    evaluating.train("run-3", model_bytes)
    return evaluating


def seen(world):
    return world.gateway("auditor").check_promotion("churn", 3, "champion").evidence


def approve(world, *roles):
    for role in roles:
        world.gateway(role).approve_model("churn", 3, seen(world), f"read by {role} <b>")


def waive(world, audit, role, **terms):
    request = WaiverRequest(audit=audit.digest, **terms)
    return world.open(world.gateway(role).waive_audit("churn", 3, request), Waiver)


def verdicts(page):
    return re.findall(r"<code>(promotion\.\w+)</code>.*?<td>(<strong>|Holds)", page)


def test_the_gate_shows_every_rule_and_what_speaks_against_it_until_nothing_does(
    audited, browser_of
):
    world, browser = audited.world, browser_of("compliance")
    page = browser.get(GATE).text
    check = world.gateway("compliance").check_promotion("churn", 3, "champion")
    expected = [(one.code, "<strong>" if one.objection else "Holds") for one in check.verdicts]
    assert verdicts(page) == expected
    assert "There is no fairness audit of this version: run one." in page
    assert "Nobody has approved it." in page
    audited.audit("run-3", "eval-1", "alike")
    approve(world, "approver", "evaluator")
    page = browser.get(GATE).text
    assert {shown for _, shown in verdicts(page)} == {"Holds"}
    assert f"All {len(check.verdicts)} rules hold: you may make it champion." in page
    assert "an approver or compliance may make it champion" in browser_of("auditor").get(GATE).text
    assert page.count("(it counts)") == 2
    assert "read by approver &lt;b&gt;" in page


def test_who_wrote_the_plan_is_told_at_the_gate_that_another_person_moves_the_alias(
    audited, browser_of
):
    assert "You wrote the plan" in browser_of("author").get(GATE).text
    assert "You wrote the plan" not in browser_of("auditor").get(GATE).text


def test_an_approval_of_older_evidence_is_shown_as_one_that_counts_no_more(audited, browser_of):
    approve(audited.world, "approver")
    assert "(it counts)" in browser_of("dpo").get(GATE).text
    audited.audit("run-3", "eval-1", "alike")
    page = browser_of("dpo").get(GATE).text
    assert "(it counts)" not in page
    assert "of other evidence: it counts no more" in page


def test_a_version_shows_where_it_stands_and_every_move(audited, browser_of):
    world, browser = audited.world, browser_of("author")
    assert "neither champion nor challenger" in browser.get(MODEL).text
    assert "No version has had an alias yet." in browser.get(MODEL).text
    audited.audit("run-3", "eval-1", "alike")
    approve(world, "approver", "evaluator")
    at = world.gateway("auditor").see_aliases("churn")[1]
    world.gateway("compliance").promote_model(("churn", 3), "champion", "best <i>yet</i>", at)
    page = browser.get(MODEL).text
    assert "<dt>Stands as</dt><dd>champion</dd>" in page
    assert "Promoted: version 3" in page
    assert "best &lt;i&gt;yet&lt;/i&gt;" in page
    gate = browser_of("compliance").get(GATE).text
    assert "It is champion. 0 of" in gate
    listed = browser.get("/console/models").text
    assert "<td>3</td><td>champion</td>" in listed
    assert listed.count("<td>champion</td>") == 1
    at = world.gateway("auditor").see_aliases("churn")[1]
    world.gateway("dpo").roll_back("churn", "champion", "harm", at)
    page = browser.get(MODEL).text
    assert "Rolled back: nobody, before it version 3" in page
    assert "neither champion nor challenger" in page


def test_an_audit_shows_its_bounds_groups_and_who_waived_it(audited, browser_of):
    world = audited.world
    audit = audited.audit("run-3", "eval-1", "one selected more")
    browser = browser_of("auditor")
    told = f'<a href="{AUDIT}">eval-1</a></th><td>1</td><td><strong>FAIL</strong></td><td>0.5</td>'
    assert told in browser.get(MODEL).text
    page = browser.get(AUDIT).text
    assert "<dt>Selected from a score of</dt><dd>0.5</dd>" in page
    assert "Nobody has waived the audit of this version that decides." in page
    (bound,) = audit.found.bounds
    for one in bound.compared:
        assert f"<td>{one.low:.3f} to {one.high:.3f}</td>" in page
    for group in audit.found.groups:
        assert f"<td>{group.group}</td><td>{group.people}</td>" in page
    ends = world.clock.now + timedelta(minutes=5)
    first = waive(world, audit, "approver", reason="why <b>not</b>", expires_at=ends)
    assert "a second person has not joined it" in browser.get(AUDIT).text
    waive(world, audit, "evaluator", joins=first.digest)
    page = browser.get(AUDIT).text
    assert "paul and emil, until" in page
    assert page.count("why &lt;b&gt;not&lt;/b&gt; (it counts)") == 1
    assert "has not joined it" not in page
    again = waive(world, audit, "approver", reason="anew", expires_at=ends)
    waive(world, audit, "evaluator", joins=again.digest)
    page = browser.get(AUDIT).text
    assert "anew (it counts)" in page
    assert "why &lt;b&gt;not&lt;/b&gt; (a newer one counts)" in page
    world.clock.tick(minutes=6)
    page = browser.get(AUDIT).text
    assert "(it counts)" not in page
    assert "(it has ended)" in page
    assert "(it has ended)" in browser.get(MODEL).text


def test_a_small_group_and_a_further_audit_are_said_as_such(audited, browser_of):
    audited.audit("run-3", "eval-1", "hardly anybody in one")
    audited.audit("run-3", "eval-2", "alike")
    browser = browser_of("auditor")
    page = browser.get(AUDIT).text
    assert "<strong>INSUFFICIENT</strong>" in page
    assert page.count("<td>not shown</td>") == 3
    page = browser.get("/console/audits/eval-2").text
    assert "<strong>PASS</strong>" in page
    assert "Audit number 2 of this version" in page


def test_an_audits_page_is_for_the_house_and_runs_nothing(audited, browser_of):
    audited.audit("run-3", "eval-1", "alike")
    policy = browser_of("auditor").get("/console/models").headers["content-security-policy"]
    for role in ROLES:
        answer = browser_of(role).get(AUDIT)
        assert answer.status_code == (200 if role in HOUSE_ROLES else 403)
        assert answer.headers["content-security-policy"] == policy
    assert browser_of().get(AUDIT).status_code == 303
    text = browser_of("auditor").get(AUDIT).text.lower()
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:|https?://", text)
    assert browser_of("auditor").get("/console/audits/run-3").status_code == 404


def test_a_version_that_rests_on_a_withdrawn_one_is_marked_as_well_as_that_one(
    audited, browser_of, model_bytes
):
    world, browser = audited.world, browser_of("auditor")
    audited.train("run-4", save({"w": np.ones(2)}), initial_model=digest(model_bytes))
    audited.train("run-5", save({"w": np.zeros(2)}))
    world.clock.tick(minutes=10)
    world.gateway().submit_opt_out(world.sign(world.opt_out("north", 1), "north"))
    values = {"unit": "north", "up_to": 1, "reason": "r"}
    for outcome, role in (("withdrawn", "compliance"), ("kept", "dpo")):
        request = DecisionRequest.model_validate({**values, "outcome": outcome})
        world.gateway(role).decide_model("churn", 3, request, "*")
        gone = outcome == "withdrawn"
        listed = browser.get("/console/models").text
        assert listed.count("<strong>withdrawn</strong>") == gone
        assert listed.count("<strong>rests on a withdrawn model</strong>") == gone
        pages = [browser.get(f"/console/models/churn/{version}").text for version in (3, 4, 5)]
        assert ["Withdrawn: a decision" in page for page in pages] == [gone, False, False]
        assert ["It rests on" in page for page in pages] == [False, gone, False]
