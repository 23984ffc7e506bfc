"""A segmentation on its way to champion: counted, audited, approved, shown, and verified."""

import importlib.util
import json
from contextlib import nullcontext
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fedcore import canonical, cli, gateway_http
from fedcore.clusterings import CourseSpec, SegmentCount
from fedcore.dpias import FairnessBound
from fedcore.errors import MismatchError, RefusedError
from fedcore.evaluation_outcomes import Evaluation
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.fairness_audits import FairnessAudit
from fedcore.fairness_bindings import AuditTerms, SensitiveAttribute
from fedcore.plans import ModelSpec, PrivacyTerms
from fedcore.privacy.clustering import Placement
from fedcore.promotions import Promotion
from fedcore.record import Realm
from fedcore.segments.artefact import SegmentModel, encode_model
from fedcore.segments.groups import SegmentLayout
from fedcore.segments.noised import NoisedSums
from fedcore.verify import verify_bundle

NAME = ("segments", 1)
IDS = (2, 1)
COURSE = CourseSpec(segments=SegmentCount(least=2, most=4), spread=8, searches=1, refinements=1)
# Of each group those in segment 2, and in segment 1.
ALIKE, APART = (1200, 600, 600, 300), (1200, 600, 300, 600)
SECOND = Path(__file__).parents[3] / "docs" / "reference" / "verify_bundle.py"


@pytest.fixture
def realm():
    """Nothing of a simulation gets an alias."""
    return Realm.PRODUCTION


def artifact(noise=2.0):
    sums = np.array([[0.0, 240.0, 2.4], [0.0, 120.0, 1.2]])
    placement = Placement(np.array([[-0.5], [0.5]]), 1.0)
    last = NoisedSums(placement, COURSE.release_terms(noise), 2, sums)
    return encode_model(SegmentModel(last, IDS, 2))


@pytest.fixture
def segmented(evaluating):
    """A registered segmentation, found under a DPIA that binds an audit of shares by religion."""
    world = evaluating.world
    before = evaluating.audited_dpia(1)
    bound = FairnessBound(attribute="religion", metric="segment_share_difference", largest_gap=0.1)
    changes = {"task": "segmentation", "fairness": (bound,), "epsilon_cap": 30.0}
    bindings = before.bindings.model_copy(update=changes)
    dpia = before.model_copy(update={"dpia_id": "segments-dpia", "bindings": bindings})
    world.take_into_force(dpia)
    privacy = PrivacyTerms(l2_clip_norm=COURSE.l2_sensitivity, noise_multiplier=2.0, delta=1e-5)
    plan = world.plan(
        task="segmentation",
        model=ModelSpec(kind="centres", course=COURSE),
        algorithm=None,
        rounds=COURSE.terms.releases,
        privacy=privacy,
    )
    world.register(plan)
    permit, previous, model = world.permit("run-9", plan), None, plan.initial_model
    for number in range(1, plan.rounds + 1):
        about = {"plan": plan.digest, "event": plan.round_event(), "model_in": model}
        receipts = [world.receipt(permit, unit, number, **about) for unit in ("north", "south")]
        model = canonical.digest(f"placement {number}".encode())
        released = canonical.digest(artifact()) if number == plan.rounds else None
        previous = world.report(receipts, previous, model_out=model, released=released)
        world.submit(previous, receipts)
    world.gateway("operator").register_model("run-9", "segments", artifact())
    named = EvaluatedModel(artifact=canonical.digest(artifact()), plan=plan.digest)
    evaluating.trained["run-9"] = named
    evaluating.dpia = dpia
    return evaluating


def counted_plan(segmented, *, ids=IDS, grouped=True, **changes):
    attributes = segmented.layout.attributes if grouped else ()
    layout = SegmentLayout(attributes=attributes, segments=ids)
    return segmented.plan("run-9", rows="all", segments=layout, epsilon=2.0, **changes)


def count(segmented, counts, run_id="eval-1", **changes):
    """Have two units count so many customers each, and governance derive what follows."""
    world, segmented.segment_counts = segmented.world, counts
    plan = counted_plan(segmented, title=run_id, **changes)
    segmented.register(plan)
    tables = segmented.answered(plan, segmented.permit(plan, run_id))
    return world.open(
        world.gateway("operator").submit_tables(run_id, segmented.signed(tables)), Evaluation
    )


def audit_of(segmented, run_id="eval-1"):
    found = segmented.world.gateway("auditor").fetch_audit(run_id)
    return segmented.world.open(found, FairnessAudit)


def objections(world):
    check = world.gateway("auditor").check_promotion(*NAME, "champion")
    return tuple(one.code for one in check.verdicts if one.objection is not None)


