"""Shares of segments against a DPIA: as pooled rows say, wrong at most at alpha, never of a few."""

import math
import tracemalloc

import numpy as np
import polars as pl
import pytest
from scipy import stats

from fedcore.dpias import Bindings, FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import AuditTerms, GroupMerge, SensitiveAttribute
from fedcore.fairness_terms import MAX_COMPARISONS, FairnessTerms, audit_of, bound_comparisons
from fedcore.segments.comparing import compare_segments, segment_audit_of, segment_comparisons
from fedcore.segments.groups import SegmentLayout, SegmentTable, count_segments

ALPHA = 0.05
GENDER = SensitiveAttribute(name="gender", groups=("female", "male"))
AGE = SensitiveAttribute(name="age", groups=("young", "middle", "old"))
METRIC = "segment_share_difference"


def bound(attribute="gender", gap=0.1, metric=METRIC):
    return FairnessBound(attribute=attribute, metric=metric, largest_gap=gap)


def terms(*bounds, **more):
    return FairnessTerms(bounds=bounds or (bound(),), **more)


def bindings(*bounds, **changes):
    values = {
        "task": "segmentation",
        "purposes": ("marketing",),
        "contract": "sha256:" + "0" * 64,
        "features": ("tenure",),
        "units": ("north",),
        "privacy_modes": ("local",),
        "epsilon_cap": 1.0,
        "delta_cap": 1e-5,
        "minimum_units": 1,
        "fairness": bounds or (bound(),),
        "fairness_audit": AuditTerms(attributes=(GENDER,), alpha=0.1, minimum_size=50),
    }
    return Bindings(**{**values, **changes})


def layout(*attributes, segments=3):
    return SegmentLayout(attributes=attributes or (GENDER,), segments=tuple(range(1, segments + 1)))


def drawn(world, rows, rng, units=3, epsilon=1.0):
    """One table of fresh customers with a world's shares of its entries, noised at each unit."""
    shape, shares = world
    counts = rng.multinomial(rows, np.asarray(shares) / np.sum(shares))
    rate = -math.expm1(-epsilon)
    for _ in range(units):
        counts = counts + rng.geometric(rate, len(counts)) - rng.geometric(rate, len(counts))
    return SegmentTable(shape, tuple(map(int, counts)), units, epsilon)


def verdicts(world, rows, draws, of, seed=1):
    """How often each verdict comes; `world` is of a layout and the shares of its entries."""
    rng = np.random.default_rng(seed)
    found = [compare_segments(drawn(world, rows, rng), of).verdict for _ in range(draws)]
    return {verdict: found.count(verdict) / draws for verdict in ("PASS", "FAIL", "INSUFFICIENT")}


def most(draws):
    """What a rate of exactly alpha gives at most, but for once in ten thousand."""
    return stats.binom.ppf(1 - 1e-4, draws, ALPHA) / draws


def two_by(*shares):
    """Women's shares of each segment, which are equally large: the shares of a table's entries."""
    return [*shares, *(1 - share for share in shares)]


def test_without_noise_shares_and_gaps_are_those_of_pooled_rows():
    rng = np.random.default_rng(5)
    rows = pl.DataFrame(
        {
            "unit": rng.integers(0, 3, 5000),
            "gender": rng.choice(GENDER.groups, 5000).tolist(),
            "age": rng.choice(AGE.groups, 5000, p=[0.5, 0.3, 0.2]).tolist(),
            "place": rng.choice(3, 5000, p=[0.6, 0.3, 0.1]),
        }
    )
    shape = layout(GENDER, AGE)
    parts = [
        count_segments(
            shape, [part["gender"].to_list(), part["age"].to_list()], part["place"].to_numpy()
        )
        for _, part in rows.group_by("unit", maintain_order=True)
    ]
    table = SegmentTable(shape, tuple(map(sum, zip(*parts, strict=True))), 3, None)
    found = compare_segments(table, terms(bound(), bound("age"), bound("gender & age")))
    assert len(found.findings) == 3 + 3 * 3 + 6 * 3
    named = rows.with_columns(both=pl.col("gender") + " & " + pl.col("age"))
    for one in found.findings:
        column = {"gender": "gender", "age": "age"}.get(one.attribute, "both")
        here = pl.col("place") == int(one.rate.removeprefix("share_of_segment_")) - 1
        share, others = (
            named.filter(side).select((pl.col(column) == one.group).mean()).item()
            for side in (here, ~here)
        )
        assert one.gap == pytest.approx(share - others, abs=1e-9)
        assert one.interval.low < share - others < one.interval.high


