"""From what a DPIA binds to the table that units count and the terms of a verdict."""

import tracemalloc
from pathlib import Path

import pytest
from pydantic import ValidationError

from fedcore.dpia_record import Dpia
from fedcore.dpias import FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import AuditTerms, GroupMerge, SensitiveAttribute
from fedcore.fairness_terms import (
    MAX_COMPARISONS,
    METRICS,
    audit_of,
    bound_audit,
    bound_comparisons,
    comparisons_of,
    rate_names,
    rates_of,
)

GOLDEN = Path(__file__).parents[2] / "golden"
BOUND = FairnessBound(attribute="sex", metric="calibration_difference", largest_gap=0.1)
SEX = SensitiveAttribute(name="sex", groups=("f", "m", "unknown"))
AUDIT = AuditTerms(attributes=(SEX,))


def bindings(name="dpia-2.fairness-audit.json", **changes):
    dpia = Dpia.from_bytes((GOLDEN / name).read_bytes())
    return dpia.bindings.model_copy(update=changes)


def test_a_signed_dpia_says_table_and_terms_whole():
    layout, terms = audit_of(bindings())
    assert [attribute.name for attribute in layout.attributes] == ["gender", "disability"]
    assert layout.edges == (0.25, 0.5, 0.75)
    assert (terms.alpha, terms.minimum_size) == (0.05, 50)
    groups = [comparison.group for comparison in comparisons_of(layout, terms)]
    assert groups[:3] == ["f", "m", "other or unknown"]
    assert groups[3:5] == ["f & no", "f & yes"]


def test_what_the_dpia_leaves_out_has_its_documented_default():
    layout, terms = audit_of(bindings(fairness=(BOUND,), fairness_audit=AUDIT))
    assert (layout.threshold, layout.edges) == (0.5, (0.5,))
    assert (terms.alpha, terms.minimum_size, terms.merges) == (0.05, 30, ())