def approve(world):
    for role in ("approver", "evaluator"):
        seen = world.gateway(role).check_promotion(*NAME, "champion").evidence
        world.gateway(role).approve_model(*NAME, seen, "read")


def promote(world):
    seen = world.gateway("auditor").see_aliases("segments")[1]
    moved = world.gateway("compliance").promote_model(NAME, "champion", "r", seen)
    return world.open(moved, Promotion)


def test_a_segmentation_becomes_champion_and_its_evidence_holds(segmented):
    world = segmented.world
    missing = ("promotion.evaluation_missing", "promotion.fairness_missing")
    assert objections(world) == (*missing, "promotion.approvals_missing")
    sizes = count(segmented, (1800, 900), "eval-0", grouped=False)
    assert [one.name for one in sizes.models[0].numbers][:2] == ["customers", "segment_2_customers"]
    assert sizes.models[0].number("segment_2_share").value == pytest.approx(2 / 3)
    assert objections(world) == ("promotion.fairness_missing", "promotion.approvals_missing")
    count(segmented, ALIKE)
    audit = audit_of(segmented)
    assert (audit.found.verdict, audit.name, audit.number) == ("PASS", "segments", 1)
    assert objections(world) == ("promotion.approvals_missing",)
    with pytest.raises(RefusedError) as refused:
        promote(world)
    assert refused.value.codes == ("promotion.approvals_missing",)
    approve(world)
    assert promote(world).to_version == 1
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence(*NAME)
    report = verify_bundle(bundle, world.governance_key, Realm.PRODUCTION)
    assert [check.text for check in report.checks if not check.ok] == []
    spec: Any = importlib.util.spec_from_file_location("second_verifier_of_shares", SECOND)
    second = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(second)
    checks = second.check_bundle(bundle, world.governance_key, "production")
    assert [text for _, ok, text in checks if not ok] == []


def test_segments_that_part_people_need_another_version_or_a_waiver(segmented):
    count(segmented, APART)
    audit = audit_of(segmented)
    assert audit.found.verdict == "FAIL"
    (compared,) = audit.found.bounds[0].compared
    assert (compared.group, compared.rate) == ("low", "share_of_segment_2")
    assert compared.gap == pytest.approx(1200 / 1500 - 600 / 1200, abs=1e-9)
    assert "promotion.fairness_not_passed" in objections(segmented.world)
    # A later audit, of people who are alike, does not decide.
    count(segmented, ALIKE, "eval-2")
    assert "promotion.fairness_not_passed" in objections(segmented.world)


@pytest.mark.parametrize("ids", [(1, 2), (2, 1, 3)])
def test_other_segments_than_the_registered_ones_get_no_permit(segmented, ids):
    plan = counted_plan(segmented, ids=ids)
    segmented.register(plan)
    with pytest.raises(RefusedError) as refused:
        segmented.permit(plan)
    assert refused.value.codes == ("evaluation.other_segments",)
    sound = counted_plan(segmented, title="another")
    segmented.register(sound)
    assert segmented.permit(sound).kind == "evaluate"


def test_tables_of_another_size_are_not_derived_from(segmented):
    with pytest.raises(MismatchError) as refused:
        count(segmented, (1, 2))
    assert refused.value.code == "tables.sizes_differ"
    with pytest.raises(RefusedError) as outstanding:
        count(segmented, ALIKE, "eval-2")
    assert outstanding.value.codes == ("fairness.audit_outstanding",)


@pytest.fixture
def said(segmented, tmp_path, monkeypatch):
    """Runs a command of governance as one of the people; returns exit code and output."""
    world = segmented.world
    # Only the network is replaced.
    monkeypatch.setattr(gateway_http, "open_client", lambda *_: nullcontext(world.client))
    key = tmp_path / "ada.key"
    key.write_text(world.api_keys["auditor"])
    key.chmod(0o600)
    line = ["--url", "http://127.0.0.1:1", "--api-key-file", str(key)]
    entry = EntryPoint("governance", "governance.cli:app [governance]", cli.COMMANDS_GROUP)

    def run(*words, online=True):
        command = ["governance", *map(str, words), *(line if online else ())]
        result = CliRunner().invoke(cli.RootCommand({"governance": entry}), command)
        return result.exit_code, result.output

    return run