@pytest.mark.parametrize("gap", [0.1, -0.1])
def test_at_the_boundary_pass_and_fail_are_each_wrong_at_most_at_alpha(gap):
    """Two segments, whose gap is the threshold: there PASS is wrong, and so is FAIL."""
    found = verdicts((layout(segments=2), two_by(0.45 + gap, 0.45)), 2000, 100, terms())
    assert max(found["PASS"], found["FAIL"]) <= most(100)


@pytest.mark.slow
def test_of_several_groups_and_segments_none_more_is_wrong():
    """Of nine comparisons one is at its threshold, and in another world six are."""
    young = [0.48, 0.42, 0.34]
    apart = [0.5 + 0.1 * 2 / 3, 0.5 - 0.1 / 3, 0.5 - 0.1 / 3]
    for first in (young, apart):
        shares = [*first, *[0.6 * (1 - x) for x in first], *[0.4 * (1 - x) for x in first]]
        gap = first[0] - (first[1] + first[2]) / 2
        world = (layout(AGE), shares)
        found = verdicts(world, 4000, 40, terms(bound("age", gap=gap)))
        assert max(found["PASS"], found["FAIL"]) <= most(40)


@pytest.mark.parametrize(
    ("shares", "right"),
    [((0.5, 0.49), "PASS"), ((0.8, 0.5), "FAIL"), ((0.02, 0.5), "FAIL"), ((0.0, 0.5), "FAIL")],
)
def test_well_inside_and_well_outside_the_verdict_is_right(shares, right):
    """A segment with hardly a woman in it fails, though she alone is too few to be told of."""
    found = verdicts((layout(segments=2), two_by(*shares)), 6000, 20, terms())
    assert found[right] >= 0.9


@pytest.mark.parametrize("least", [15, 30])
def test_ten_people_are_insufficient_unless_a_merge_was_declared(least):
    """Of 6,000 customers about ten are old, as many in each segment."""
    old = 10 / 6000
    shares = [*[0.5] * 2, *[0.5 - old] * 2, *[old] * 2]
    world = (layout(AGE, segments=2), shares)
    apart = terms(bound("age"), minimum_size=least)
    assert verdicts(world, 6000, 8, apart)["INSUFFICIENT"] == 1
    merge = GroupMerge(attribute="age", groups=("middle", "old"), merged="older")
    merged = terms(bound("age"), minimum_size=least, merges=(merge,))
    assert verdicts(world, 6000, 8, merged)["PASS"] == 1


@pytest.mark.parametrize(
    ("few", "enough"),
    [
        # Of two segments the first is compared: here hardly anybody is in the other one.
        ((1000, 10, 1000, 10), (1000, 60, 1000, 60)),
        # Of two groups the first is compared: here hardly anybody is in the other one.
        ((1000, 1000, 10, 10), (1000, 1000, 60, 60)),
    ],
)
def test_with_too_few_people_in_the_others_or_outside_the_group_nothing_is_shown(few, enough):
    shape = layout(segments=2)
    for counts, few_people in ((few, True), (enough, False)):
        (one,) = compare_segments(SegmentTable(shape, counts, 2, 5.0), terms()).findings
        assert (one.outcome == "too_few") is few_people


def test_a_tiny_segment_sets_no_reference_and_hides_nothing():
    """Twenty people, all of them women, in a third segment: the others pass, and it stays open."""
    counts = (500, 510, 20, 500, 490, 0)
    found = compare_segments(SegmentTable(layout(), counts, 2, 5.0), terms())
    outcomes = {one.rate[-1]: one.outcome for one in found.findings}
    assert outcomes == {"1": "within", "2": "within", "3": "too_few"}
    assert found.verdict == "INSUFFICIENT"
    assert found.findings[0].gap == pytest.approx(500 / 1000 - 530 / 1020)


def test_of_two_groups_or_two_segments_one_is_compared():
    names = [
        [(one.group, one.name) for one in segment_comparisons(shape, terms(of))]
        for shape, of in (
            (layout(segments=2), bound()),
            (layout(), bound()),
            (layout(AGE, segments=2), bound("age")),
        )
    ]
    first = "share_of_segment_1"
    assert names[0] == [("female", first)]
    assert names[1] == [("female", f"share_of_segment_{number}") for number in (1, 2, 3)]
    assert names[2] == [(group, first) for group in AGE.groups]


