"""Fairness audits and waivers from the outside, up to the champion that rests on them."""

import importlib.util
import json
import re
from contextlib import nullcontext
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fedcore import cli, gateway_http
from fedcore.audit_lists import WaiverRequest
from fedcore.bundle import read_bundle
from fedcore.errors import ForbiddenError, InvalidRecordError, NotFoundError, RefusedError
from fedcore.evaluation_outcomes import Evaluation
from fedcore.evaluations import EvaluationPlan
from fedcore.fairness_audits import Waiver
from fedcore.fairness_bindings import AuditTerms, SensitiveAttribute
from fedcore.models import LogEntry
from fedcore.plans import MetricFloor
from fedcore.promotions import Promotion
from fedcore.record import Realm
from fedcore.verify import verify_bundle
from governance.decisions.card_parts import show_measured

GOLDEN = Path(__file__).parents[1] / "golden"
FLOORS = (MetricFloor(metric="roc_auc", floor=0.6),)


@pytest.fixture
def realm():
    """Nothing of a simulation gets an alias."""
    return Realm.PRODUCTION


@pytest.fixture
def audited(evaluating, model_bytes):
    """Version 3 of a model, trained by a plan with a floor under a DPIA that binds an audit."""
    evaluating.world.take_into_force(evaluating.audited_dpia(2))
    evaluating.train("run-3", model_bytes, metric_floors=FLOORS)
    return evaluating


def objections(world, version=3):
    found = world.gateway("auditor").check_promotion("churn", version, "champion")
    return tuple(one.code for one in found.verdicts if one.objection is not None)


def approve(world, version=3, roles=("approver", "evaluator")):
    for role in roles:
        seen = world.gateway(role).check_promotion("churn", version, "champion").evidence
        world.gateway(role).approve_model("churn", version, seen, "r")


def promote(world, version=3):
    seen = world.gateway("auditor").see_aliases("churn")[1]
    moved = world.gateway("compliance").promote_model(("churn", version), "champion", "r", seen)
    return world.open(moved, Promotion)


def refused(call, *arguments):
    with pytest.raises(RefusedError) as caught:
        call(*arguments)
    return caught.value.codes


def waive(world, audit, role="approver", **terms):
    values = {"audit": audit.digest}
    if "joins" not in terms:
        values |= {"reason": "more are asked in June", "expires_at": in_days(world, 30)}
    request = WaiverRequest(**{**values, **terms})
    return world.open(world.gateway(role).waive_audit("churn", 3, request), Waiver)


def in_days(world, days):
    return world.clock.now + timedelta(days=days)


def waive_by_two(world, audit):
    first = waive(world, audit)
    return waive(world, audit, "evaluator", joins=first.digest)


def test_a_version_is_champion_with_an_evaluation_an_audit_that_passes_and_two_approvals(audited):
    world = audited.world
    assert objections(world) == (
        "promotion.evaluation_missing",
        "promotion.floor_missed",
        "promotion.fairness_missing",
        "promotion.approvals_missing",
    )
    audit = audited.audit("run-3", "eval-1", "alike")
    assert (audit.found.verdict, audit.name, audit.version) == ("PASS", "churn", 3)
    assert objections(world) == ("promotion.approvals_missing",)
    assert refused(promote, world) == ("promotion.approvals_missing",)
    approve(world)
    assert objections(world) == ()
    assert promote(world).to_version == 3


