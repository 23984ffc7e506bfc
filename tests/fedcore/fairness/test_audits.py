"""What an audit claims is what the tables and the DPIA's bindings say, and no more."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from fedcore.audit_lists import WaiverRequest
from fedcore.canonical import digest
from fedcore.dpia_record import Dpia
from fedcore.dpias import FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan, NoisedTables
from fedcore.fairness import MEANINGS, decide_fairness
from fedcore.fairness_audits import FairnessAudit, Waiver, derive_audit
from fedcore.fairness_bindings import AuditTerms, GroupMerge, SensitiveAttribute
from fedcore.fairness_tables import TableLayout, sum_tables
from fedcore.fairness_terms import audit_of
from fedcore.segments.groups import SegmentLayout

GOLDEN = Path(__file__).parents[2] / "golden"
GROUP = SensitiveAttribute(name="group", groups=("a", "b", "c"))
METRICS = ("demographic_parity_difference", "equal_opportunity_difference")
# Of each group TN, FN, FP, TP at one of two units.
ALIKE = (1200, 75, 300, 225) * 2 + (8, 0, 2, 1)
APART = (1200, 75, 300, 225, 300, 75, 1200, 225, 8, 0, 2, 1)


def bindings(*, merges=None, minimum_size=None, gap=0.1):
    signed = Dpia.from_bytes((GOLDEN / "dpia-2.fairness-audit.json").read_bytes()).bindings
    terms = AuditTerms(attributes=(GROUP,), merges=merges, minimum_size=minimum_size)
    bounds = tuple(
        FairnessBound(attribute="group", metric=metric, largest_gap=gap) for metric in METRICS
    )
    return signed.model_copy(update={"fairness": bounds, "fairness_audit": terms})


MERGED = bindings(merges=(GroupMerge(attribute="group", groups=("b", "c"), merged="others"),))


def plan(models=1, **changes):
    named = [EvaluatedModel(artifact=digest(b"%d" % n), plan=digest(b"p")) for n in range(models)]
    values = {
        "title": "t",
        "models": named,
        "rows": "holdout",
        "epsilon": 2.0,
        "delta": 1e-5,
        "minimum_units": 2,
        "fairness": TableLayout(attributes=(GROUP,), threshold=0.5),
    }
    return EvaluationPlan(**{**values, **changes})


def tables(counts, models=1):
    scores = ((1, 2, 3),) * models
    return [
        NoisedTables(run_id="r", unit=unit, tables=(*scores, counts)) for unit in ("north", "south")
    ]


@pytest.mark.parametrize(
    ("counts", "bound", "verdict"),
    [
        (ALIKE, MERGED, "PASS"),
        (APART, MERGED, "FAIL"),
        (ALIKE, bindings(), "INSUFFICIENT"),
        (APART, bindings(), "FAIL"),
    ],
)
def test_verdict_meaning_and_findings_are_those_of_the_summed_table(counts, bound, verdict):
    found = derive_audit(plan(), tables(counts), bound)
    layout, terms = audit_of(bound)
    result = decide_fairness(sum_tables(layout, [counts, counts], 1.0), terms)
    assert (found.verdict, found.meaning) == (verdict, MEANINGS[verdict])
    assert found.verdict == result.verdict
    told = [
        (each.metric, one.group, one.rate, one.gap, (one.low, one.high), one.outcome)
        for each in found.bounds
        for one in each.compared
    ]
    assert told == [
        (f.metric, f.group, f.rate, f.gap, tuple(f.interval), f.outcome) for f in result.findings
    ]
    widest = [(each.widest.group, each.widest.low, each.widest.high) for each in found.bounds]
    assert widest == [(one.group, *one.interval) for one in result.largest]


def test_tables_that_count_from_another_threshold_than_is_bound_are_refused():
    """At one from which nobody is selected all groups would be treated alike."""
    layout = TableLayout(attributes=(GROUP,), threshold=0.99)
    with pytest.raises(InvalidRecordError, match=r"0\.99 on, and the DPIA binds 0\.5") as refused:
        derive_audit(plan(fairness=layout), tables(APART), MERGED)
    assert refused.value.code == "fairness.table_invalid"


def test_the_whole_passes_only_when_each_bound_does_and_fails_when_one_does():
    found = derive_audit(plan(), tables(APART), MERGED)
    assert [each.verdict for each in found.bounds] == ["FAIL", "PASS"]
    assert found.verdict == "FAIL"


def test_a_group_that_is_small_by_its_noised_count_is_not_shown_and_a_merge_is_shown_as_one():
    shown = {one.group: one.people for one in derive_audit(plan(), tables(ALIKE), MERGED).groups}
    assert shown == {"a": 3600, "others": 3622}
    groups = derive_audit(plan(), tables(ALIKE), bindings()).groups
    counts = {one.group: (one.people, one.positive, one.selected) for one in groups}
    assert counts == {"a": (3600, 600, 1050), "b": (3600, 600, 1050), "c": (None, None, None)}
    groups = derive_audit(plan(), tables(ALIKE), bindings(minimum_size=5)).groups
    assert (groups[-1].people, groups[-1].positive, groups[-1].selected) == (22, None, 6)


def test_of_segments_a_group_that_is_small_by_its_noised_count_is_not_shown():
    """Of both units together, 30 people are shown and 29 are not, though there is noise in both."""
    bound = FairnessBound(attribute="group", metric="segment_share_difference", largest_gap=0.1)
    of = bindings().model_copy(update={"fairness": (bound,)})
    changes = {"rows": "all", "fairness": None}
    counted = SegmentLayout(attributes=(GROUP,), segments=(1, 2))
    counts = {"north": (400, 300, 20, 5, 10, 3), "south": (401, 299, 3, 2, 15, 1)}
    sent = [NoisedTables(run_id="r", unit=unit, tables=(table,)) for unit, table in counts.items()]
    found = derive_audit(plan(segments=counted, **changes), sent, of)
    assert {one.group: one.people for one in found.groups} == {"a": 1400, "b": 30, "c": None}
    assert {(one.positive, one.selected) for one in found.groups} == {(None, None)}


def test_the_table_of_groups_is_the_one_behind_those_of_the_models():
    one = derive_audit(plan(epsilon=2.0), tables(ALIKE), MERGED)
    two = derive_audit(plan(2, epsilon=3.0), tables(ALIKE, 2), MERGED)
    assert one == two


def test_less_epsilon_makes_wider_intervals():
    narrow, wide = (
        derive_audit(plan(epsilon=epsilon), tables(ALIKE), MERGED).bounds[0].compared[0]
        for epsilon in (2.0, 0.05)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_without_a_table_or_a_binding_there_is_no_audit():
    with pytest.raises(InvalidRecordError, match=r"fairness\.table_invalid"):
        derive_audit(plan(fairness=None), tables(ALIKE), MERGED)
    unbound = MERGED.model_copy(update={"fairness_audit": None})
    with pytest.raises(InvalidRecordError, match=r"fairness\.not_bound"):
        derive_audit(plan(), tables(ALIKE), unbound)


def test_every_audit_but_the_first_names_the_first():
    values = json.loads((GOLDEN / "fairness-audit-1.json").read_text())
    with pytest.raises(InvalidRecordError, match="first"):
        FairnessAudit.from_json({**values, "number": 1})
    del values["first"]
    with pytest.raises(InvalidRecordError, match="first"):
        FairnessAudit.from_json(values)
    assert FairnessAudit.from_json({**values, "number": 1}).first is None


def test_two_distinct_people_of_whom_one_joins_the_other_make_a_whole_waiver():
    values = json.loads((GOLDEN / "waiver-1.json").read_text())
    for people in (["paul", "paul"], ["paul"], []):
        with pytest.raises(InvalidRecordError):
            Waiver.from_json({**values, "people": people})
    del values["joins"]
    with pytest.raises(InvalidRecordError, match="joins"):
        Waiver.from_json(values)
    assert Waiver.from_json({**values, "people": ["paul"]}).people == ("paul",)


def test_a_request_joins_a_waiver_or_makes_one():
    audit, at = digest(b"a"), "2026-06-30T00:00:00Z"
    whole = {"audit": audit, "reason": "r", "expires_at": at}
    for wrong in (
        {"audit": audit},
        {"audit": audit, "reason": "r"},
        {**whole, "joins": audit},
        {"audit": audit, "reason": "r", "joins": audit},
    ):
        with pytest.raises(ValidationError):
            WaiverRequest.model_validate_json(json.dumps(wrong))
    assert WaiverRequest.model_validate_json(json.dumps(whole)).joins is None
    assert WaiverRequest(audit=audit, joins=audit).reason is None