def test_the_threshold_is_the_one_that_is_bound():
    own = AUDIT.model_copy(update={"threshold": 0.4, "further_edges": (0.5,)})
    layout, _ = audit_of(bindings(fairness=(BOUND,), fairness_audit=own))
    assert (layout.threshold, layout.edges) == (0.4, (0.4, 0.5))
    assert bound_audit(bindings(fairness_audit=own)) != bound_audit(bindings(fairness_audit=AUDIT))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"fairness": None}, "fairness.not_bound"),
        ({"fairness": ()}, "fairness.not_bound"),
        ({"fairness_audit": None}, "fairness.not_bound"),
        ({"fairness": (BOUND.model_copy(update={"metric": "accuracy"}),)}, "fairness.not_bound"),
        ({"fairness": (BOUND.model_copy(update={"attribute": "age"}),)}, "fairness.unknown_group"),
        (
            {"fairness_audit": AUDIT.model_copy(update={"further_edges": (0.5,)})},
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
    audit_of(bindings(**good))
    with pytest.raises(InvalidRecordError) as refused:
        audit_of(bindings(**{**good, **changes}))
    assert refused.value.code == code


def many(**groups):
    """Attributes with so many groups each."""
    return tuple(
        SensitiveAttribute(name=name, groups=tuple(f"{name}{number}" for number in range(count)))
        for name, count in groups.items()
    )


def of(*bounds, attributes, **audit):
    """What a DPIA binds: of each attribute, or some that are crossed, a metric."""
    return bindings(
        fairness=tuple(
            FairnessBound(attribute=attribute, metric=metric, largest_gap=0.1)
            for attribute, metric in bounds
        ),
        fairness_audit=AuditTerms(attributes=attributes, **audit),
    )


PARITY, ODDS = "demographic_parity_difference", "equalised_odds_difference"
CALIBRATION = "calibration_difference"
FOUR = (ODDS, PARITY, "predictive_parity_difference", "demographic_parity_ratio")
CROSSED = many(age=25, region=20, sex=2)
LOW = GroupMerge(attribute="age", groups=("age0", "age1"), merged="low")
EDGES = tuple(number / 100 for number in range(1, 49))


@pytest.mark.parametrize(
    ("at_the_most", "beyond", "count"),
    [
        # Each of many groups, and one more comparison of two other groups.
        (
            of(("age & region", PARITY), attributes=CROSSED),
            of(("age & region", PARITY), ("sex", PARITY), attributes=CROSSED),
            501,
        ),
        # Hardly any groups in many bands.
        (
            of(("age", CALIBRATION), attributes=many(age=10), further_edges=EDGES),
            of(("age", CALIBRATION), attributes=many(age=10), further_edges=(*EDGES, 0.6)),
            510,
        ),
        # A metric of two rates and three of one, and two bands of two other groups.
        (
            of(*(("age", metric) for metric in FOUR), attributes=many(age=100, sex=2)),
            of(
                *(("age", metric) for metric in FOUR),
                ("sex", CALIBRATION),
                attributes=many(age=100, sex=2),
            ),
            502,
        ),
        # What is merged counts as one.
        (
            of(("age & region", PARITY), attributes=many(age=26, region=20), merges=(LOW,)),
            of(("age & region", PARITY), attributes=many(age=26, region=20)),
            520,
        ),
    ],
)
def test_of_more_comparisons_than_anybody_waits_for_there_is_no_audit(at_the_most, beyond, count):
    layout, terms = audit_of(at_the_most)
    found = comparisons_of(layout, terms)
    assert len(found) == bound_comparisons(at_the_most) == MAX_COMPARISONS
    with pytest.raises(InvalidRecordError) as refused:
        audit_of(beyond)
    assert refused.value.code == "fairness.not_bound"
    assert bound_comparisons(beyond) == count
    for words in (f"there are {count} comparisons", f"at most {MAX_COMPARISONS}", "merge groups"):
        assert words in refused.value.public


def test_comparisons_are_counted_before_any_is_made():
    """Of 2,187 crossed groups, as many cells say who is in each: they would fill five megabytes."""
    names = ("a", "b", "c", "d", "e", "f", "g")
    beyond = of((" & ".join(names), PARITY), attributes=many(**dict.fromkeys(names, 3)))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRecordError, match="there are 2187 comparisons"):
            audit_of(beyond)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_what_a_dpia_binds_is_counted_however_many_cells_there_are():
    """Of ten attributes with a hundred groups each no table is made; no audit has no number."""
    names = "abcdefghij"
    whole = of((" & ".join(names), PARITY), attributes=many(**dict.fromkeys(names, 100)))
    assert bound_comparisons(whole) == 100**10
    for lacking in (
        {"fairness": None},
        {"fairness_audit": None},
        {"fairness": (BOUND.model_copy(update={"attribute": "height"}),)},
        {"fairness_audit": whole.fairness_audit.model_copy(update={"attributes": CROSSED * 2})},
    ):
        assert bound_comparisons(whole.model_copy(update=lacking)) is None


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_has_the_rates_that_are_counted(metric):
    layout, _ = audit_of(bindings())
    made = [rate.name for rate in rates_of(layout, metric)]
    assert made == list(rate_names(metric, layout.bands))


def test_a_dpia_of_before_the_audits_is_still_read_and_binds_none():
    before = bindings("dpia-2.ledger-caps.json")
    assert before.fairness
    assert before.fairness_audit is None
    with pytest.raises(InvalidRecordError) as refused:
        audit_of(before)
    assert refused.value.code == "fairness.not_bound"


@pytest.mark.parametrize(
    ("name", "groups"), [("x", ("a", "a")), ("x & y", ("a", "b")), ("x", ("a & b", "c"))]
)
def test_names_of_groups_differ_and_cross_nothing(name, groups):
    assert SensitiveAttribute(name="x", groups=("a", "b")).special_condition is None
    with pytest.raises(ValidationError, match="groups"):
        SensitiveAttribute(name=name, groups=groups)
