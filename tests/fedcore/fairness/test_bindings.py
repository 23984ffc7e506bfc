"""From what a DPIA binds to the table that units count and the terms of a verdict."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from fedcore.dpia_record import Dpia
from fedcore.dpias import FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import FairnessAudit, GroupMerge, SensitiveAttribute
from fedcore.fairness_terms import audit_of, comparisons_of

GOLDEN = Path(__file__).parents[2] / "golden"
BOUND = FairnessBound(attribute="sex", metric="calibration_difference", largest_gap=0.1)
SEX = SensitiveAttribute(name="sex", groups=("f", "m", "unknown"))
AUDIT = FairnessAudit(attributes=(SEX,))


def bindings(name="dpia-2.fairness-audit.json", **changes):
    dpia = Dpia.from_bytes((GOLDEN / name).read_bytes())
    return dpia.bindings.model_copy(update=changes)


def test_a_signed_dpia_says_table_and_terms_whole():
    layout, terms = audit_of(bindings(), threshold=0.5)
    assert [attribute.name for attribute in layout.attributes] == ["gender", "disability"]
    assert layout.edges == (0.25, 0.5, 0.75)
    assert (terms.alpha, terms.minimum_size) == (0.05, 50)
    groups = [comparison.group for comparison in comparisons_of(layout, terms)]
    assert groups[:3] == ["f", "m", "other or unknown"]
    assert groups[3:5] == ["f & no", "f & yes"]


def test_what_the_dpia_leaves_out_has_its_documented_default():
    layout, terms = audit_of(bindings(fairness=(BOUND,), fairness_audit=AUDIT), threshold=0.4)
    assert layout.edges == (0.4,)
    assert (terms.alpha, terms.minimum_size, terms.merges) == (0.05, 30, ())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"fairness": None}, "fairness.not_bound"),
        ({"fairness": ()}, "fairness.not_bound"),
        ({"fairness_audit": None}, "fairness.not_bound"),
        ({"fairness": (BOUND.model_copy(update={"metric": "accuracy"}),)}, "fairness.not_bound"),
        ({"fairness": (BOUND.model_copy(update={"attribute": "age"}),)}, "fairness.unknown_group"),
        (
            {"fairness_audit": AUDIT.model_copy(update={"further_edges": (0.4,)})},
            "fairness.not_bound",
        ),
        (
            {
                "fairness_audit": AUDIT.model_copy(
                    update={
                        "merges": (GroupMerge(attribute="sex", groups=("f", "x"), merged="fx"),)
                    }
                )
            },
            "fairness.unknown_group",
        ),
    ],
)
def test_a_dpia_that_binds_no_whole_audit_is_refused(changes, code):
    good = {"fairness": (BOUND,), "fairness_audit": AUDIT}
    audit_of(bindings(**good), threshold=0.4)
    with pytest.raises(InvalidRecordError) as refused:
        audit_of(bindings(**{**good, **changes}), threshold=0.4)
    assert refused.value.code == code


def test_a_dpia_of_before_the_audits_is_still_read_and_binds_none():
    before = bindings("dpia-2.ledger-caps.json")
    assert before.fairness
    assert before.fairness_audit is None
    with pytest.raises(InvalidRecordError) as refused:
        audit_of(before, threshold=0.5)
    assert refused.value.code == "fairness.not_bound"


@pytest.mark.parametrize(
    ("name", "groups"), [("x", ("a", "a")), ("x & y", ("a", "b")), ("x", ("a & b", "c"))]
)
def test_names_of_groups_differ_and_cross_nothing(name, groups):
    assert SensitiveAttribute(name="x", groups=("a", "b")).special_condition is None
    with pytest.raises(ValidationError, match="groups"):
        SensitiveAttribute(name=name, groups=groups)