def second_verifier():
    """The program of the reference, which knows nothing of this one."""
    file = Path(__file__).parents[2] / "docs" / "reference" / "verify_bundle.py"
    spec: Any = importlib.util.spec_from_file_location("second_verifier_of_audits", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def verify(world, version=3):
    """Return the evidence of a version, and what fails in it once the units have seen the log."""
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", version)
    report = verify_bundle(bundle, world.governance_key, Realm.PRODUCTION)
    other = second_verifier().check_bundle(bundle, world.governance_key, "production")
    assert [text for _, ok, text in other if not ok] == []
    return read_bundle(bundle), {check.name: check.text for check in report.checks if not check.ok}


def test_the_evidence_of_a_champion_holds_with_a_waiver_renewed_evaluations_and_a_way_back(audited):
    world = audited.world
    audit = audited.audit("run-3", "eval-1", "one selected more")
    audited.audit("run-3", "eval-2", "alike")
    waive_by_two(world, audit)
    approve(world)
    promote(world)
    seen = world.gateway("auditor").see_aliases("churn")[1]
    world.gateway("dpo").roll_back("churn", "champion", "r", seen)
    promote(world)
    evidence, failed = verify(world)
    assert failed == {}
    found = evidence.judgements
    sizes = (found.audits, found.waivers, found.approvals, found.moves, evidence.evaluations)
    assert [len(each) for each in sizes] == [2, 2, 2, 3, 2]


def test_the_evidence_of_a_version_is_its_own_and_needs_no_promotion(audited):
    audited.audit("run-3", "eval-1", "alike")
    for version, evaluations in ((3, 1), (1, 0)):
        evidence, failed = verify(audited.world, version)
        assert failed == {}
        assert len(evidence.evaluations) == len(evidence.judgements.audits) == evaluations


def test_an_audit_rests_on_its_evaluation_and_is_signed_logged_and_listed(audited):
    world = audited.world
    audit = audited.audit("run-3", "eval-1", "alike")
    evaluation = world.open(world.gateway("auditor").fetch_evaluation("eval-1"), Evaluation)
    assert (audit.evaluation, audit.dpia) == (evaluation.digest, evaluation.dpia)
    assert (audit.tables, audit.units) == (evaluation.tables, 2)
    entries = world.get("/v1/log/entries?limit=1000", "auditor")["entries"]
    assert audit.digest in {LogEntry.from_json(each["entry"]).document for each in entries}
    (listed,) = world.gateway("author").list_audits()
    assert (listed.document, listed.verdict) == (audit.digest, "PASS")
    assert listed.bounds == audit.found.bounds
    people = {group.group: group.people for group in audit.found.groups}
    assert people == {"low": 2 * 3600, "high": 2 * 1800}


def test_a_group_of_hardly_anybody_is_insufficient_and_its_numbers_are_not_shown(audited):
    found = audited.audit("run-3", "eval-1", "hardly anybody in one").found
    assert found.verdict == "INSUFFICIENT"
    assert found.bounds[0].compared[0].outcome == "too_few"
    (_, few) = found.groups
    assert (few.people, few.positive, few.selected) == (None, None, None)
    assert "promotion.fairness_not_passed" in objections(audited.world)


def test_an_evaluation_that_tells_no_groups_has_no_audit(audited):
    plan, permit = audited.permitted("run-3")
    audited.world.gateway("operator").submit_tables(
        "eval-1", audited.signed(audited.answered(plan, permit))
    )
    with pytest.raises(NotFoundError, match=r"audit\.unknown"):
        audited.world.gateway("auditor").fetch_audit("eval-1")
    assert "promotion.fairness_missing" in objections(audited.world)
    assert "promotion.evaluation_missing" not in objections(audited.world)


def test_handing_tables_in_again_makes_no_second_audit(audited):
    world = audited.world
    plan = audited.plan("run-3", fairness=audited.layout)
    audited.register(plan)
    tables = audited.signed(audited.answered(plan, audited.permit(plan)))
    for _ in range(2):
        world.gateway("operator").submit_tables("eval-1", tables)
    assert len(world.gateway("auditor").list_audits()) == 1


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        ("one selected more", "alike", ("promotion.fairness_not_passed",)),
        ("alike", "one selected more", ()),
    ],
)
def test_the_first_audit_of_a_version_decides_whatever_a_further_one_says(
    audited, first, second, left
):
    before = audited.audit("run-3", "eval-1", first)
    again = audited.audit("run-3", "eval-2", second)
    assert (before.number, again.number, again.first) == (1, 2, before.digest)
    assert objections(audited.world) == (*left, "promotion.approvals_missing")


def test_one_run_at_a_time_audits_a_version_until_it_is_finished_or_revoked(audited):
    world = audited.world
    plans = [audited.plan("run-3", title=title, fairness=audited.layout) for title in ("a", "b")]
    for plan in plans:
        audited.register(plan)
    audited.permit(plans[0])
    assert refused(audited.permit, plans[1], "eval-2") == ("fairness.audit_outstanding",)
    plain = audited.plan("run-3", title="without groups")
    audited.register(plain)
    audited.permit(plain, "eval-3")
    world.gateway("compliance").revoke_permit("eval-1", "it never began")
    audited.permit(plans[1], "eval-2")
    kept = world.get("/v1/permits/eval-2/replays", "auditor")["replays"]
    assert [item["codes"] for item in kept] == [["fairness.audit_outstanding"], []]
    assert [item["codes_today"] for item in kept] == [item["codes"] for item in kept]
    assert {item["agrees"] for item in kept} == {True}