def test_the_table_and_terms_are_those_that_the_dpia_binds():
    shape, found = segment_audit_of(bindings(), (7, 3))
    assert (shape.segments, shape.attributes) == ((7, 3), (GENDER,))
    assert (found.alpha, found.minimum_size, found.bounds) == (0.1, 50, (bound(),))


PARITY = bound(metric="demographic_parity_difference")


@pytest.mark.parametrize(
    ("bound_in", "segments", "code"),
    [
        (bindings(fairness=None), (1, 2), "fairness.not_bound"),
        (bindings(fairness_audit=None), (1, 2), "fairness.not_bound"),
        (bindings(PARITY), (1, 2), "fairness.not_bound"),
        (bindings(bound(), PARITY), (1, 2), "fairness.not_bound"),
        (
            bindings(fairness_audit=AuditTerms(attributes=(GENDER,), further_edges=(0.5,))),
            (1, 2),
            "fairness.not_bound",
        ),
        (bindings(), (1, 1), "fairness.not_bound"),
        (bindings(), (1,), "fairness.unknown_group"),
        (bindings(bound("age")), (1, 2), "fairness.unknown_group"),
    ],
)
def test_what_binds_no_audit_of_segments_is_refused(bound_in, segments, code):
    segment_audit_of(bindings(), (1, 2))
    with pytest.raises(InvalidRecordError) as refused:
        segment_audit_of(bound_in, segments)
    assert refused.value.code == code


def many(**groups):
    """Attributes with so many groups each."""
    return tuple(
        SensitiveAttribute(name=name, groups=tuple(f"{name}{number}" for number in range(count)))
        for name, count in groups.items()
    )


CROSSED = many(age=25, region=20)
ALL = AuditTerms(attributes=(*CROSSED, GENDER))


@pytest.mark.parametrize(
    ("at_the_most", "beyond", "segments", "count"),
    [
        # Each of many groups in two segments, and one more comparison of two other groups.
        (
            bindings(bound("age & region"), fairness_audit=ALL),
            bindings(bound("age & region"), bound(), fairness_audit=ALL),
            2,
            501,
        ),
        # Hardly any groups in many segments.
        (
            bindings(bound("age"), fairness_audit=AuditTerms(attributes=many(age=5))),
            bindings(bound("age"), fairness_audit=AuditTerms(attributes=many(age=6))),
            100,
            600,
        ),
        # What is merged counts as one.
        (
            bindings(
                bound("age"),
                fairness_audit=AuditTerms(
                    attributes=many(age=6),
                    merges=(GroupMerge(attribute="age", groups=("age0", "age1"), merged="low"),),
                ),
            ),
            bindings(bound("age"), fairness_audit=AuditTerms(attributes=many(age=6))),
            100,
            600,
        ),
    ],
)
def test_of_more_comparisons_than_anybody_waits_for_there_is_no_audit(
    at_the_most, beyond, segments, count
):
    ids = tuple(range(1, segments + 1))
    shape, of = segment_audit_of(at_the_most, ids)
    assert len(segment_comparisons(shape, of)) == MAX_COMPARISONS
    fewest = segment_comparisons(*segment_audit_of(at_the_most, (1, 2)))
    assert bound_comparisons(at_the_most) == len(fewest)
    with pytest.raises(InvalidRecordError) as refused:
        segment_audit_of(beyond, ids)
    assert refused.value.code == "fairness.not_bound"
    assert f"there are {count} comparisons" in refused.value.public
    assert f"at most {MAX_COMPARISONS}" in refused.value.public
    assert "merge groups" in refused.value.public


def test_comparisons_are_counted_before_any_is_made():
    """Of 2,187 crossed groups, as many cells say who is in each: they would fill five megabytes."""
    names = ("a", "b", "c", "d", "e", "f", "g")
    shape = SegmentLayout(attributes=many(**dict.fromkeys(names, 3)), segments=(1, 2, 3))
    of = terms(bound(" & ".join(names)))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRecordError, match="there are 6561 comparisons"):
            segment_comparisons(shape, of)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_dpia_of_segments_binds_no_audit_of_scores():
    audit_of(bindings(PARITY))
    with pytest.raises(InvalidRecordError) as refused:
        audit_of(bindings())
    assert refused.value.code == "fairness.not_bound"
