"""Lies about which groups are in which segment, and honest twins; see `promotion_lies.py`."""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np

from fedcore.audit_lists import BoundOutcome, Compared, WidestGap
from fedcore.bundle import Evidence
from fedcore.clusterings import CourseSpec, SegmentCount
from fedcore.dpias import FairnessBound
from fedcore.evaluation_outcomes import Measured
from fedcore.fairness import MEANINGS
from fedcore.fairness_audits import AuditFindings, SegmentShare
from fedcore.fairness_bindings import AuditTerms, GroupMerge, SensitiveAttribute
from fedcore.plans import Feature, ModelSpec
from fedcore.privacy.clustering import Placement
from fedcore.segments.artefact import SegmentModel, encode_model
from fedcore.segments.groups import SegmentLayout
from fedcore.segments.noised import NoisedSums

Edit = Callable[[Any], Any]
Lie = Callable[[Any, Any, Evidence], Evidence]

GENDER = SensitiveAttribute(name="gender", groups=("female", "male"))
METRIC = "segment_share_difference"
Groups = Mapping[str, tuple[str, ...]]
OF_GENDER = {"gender": GENDER.groups}
COURSE = CourseSpec(segments=SegmentCount(least=2, most=3), spread=6, searches=1, refinements=1)
# The stable ids in the order of the model's centres, which is not theirs.
IDS = (5, 2, 4)
TRIES = tuple((number, 1, ("north", "south", "west")) for number in (1, 2, 3, 4))


def changed(**update: Any) -> Edit:
    """Return an edit of a record."""
    return lambda record: record.model_copy(update=update)


def of_bindings(**update: Any) -> Edit:
    """Return an edit of what a DPIA binds."""
    return lambda dpia: changed(bindings=dpia.bindings.model_copy(update=update))(dpia)


def of_found(edit: Edit) -> Edit:
    """Return an edit of what an audit found."""
    return lambda audit: changed(found=edit(audit.found))(audit)


def first_of(name: str, **update: Any) -> Edit:
    """Return an edit of the first of several parts of what an audit found."""

    def edit(found: Any) -> Any:
        first, *others = getattr(found, name)
        return found.model_copy(update={name: (first.model_copy(update=update), *others)})

    return edit


def of_compared(**update: Any) -> Edit:
    """Return an edit of the first comparison of an audit, and of no verdict."""

    def edit(found: Any) -> Any:
        (bound,) = found.bounds
        one, *others = bound.compared
        whole = (one.model_copy(update=update), *others)
        return first_of("bounds", compared=whole)(found)

    return of_found(edit)