def test_a_run_that_was_answered_cannot_be_let_lie_so_that_another_one_decides(audited):
    world = audited.world
    plans = [audited.plan("run-3", title=title, fairness=audited.layout) for title in ("a", "b")]
    for plan in plans:
        audited.register(plan)
    tables = audited.answered(plans[0], audited.permit(plans[0]))
    assert refused(audited.permit, plans[1], "eval-2") == ("fairness.audit_outstanding",)
    world.gateway("operator").submit_tables("eval-1", audited.signed(tables))
    again = audited.answered(plans[1], audited.permit(plans[1], "eval-2"))
    world.gateway("compliance").revoke_permit("eval-2", "we do not like what it says")
    third = audited.plan("run-3", title="c", fairness=audited.layout)
    audited.register(third)
    with pytest.raises(RefusedError, match="gets no other audit; train the next one") as caught:
        audited.permit(third, "eval-3")
    assert caught.value.codes == ("fairness.audit_outstanding",)
    assert refused(world.gateway("operator").submit_tables, "eval-2", audited.signed(again)) == (
        "permit.revoked",
    )


def test_a_floor_that_the_low_end_misses_refuses_and_a_lower_floor_does_not(audited, model_bytes):
    high = (MetricFloor(metric="roc_auc", floor=0.99),)
    audited.train("run-4", model_bytes, metric_floors=high)
    for run, version, left in (("run-3", 3, ()), ("run-4", 4, ("promotion.floor_missed",))):
        audited.audit(run, f"eval-{version}", "alike")
        assert objections(audited.world, version) == (*left, "promotion.approvals_missing")


def card_rows(world, title, form="md"):
    """The rows of a section's table on the card of version 3, and all that the section says."""
    card = re.sub(r"\\(.)", r"\1", world.gateway("author").fetch_card("churn", 3, form))
    section = card.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return rows[2:], section


@pytest.mark.parametrize("groups", ["alike", "one selected more"])
def test_the_card_has_the_numbers_of_the_audit_that_decides_as_it_was_signed(audited, groups):
    found = audited.audit("run-3", "eval-1", groups).found
    audited.audit("run-3", "eval-2", "hardly anybody in one")
    (bound,) = found.bounds
    (compared,) = bound.compared
    rows, said = card_rows(audited.world, "Fairness")
    assert rows == [
        [
            "religion",
            "demographic parity difference",
            f"{abs(compared.gap):.3f}",
            f"{bound.widest.low:.3f} to {bound.widest.high:.3f}",
            "low, selection rate",
            "0.1",
            bound.verdict,
        ]
    ]
    assert bound.widest.low <= abs(compared.gap) < bound.widest.high
    assert f"- **Verdict**: {found.verdict}" in said
    assert "- **Selected from a score of**: 0.5" in said
    assert "move no verdict**: 1: number 2 INSUFFICIENT at a score of 0.5" in said
    page = audited.world.gateway("author").fetch_card("churn", 3, "html")
    for cell in rows[0][1:]:
        assert f"<td>{cell}</td>" in page


def test_the_card_has_no_number_of_a_group_of_hardly_anybody(audited):
    found = audited.audit("run-3", "eval-1", "hardly anybody in one").found
    (bound,) = found.bounds
    (compared,) = bound.compared
    ((*_, gap, interval, _, _, verdict),), said = card_rows(audited.world, "Fairness")
    assert (gap, verdict) == ("too few people", "INSUFFICIENT")
    assert interval == f"{bound.widest.low:.3f} to {bound.widest.high:.3f}"
    assert f"{abs(compared.gap):.3f}" not in said
    assert "so that no number of them is shown: religion high." in said
    assert found.meaning in said


def test_the_card_has_both_ends_of_each_interval_of_the_newest_evaluation(audited):
    world = audited.world
    for run in ("eval-1", "eval-2"):
        audited.audit("run-3", run, "alike")
    evaluation = world.open(world.gateway("auditor").fetch_evaluation("eval-2"), Evaluation)
    rows, said = card_rows(world, "Evaluation")
    assert rows == [
        [one.name, *map(show_measured, (one.value, one.low, one.high))]
        for one in evaluation.models[0].numbers
    ]
    area = next(row for row in rows if row[0] == "roc_auc")
    assert float(area[2]) < float(area[1]) < float(area[3])
    assert f"- **Document**: {evaluation.digest}" in said
    assert "Checks on the customers" not in said