def test_commands_show_sizes_shares_the_trend_and_what_promotion_lacks(segmented, said, tmp_path):
    count(segmented, (1200, 600, 600, 7))
    code, shown = said("evaluations", "show", "eval-1")
    assert (code, "all customers at 2 units" in shown) == (0, True)
    assert "segment_2_customers" in shown
    assert "by their bins" not in shown
    code, shown = said("audits", "show", "eval-1", "--html", tmp_path / "audit.html")
    assert code == 0
    assert "segment 2, low: 0.667 of its people" in shown
    assert "segment 1, high: too few people to be shown, below 30" in shown
    assert "selected" not in shown
    page = (tmp_path / "audit.html").read_text()
    assert "Shares of each segment" in page
    assert "Selected from a score" not in page
    code, listed = said("audits", "list", "--name", "segments")
    assert "religion, segment_share_difference within 0.1" in listed
    assert "a score" not in listed
    code, told = said("models", "check", "segments", 1)
    assert (code, "promotion.approvals_missing" in told) == (1, True)
    basis = tmp_path / "basis.json"
    # Derived from the tables again; of scores alone there is more to tell.
    assert said("audits", "tables", "eval-1", "--out", basis)[0] == 0
    code, told = said("audits", "curve", basis, online=False)
    assert (code, "audit.of_segments" in told) == (1, True)
    lied = json.loads(basis.read_text())
    lied["tables"] = lied["tables"][::-1]
    basis.write_text(json.dumps(lied))
    assert "audit.basis_differs" in said("audits", "curve", basis, online=False)[1]


def test_a_plan_gets_the_groups_of_its_dpia(segmented, said, tmp_path):
    plan, dpia, out = (tmp_path / name for name in ("plan.json", "dpia.json", "out.json"))
    plan.write_text(json.dumps(counted_plan(segmented, grouped=False).to_json()))
    dpia.write_text(json.dumps(segmented.dpia.to_json()))
    asked = ("audits", "plan", plan, dpia, "--out", out)
    code, output = said(*asked, online=False)
    assert (code, "1 tables, epsilon 2 for each" in output) == (0, True)
    found = EvaluationPlan.from_json(json.loads(out.read_text()))
    assert found == counted_plan(segmented)


def test_no_plan_is_written_whose_audit_could_never_be_derived(segmented, said, tmp_path):
    """Two segments of 500 groups are the most; two groups more are another comparison."""
    plan, dpia, out = (tmp_path / name for name in ("plan.json", "dpia.json", "out.json"))
    plan.write_text(json.dumps(counted_plan(segmented, grouped=False).to_json()))
    attributes = tuple(
        SensitiveAttribute(name=name, groups=tuple(f"{name} {n}" for n in range(count)))
        for name, count in (("age", 25), ("region", 20), ("gender", 2))
    )
    bound = segmented.dpia.bindings.fairness[0]

    def asked(*names):
        bound_in = {
            "fairness_audit": AuditTerms(attributes=attributes),
            "fairness": tuple(bound.model_copy(update={"attribute": name}) for name in names),
        }
        bindings = segmented.dpia.bindings.model_copy(update=bound_in)
        changed = segmented.dpia.model_copy(update={"bindings": bindings})
        dpia.write_text(json.dumps(changed.to_json()))
        return said("audits", "plan", plan, dpia, "--out", out, online=False)

    code, output = asked("age & region", "gender")
    assert (code, out.exists()) == (1, False)
    told = " ".join(output.split())
    assert "fairness.not_bound" in told
    for words in ("bounds: ", "501 comparisons", "at most 500", "merge groups"):
        assert words in told
    assert asked("age & region")[0] == 0
    assert out.exists()


def test_pages_show_shares_by_segment_sizes_and_the_trend(segmented, browser_of):
    count(segmented, (1200, 600, 600, 7))
    browser = browser_of("auditor")
    page = browser.get("/console/audits/eval-1").text
    assert "Shares of each segment" in page
    assert "0.667" in page
    assert "not shown" in page
    assert "Selected" not in page
    page = browser.get("/console/evaluations/eval-1").text
    assert "all customers, at 2 units" in page
    assert "segment_2_share" in page
    assert "by their bins" not in page
    page = browser.get("/console/models/segments/1").text
    assert "FAIL" in page
    card = segmented.world.gateway("author").fetch_card("segments", 1, "md")
    assert "Selected from a score" not in page
    assert "segment" in card.partition("## Evaluation")[2]
    fairness = card.partition("## Fairness")[2].partition("\n## ")[0]
    (bound,) = audit_of(segmented).found.bounds
    (compared,) = bound.compared
    told = (f"{abs(compared.gap):.3f}", bound.widest.interval_told, "low, share of segment 2")
    row = ("religion", "segment share difference", *told, "0.1", "FAIL")
    assert f"| {' | '.join(row)} |" in fairness
    assert "Selected from a score" not in fairness