def compared_in(names: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return which of these are compared: of two, one is all that the other is not."""
    return names[:1] if len(names) == 2 else names


def findings(
    ids: tuple[int, ...] = IDS, outcome: Any = "within", groups: Groups = OF_GENDER
) -> AuditFindings:
    """Return what an audit found of so many segments, bound for these attributes' groups."""
    verdict: Any = {"within": "PASS", "open": "INSUFFICIENT"}[outcome]
    high = 0.05 if outcome == "within" else 0.2
    return AuditFindings(
        alpha=0.05,
        minimum_size=30,
        groups=(),
        bounds=tuple(
            BoundOutcome(
                attribute=attribute,
                metric=METRIC,
                largest_gap=0.1,
                verdict=verdict,
                widest=WidestGap(
                    group=names[0], rate=f"share_of_segment_{ids[0]}", low=0.0, high=high
                ),
                compared=tuple(
                    Compared(
                        group=group,
                        rate=f"share_of_segment_{number}",
                        gap=0.01,
                        low=-0.05,
                        high=high,
                        outcome=outcome,
                    )
                    for group in compared_in(names)
                    for number in compared_in(ids)
                ),
            )
            for attribute, names in groups.items()
        ),
        verdict=verdict,
        meaning=MEANINGS[verdict],
        shares=tuple(
            SegmentShare(
                attribute=attribute,
                group=group,
                segment=number,
                people=90,
                share=0.5,
                low=0.4,
                high=0.6,
            )
            for attribute, names in groups.items()
            for group in names
            for number in ids
        ),
    )


def model_bytes(ids: tuple[int, ...] = IDS) -> bytes:
    """Return a segmentation of two or three segments, as a run of `as_segments` releases it."""
    placement = Placement(np.linspace(-0.5, 0.5, len(ids))[:, None], 0.5)
    terms = COURSE.release_terms(8.0)
    sums = NoisedSums(placement, terms, 3, np.full((len(ids), 3), 400.0))
    return encode_model(SegmentModel(sums, ids, newest=7))


def as_segments(plan: Any) -> Any:
    """Return a plan of centres, without floors."""
    privacy = plan.privacy.model_copy(
        update={"l2_clip_norm": COURSE.l2_sensitivity, "local_steps": 1}
    )
    return plan.model_copy(
        update={
            "features": (Feature(field="tenure", encoding="scale"),),
            "model": ModelSpec(kind="centres", course=COURSE),
            "algorithm": None,
            "rounds": 4,
            "privacy": privacy,
            "metric_floors": None,
        }
    )


SIZE = Measured(
    name="segment_5_share",
    value=0.4,
    low=0.3,
    high=0.5,
    sampling_sd=0.02,
    noise_sd=0.02,
    bins_error=0.0,
)
BOUND = FairnessBound(attribute="gender", metric=METRIC, largest_gap=0.1)
COUNTED = SegmentLayout(attributes=(GENDER,), segments=IDS)
BASE: dict[str, Edit] = {
    "plan": as_segments,
    "dpia": of_bindings(fairness=(BOUND,)),
    "evaluation_plan": changed(rows="all", fairness=None, segments=COUNTED),
    "evaluation": lambda e: changed(models=(changed(numbers=(SIZE,))(e.models[0]),))(e),
    "audit": changed(found=findings()),
}


def counted(waived: bool = False, ids: tuple[int, ...] = IDS, **edits: Edit) -> Lie:
    """Return a segmentation that became champion, of which records were changed before they were
    signed.
    """

    def both(first: Edit, second: Edit) -> Edit:
        return lambda record: second(first(record))

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        other = type(world)(world.realm)
        other.artifact, other.tries = model_bytes(ids), TRIES
        whole = {name: both(edit, edits.get(name, same)) for name, edit in BASE.items()}
        found: Evidence = other.promoted(waived=waived, **{**edits, **whole})
        return found

    return lie


def same(record: Any) -> Any:
    """Return a record as it is."""
    return record


def of_scores(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return a model that scores, of which segments were counted."""
    other = type(world)(world.realm)
    edits = {**BASE, "plan": changed(metric_floors=None)}
    found: Evidence = other.promoted(waived=False, **edits)
    return found


def scored(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return a segmentation that was evaluated and audited as if it scored."""
    other = type(world)(world.realm)
    other.artifact, other.tries = model_bytes(), TRIES
    found: Evidence = other.promoted(waived=False, plan=as_segments)
    return found


def one_group_of(found: Any) -> Any:
    """Return what would be found of groups that are merged into one."""
    bound = found.bounds[0]
    compared = tuple(changed(group="all")(one) for one in bound.compared)
    whole = changed(compared=compared, widest=changed(group="all")(bound.widest))(bound)
    shares = tuple(changed(group="all")(one) for one in found.shares[: len(IDS)])
    return changed(bounds=(whole,), shares=shares)(found)


# Of two segments each group is compared once: 500 groups are the most, and a third attribute with
# two groups makes one comparison more.
PAIR = (5, 2)
CROSSED = tuple(
    SensitiveAttribute(name=name, groups=tuple(f"{name}{number}" for number in range(count)))
    for name, count in (("age", 25), ("region", 20))
)
MANY = {"age & region": tuple(map(" & ".join, product(*(each.groups for each in CROSSED))))}


def of_many(groups: Groups) -> Lie:
    """Return a segmentation whose audit compares these groups, as its DPIA binds."""
    attributes = (*CROSSED, GENDER)
    bounds = tuple(changed(attribute=name)(BOUND) for name in groups)
    return counted(
        ids=PAIR,
        dpia=of_bindings(fairness=bounds, fairness_audit=AuditTerms(attributes=attributes)),
        evaluation_plan=changed(segments=SegmentLayout(attributes=attributes, segments=PAIR)),
        audit=changed(found=findings(PAIR, groups=groups)),
    )


MERGED = AuditTerms(
    attributes=(GENDER,),
    merges=(GroupMerge(attribute="gender", groups=GENDER.groups, merged="all"),),
)
HIDDEN = {"people": None, "share": None, "low": None, "high": None}
ORDERED = tuple(sorted(IDS))
LIES: dict[str, tuple[str, Lie]] = {
    "a share above its interval": (
        "audits",
        counted(audit=of_found(first_of("shares", share=0.7))),
    ),
    "a share below its interval": (
        "audits",
        counted(audit=of_found(first_of("shares", share=0.3))),
    ),
    "a share of people who are not told": (
        "audits",
        counted(audit=of_found(first_of("shares", people=None))),
    ),
    "a share left out": (
        "audits",
        counted(audit=of_found(lambda f: changed(shares=f.shares[1:])(f))),
    ),
    "shares of another segment": (
        "audits",
        counted(audit=of_found(first_of("shares", segment=9))),
    ),
    "passed with a gap beyond": ("audits", counted(audit=of_compared(high=0.11))),
    "passed with an open gap": (
        "audits",
        counted(audit=of_compared(high=0.11, outcome="open")),
    ),
    "a gap of another segment": (
        "audits",
        counted(audit=of_compared(rate="share_of_segment_9")),
    ),
    "a segment that was not compared": (
        "audits",
        counted(audit=of_found(lambda f: first_of("bounds", compared=f.bounds[0].compared[1:])(f))),
    ),
    "a group that is everybody, compared with nobody": (
        "audits",
        counted(dpia=of_bindings(fairness_audit=MERGED), audit=of_found(one_group_of)),
    ),
    "one comparison more than anybody waits for": ("audits", of_many({**MANY, **OF_GENDER})),
    "segments audited of another version": ("audits", counted(audit=changed(version=2))),
    "segments audited by other tables": (
        "audits",
        counted(audit=changed(tables=("sha256:" + "0" * 64,) * 3)),
    ),
    "segments audited by another plan": (
        "audits",
        counted(audit=changed(plan="sha256:" + "0" * 64)),
    ),
    "groups of segments that the DPIA does not bind": (
        "audits",
        counted(
            evaluation_plan=changed(
                segments=COUNTED.model_copy(
                    update={"attributes": (changed(groups=("male", "female"))(GENDER),)}
                )
            )
        ),
    ),
    "segments in another order than the model's": (
        "evaluations.terms",
        counted(
            evaluation_plan=changed(segments=SegmentLayout(attributes=(GENDER,), segments=ORDERED)),
            audit=changed(found=findings(ORDERED)),
        ),
    ),
    "segments of a model that scores": ("evaluations.terms", of_scores),
    "scores of a model of segments": ("evaluations.terms", scored),
}
# Of these more than one check can tell.
WIDE: dict[str, tuple[str, Lie]] = {
    "all rows, and scores of them": (
        "evaluations.terms",
        lambda world, documents, evidence: world.promoted(evaluation_plan=changed(rows="all")),
    ),
    "a threshold where nobody is scored": (
        "audits",
        counted(audit=of_found(changed(threshold=0.5))),
    ),
}
TWINS: dict[str, Lie] = {
    "a segmentation that became champion": counted(),
    "a segmentation that two people waive": counted(
        waived=True, audit=changed(found=findings(outcome="open"))
    ),
    "as many comparisons as there may be": of_many(MANY),
    "segments of those who were set aside": counted(evaluation_plan=changed(rows="holdout")),
    "a share at the end of its interval": counted(audit=of_found(first_of("shares", share=0.6))),
    "a share of too few to be told": counted(audit=of_found(first_of("shares", **HIDDEN))),
    "two groups turned in both": counted(
        dpia=of_bindings(
            fairness_audit=AuditTerms(attributes=(changed(groups=("male", "female"))(GENDER),))
        ),
        evaluation_plan=changed(
            segments=COUNTED.model_copy(
                update={"attributes": (changed(groups=("male", "female"))(GENDER),)}
            )
        ),
        audit=of_found(
            lambda f: changed(
                shares=tuple(sorted(f.shares, key=lambda one: one.group == "female")),
                bounds=(
                    changed(
                        compared=tuple(changed(group="male")(one) for one in f.bounds[0].compared)
                    )(f.bounds[0]),
                ),
            )(f)
        ),
    ),
}