class TestWaivers:
    @pytest.fixture
    def failed(self, audited):
        """Its world, and the audit that a version did not pass."""
        audit = audited.audit("run-3", "eval-1", "one selected more")
        assert audit.found.verdict == "FAIL"
        return audited.world, audit

    def test_without_one_a_version_that_failed_is_no_champion(self, failed):
        world, _ = failed
        approve(world)
        assert refused(promote, world) == ("promotion.fairness_not_passed",)

    @pytest.mark.databases
    def test_one_person_is_not_enough_and_two_are(self, failed):
        world, audit = failed
        first = waive(world, audit)
        approve(world)
        assert refused(promote, world) == ("promotion.waiver_void",)
        both = waive(world, audit, "evaluator", joins=first.digest)
        assert both.people == ("paul", "emil")
        assert (both.reason, both.expires_at) == (first.reason, first.expires_at)
        # Other evidence than the one that was approved.
        assert refused(promote, world) == ("promotion.approvals_missing",)
        approve(world)
        assert promote(world).to_version == 3

    def test_it_counts_until_it_ends_and_another_one_then(self, failed):
        world, audit = failed
        waive_by_two(world, audit)
        approve(world)
        world.clock.now = in_days(world, 31)
        assert "promotion.waiver_void" in refused(promote, world)
        waive_by_two(world, audit)
        assert "promotion.waiver_void" not in objections(world)

    def test_nobody_stands_for_one_twice_or_joins_what_is_whole(self, failed):
        world, audit = failed
        first = waive(world, audit)
        with pytest.raises(RefusedError, match=r"waiver\.same_person"):
            waive(world, audit, joins=first.digest)
        both = waive(world, audit, "compliance", joins=first.digest)
        with pytest.raises(RefusedError, match=r"waiver\.joined_already"):
            waive(world, audit, "evaluator", joins=both.digest)
        views = world.gateway("auditor").list_waivers("churn", 3)
        assert [view.document for view in views] == [first.digest, both.digest]

    @pytest.mark.parametrize("days", [0, -1, 367])
    def test_it_ends_within_a_year(self, failed, days):
        world, audit = failed
        with pytest.raises(RefusedError, match=r"waiver\.expiry_unfit"):
            waive(world, audit, expires_at=in_days(world, days))
        waive(world, audit, expires_at=in_days(world, 366))

    @pytest.mark.parametrize("role", ["author", "dpo", "operator", "auditor", "admin"])
    def test_those_who_do_not_decide_what_is_used_do_not_waive(self, failed, role):
        world, audit = failed
        with pytest.raises(ForbiddenError, match=r"auth\.wrong_role"):
            waive(world, audit, role)

    def test_only_the_audit_that_decides_is_waived_and_no_other_waiver_is_joined(self, failed):
        world, audit = failed
        evaluation = world.gateway("auditor").fetch_evaluation("eval-1")
        with pytest.raises(RefusedError, match=r"waiver\.other_audit"):
            waive(world, evaluation)
        with pytest.raises(NotFoundError, match=r"waiver\.unknown"):
            waive(world, audit, joins=audit.digest)
        with pytest.raises(NotFoundError, match=r"audit\.unknown"):
            world.gateway("approver").waive_audit(
                "churn", 1, WaiverRequest(audit=audit.digest, joins=audit.digest)
            )


def test_an_audit_that_passes_needs_no_waiver(audited):
    audit = audited.audit("run-3", "eval-1", "alike")
    with pytest.raises(RefusedError, match=r"waiver\.not_needed"):
        waive(audited.world, audit)


def test_a_waiver_says_why_in_more_than_blanks(audited):
    audit = audited.audit("run-3", "eval-1", "one selected more")
    with pytest.raises(InvalidRecordError, match="a new waiver has both"):
        waive(audited.world, audit, reason=" ")
    assert waive(audited.world, audit, reason="why").reason == "why"


class TestCommands:
    @pytest.fixture
    def said(self, evaluating, tmp_path, monkeypatch):
        """Runs a command of the group as one of the people; returns exit code and output."""
        world = evaluating.world
        # Only the network is replaced.
        monkeypatch.setattr(gateway_http, "open_client", lambda *_: nullcontext(world.client))

        def run(*words, role=None):
            line = [str(word) for word in words]
            if role is not None:
                key = tmp_path / f"{role}.key"
                if not key.exists():
                    key.write_text(world.api_keys[role])
                    key.chmod(0o600)
                line += ["--url", "http://127.0.0.1:1", "--api-key-file", str(key)]
            entry = EntryPoint("governance", "governance.cli:app [governance]", cli.COMMANDS_GROUP)
            command = ["governance", "audits", *line]
            result = CliRunner().invoke(cli.RootCommand({"governance": entry}), command)
            return result.exit_code, result.output

        return run

    def test_an_audit_is_listed_shown_waived_and_joined(self, audited, said, tmp_path):
        audit = audited.audit("run-3", "eval-1", "one selected more")
        code, listed = said("list", "--name", "churn", role="auditor")
        assert (code, listed.splitlines()[0].split()[:4]) == (
            0,
            ["churn", "3", "FAIL", "(decides)"],
        )
        assert "religion, demographic_parity_difference within 0.1: FAIL" in listed
        assert said("list", "--name", "other", role="auditor") == (0, "")
        until = ("--until", "2025-07-01", "--reason", "more are asked in June")
        code, digest = said("waive", "eval-1", *until, role="approver")
        assert code == 0
        assert said("join", "eval-1", digest.strip(), role="evaluator")[0] == 0
        report = tmp_path / "audit.html"
        code, shown = said("show", "eval-1", "--html", report, role="auditor")
        assert code == 0
        assert "FAIL: At least one declared comparison lies outside the thresholds" in shown
        assert "waived by paul and emil until 2025-07-01: more are asked in June" in shown
        page = report.read_text()
        assert "<strong>FAIL</strong>" in page
        assert audit.digest in page
        assert said("show", "eval-1", "--html", report, role="auditor")[0] == 1

    def test_the_score_from_which_people_are_selected_is_told_and_a_trend_that_mixes_them(
        self, audited, said, model_bytes
    ):
        audited.audit("run-3", "eval-1", "alike")
        _, shown = said("show", "eval-1", role="auditor")
        assert "selected from a score of 0.5" in shown.splitlines()
        audited.audit("run-3", "eval-2", "alike")
        _, listed = said("list", "--name", "churn", role="auditor")
        assert listed.count("selected from a score of 0.5") == 2
        assert "several thresholds" not in listed
        audited.world.take_into_force(audited.audited_dpia(3, threshold=0.4))
        audited.train("run-4", model_bytes, metric_floors=FLOORS)
        audited.audit("run-4", "eval-3", "alike", threshold=0.4)
        _, listed = said("list", "--name", "churn", role="auditor")
        lines = listed.splitlines()
        assert lines[-1].startswith("churn: several thresholds (0.4, 0.5): only gaps at the same")
        (other,) = (line for line in lines if line.endswith("selected from a score of 0.4"))
        assert other.split()[:5] == ["churn", "4", "PASS", "(decides)", "2025-06-01"]
        _, listed = said("list", "--json", role="auditor")
        told = [each["threshold"] for each in json.loads(listed)["audits"]]
        assert told == [0.5, 0.5, 0.4]

    def test_a_plan_gets_the_table_of_its_dpia_and_is_then_permitted(self, audited, said, tmp_path):
        plan, dpia, out = (tmp_path / name for name in ("plan.json", "dpia.json", "out.json"))
        plan.write_text(json.dumps(audited.plan("run-3").to_json()))
        dpia.write_text(json.dumps(audited.audited_dpia(2).to_json()))
        code, output = said("plan", plan, dpia, "--out", out)
        assert (code, "2 tables, epsilon 0.25 for each" in output) == (0, True)
        found = EvaluationPlan.from_json(json.loads(out.read_text()))
        assert found == audited.plan("run-3", fairness=audited.layout)
        audited.register(found)
        assert audited.permit(found).plan == found.digest
        assert said("plan", plan, dpia, "--out", out)[0] == 1
        code, output = said("plan", plan, dpia, "--out", plan / "in a file.json")
        assert (code, "cannot be written: a part of its path is no" in output) == (1, True)
        dpia.write_text(json.dumps(audited.world.dpia().to_json()))
        code, output = said("plan", plan, dpia, "--out", tmp_path / "other.json")
        assert (code, "fairness.not_bound" in output) == (1, True)

    def test_nothing_is_planned_nor_forecast_of_an_audit_that_could_never_be_derived(
        self, evaluating, said, tmp_path
    ):
        """Of 500 groups each is compared; two groups more are another comparison."""
        plan, dpia, out = (tmp_path / name for name in ("plan.json", "dpia.json", "out.json"))
        plan.write_text(json.dumps(evaluating.plan().to_json()))
        whole = evaluating.audited_dpia(2)
        attributes = tuple(
            SensitiveAttribute(name=name, groups=tuple(f"{name} {n}" for n in range(count)))
            for name, count in (("age", 25), ("region", 20), ("gender", 2))
        )

        def asked(*words, names):
            bound_in = {
                "fairness_audit": AuditTerms(attributes=attributes),
                "fairness": tuple(
                    whole.bindings.fairness[0].model_copy(update={"attribute": name})
                    for name in names
                ),
            }
            bindings = whole.bindings.model_copy(update=bound_in)
            dpia.write_text(json.dumps(whole.model_copy(update={"bindings": bindings}).to_json()))
            code, output = said(*words)
            return code, " ".join(output.split())

        both = ("age & region", "gender")
        forecast = ("forecast", dpia, plan, "--epsilon", 1, "--units", 2, "--rows", 50)
        for words in (("plan", plan, dpia, "--out", out), forecast):
            code, told = asked(*words, names=both)
            assert (code, out.exists()) == (1, False)
            assert "fairness.not_bound" in told
            for part in ("there are 501 comparisons", "at most 500", "merge groups"):
                assert part in told
        assert asked("plan", plan, dpia, "--out", out, names=both[:1])[0] == 0
        assert out.exists()

    def test_what_an_audit_could_settle_is_said_beforehand(self, evaluating, said, tmp_path):
        dpia, expected = tmp_path / "dpia.json", tmp_path / "expected.json"
        dpia.write_text(json.dumps(evaluating.audited_dpia(2).to_json()))
        rates = {"positive": 0.2, "true_positive": 0.6, "false_positive": 0.15}
        both = {"low": {"share": 0.8, **rates}, "high": {"share": 0.2, **rates}}
        expected.write_text(json.dumps(both))
        terms = ("--epsilon", 1, "--units", 2, "--rows")
        code, few = said("forecast", dpia, expected, *terms, 50)
        assert (code, "expect INSUFFICIENT" in few) == (0, True)
        code, many = said("forecast", dpia, expected, *terms, 1_000_000)
        assert (code, "customers settle it (PASS expected)" in many) == (0, True)
        for group, more in (("high", {"positive": 1.5}), ("high", {"positive": True}), ("odd", {})):
            wrong = both | {group: both["high"] | more}
            expected.write_text(json.dumps(wrong))
            code, told = said("forecast", dpia, expected, *terms, 50)
            assert (code, "fairness.table_invalid" in told) == (1, True)
            assert group in told
        del both["high"]
        expected.write_text(json.dumps(both))
        code, lacking = said("forecast", dpia, expected, *terms, 50)
        assert (code, "fairness.table_invalid" in lacking) == (1, True)

    def test_the_golden_dpia_with_bands_has_a_forecast_and_one_of_segments_says_why_not(
        self, said, tmp_path
    ):
        dpia, expected = tmp_path / "dpia.json", tmp_path / "expected.json"
        golden = json.loads((GOLDEN / "dpia-2.fairness-audit.json").read_bytes())
        dpia.write_text(json.dumps(golden))
        groups = [
            f"{gender} & {disabled}"
            for gender in ("f", "m", "other", "unknown")
            for disabled in ("no", "yes", "unknown")
        ]
        rates = {"positive": 0.3, "true_positive": 0.6, "false_positive": 0.2}
        expected.write_text(json.dumps({key: {"share": 1 / 12, **rates} for key in groups}))
        words = ("forecast", dpia, expected, "--epsilon", 1, "--units", 3, "--rows", 500_000)
        code, told = said(*words)
        assert (code, told.count("customers settle it (PASS expected)")) == (0, 2)
        golden["bindings"]["fairness"][0] |= {"metric": "segment_share_difference"}
        dpia.write_text(json.dumps(golden))
        code, told = said(*words)
        assert (code, "fairness.no_forecast" in told) == (1, True)
        assert "segments' shares have no forecast" in " ".join(told.split())
