"""What is claimed of a model's fairness: derived from the units' noised tables, and signed.

Whoever has the plan, the tables and the DPIA derives the same again.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from fedcore.audit_lists import BoundOutcome, Compared, WidestGap
from fedcore.dpias import Bindings, FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.evaluation_outcomes import segments_of, table_epsilon
from fedcore.evaluations import Count, EvaluationPlan, NoisedTables
from fedcore.fairness import (
    MEANINGS,
    FairnessResult,
    Finding,
    Verdict,
    between_groups,
    decide_fairness,
    verdict_of,
)
from fedcore.fairness_tables import GroupTable, Mask, TableLayout, sum_tables
from fedcore.fairness_terms import FairnessTerms, audit_of, declared_groups
from fedcore.record import At, Digest, Name, Part, Positive, Realm, Record, Text
from fedcore.segments.comparing import compare_segments, segment_audit_of
from fedcore.segments.groups import (
    GroupTerms,
    SegmentId,
    SegmentLayout,
    SegmentTable,
    share_groups,
)

_Number = Annotated[int, Field(ge=1, le=2**31 - 1)]
Share = Annotated[float, Field(ge=0, le=1)]


class GroupCount(Part):
    """A group of an attribute, or of several that are crossed, in noised counts. One below the
    DPIA's minimum size is not shown: it is noise for the greater part.
    """

    attribute: Text
    group: Text
    people: Count | None = None
    positive: Count | None = None
    selected: Count | None = None


class SegmentShare(Part):
    """A group's share of a segment's people, and its interval in the population: those of all
    shares hold together at confidence 1 - alpha. Where fewer than the DPIA's minimum seem to be in
    the group's part of the segment, or in the rest of it, nothing is shown.
    """

    attribute: Text
    group: Text
    segment: SegmentId
    people: Count | None = None
    share: Share | None = None
    low: Share | None = None
    high: Share | None = None

    @property
    def lies_in_its_interval(self) -> bool:
        """Whether all of it is told, the share between the ends of its interval, or nothing is."""
        told = (self.low, self.share, self.high)
        if self.people is None:
            return told == (None, None, None)
        known = [each for each in told if each is not None]
        return len(known) == 3 and known == sorted(known)


class AuditFindings(Part):
    """What the tables say under the terms of the DPIA: whole, and bound by bound. `threshold` is of
    a model that scores; of segments there are `shares`.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    alpha: Annotated[float, Field(gt=0, lt=1)]
    minimum_size: _Number
    groups: tuple[GroupCount, ...]
    bounds: Annotated[tuple[BoundOutcome, ...], Field(min_length=1)]
    verdict: Verdict
    meaning: Text
    shares: Annotated[tuple[SegmentShare, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _of_scores_or_segments(self) -> Self:
        if (self.threshold is None) != (self.shares is not None):
            raise ValueError("threshold: of scores; shares: of segments; and one of both")
        return self

    @property
    def reading(self) -> str:
        """How sure verdicts and intervals are, in words."""
        return (
            "An interval of a gap contains chance and privacy noise; PASS and FAIL are each wrong "
            f"at a rate of at most {self.alpha:g}. The intervals of all largest gaps hold together "
            f"at {100 * (1 - self.alpha):g} %."
        )


class FairnessAudit(Record):
    """What is claimed of a model version's fairness, derived from the sum of the units' tables of
    outcomes by group. Signed by governance.

    `number` counts the audits of the version from 1. The first one decides; others name it and are
    shown beside it, for of several noised verdicts somebody could choose (PRIVACY.md, rule 24).
    """

    schema_name: Literal["fairness-audit/1"] = Field(default="fairness-audit/1", alias="schema")
    run_id: Name
    realm: Realm
    simulation: bool
    name: Name
    version: _Number
    artifact: Digest
    number: _Number
    first: Digest | None = None
    plan: Digest
    permit: Digest
    contract: Digest
    dpia: Digest
    evaluation: Digest
    tables: Annotated[tuple[Digest, ...], Field(min_length=1)]
    units: _Number
    table_epsilon: Positive
    found: AuditFindings
    audited_at: At

    @model_validator(mode="after")
    def _names_the_first(self) -> Self:
        if (self.first is None) != (self.number == 1):
            raise ValueError("first: every audit but the first one names it")
        return self


class Waiver(Record):
    """A named person answers for a model version that its audit does not pass, until a day; with a
    second one, who joins the first, it counts. Signed by governance.
    """

    schema_name: Literal["waiver/1"] = Field(default="waiver/1", alias="schema")
    name: Name
    version: _Number
    number: _Number
    audit: Digest
    people: Annotated[tuple[Name, ...], Field(min_length=1, max_length=2)]
    reason: Text
    expires_at: At
    joins: Digest | None = None
    waived_at: At

    @model_validator(mode="after")
    def _two_people_of_whom_one_joins(self) -> Self:
        if len(set(self.people)) < len(self.people):
            raise ValueError("people: two distinct ones")
        if (self.joins is None) != (len(self.people) == 1):
            raise ValueError("joins: the second person joins the first one's waiver")
        return self


def derive_audit(
    plan: EvaluationPlan, tables: Sequence[NoisedTables], bindings: Bindings
) -> AuditFindings:
    """Return what the units' tables say of the first model under the bindings of a DPIA.

    Guarantees: a function of noised numbers and of what was declared beforehand; PASS says no more
        than that the DPIA's thresholds are kept.
    Raises: InvalidRecordError `fairness.not_bound`, `fairness.unknown_group`,
        `fairness.table_invalid`, `fairness.noise_too_wide`.
    """
    if plan.segments is not None:
        return _derive_of_segments(plan, plan.segments, tables, bindings)
    table, terms = audited_table(plan, tables, bindings)
    result = decide_fairness(table, terms)
    between = [between_groups(table, terms, bound) for bound in terms.bounds]
    return AuditFindings(
        threshold=table.layout.threshold,
        alpha=terms.alpha,
        minimum_size=terms.minimum_size,
        groups=_groups(table, terms),
        bounds=tuple(_bound(*about, result) for about in zip(terms.bounds, between, strict=True)),
        verdict=result.verdict,
        meaning=MEANINGS[result.verdict],
    )


def _derive_of_segments(
    plan: EvaluationPlan, counted: SegmentLayout, tables: Sequence[NoisedTables], bindings: Bindings
) -> AuditFindings:
    layout, terms = segment_audit_of(bindings, counted.segments)
    table = segments_of(layout, plan, tables)
    result = compare_segments(table, terms)
    return AuditFindings(
        alpha=terms.alpha,
        minimum_size=terms.minimum_size,
        groups=_people(table, terms),
        bounds=tuple(_bound(bound, None, result) for bound in terms.bounds),
        verdict=result.verdict,
        meaning=MEANINGS[result.verdict],
        shares=_shares(table, terms),
    )


def _people(table: SegmentTable, terms: FairnessTerms) -> tuple[GroupCount, ...]:
    """Return every group that is compared with its people in all segments together."""
    layout = table.layout
    anywhere = layout.only(0) | ~layout.only(0)
    found = []
    for attribute in _attributes(terms):
        for group, cells in declared_groups(layout, terms.merges, attribute).items():
            people = table.count(cells, anywhere).value
            shown = people if people >= terms.minimum_size else None
            found.append(GroupCount(attribute=attribute, group=group, people=shown))
    return tuple(found)


def _shares(table: SegmentTable, terms: FairnessTerms) -> tuple[SegmentShare, ...]:
    told = GroupTerms(_attributes(terms), terms.alpha, terms.minimum_size, terms.merges)
    return tuple(
        SegmentShare(
            attribute=one.attribute,
            group=one.group,
            segment=one.segment,
            people=one.count,
            share=one.share,
            low=None if one.interval is None else one.interval.low,
            high=None if one.interval is None else one.interval.high,
        )
        for one in share_groups(table, told)
    )


def _attributes(terms: FairnessTerms) -> tuple[str, ...]:
    return tuple(dict.fromkeys(bound.attribute for bound in terms.bounds))


def audited_table(
    plan: EvaluationPlan, tables: Sequence[NoisedTables], bindings: Bindings
) -> tuple[GroupTable, FairnessTerms]:
    """Return the sum of the units' tables of groups, and the terms that a DPIA binds.

    Raises: as `derive_audit`.
    """
    if plan.fairness is None:
        raise InvalidRecordError("fairness.table_invalid", "the plan counts no groups")
    layout, terms = audit_of(bindings)
    if layout.threshold != plan.fairness.threshold:
        raise InvalidRecordError(
            "fairness.table_invalid",
            f"threshold: the plan counts from {plan.fairness.threshold:g} on, and the DPIA binds "
            f"{layout.threshold:g}: have a plan with its table permitted",
        )
    counted = [each.tables[len(plan.models)] for each in tables]
    return sum_tables(layout, counted, float(table_epsilon(plan))), terms


def _groups(table: GroupTable, terms: FairnessTerms) -> tuple[GroupCount, ...]:
    """Return every group that is compared; the noised numbers decide what is shown."""
    everybody, positive, selected = _outcomes(table.layout)

    def shown(cells: Mask, outcomes: Mask) -> int | None:
        count = table.count(cells, outcomes).value
        return count if count >= terms.minimum_size else None

    return tuple(
        GroupCount(
            attribute=attribute,
            group=group,
            people=shown(cells, everybody),
            positive=shown(cells, positive),
            selected=shown(cells, selected),
        )
        for attribute in _attributes(terms)
        for group, cells in declared_groups(table.layout, terms.merges, attribute).items()
    )


def _outcomes(layout: TableLayout) -> tuple[Mask, Mask, Mask]:
    """Return everybody, those with a positive label, and those selected, of shape (bands, 2)."""
    everybody = np.ones((layout.bands, 2), dtype=np.bool_)
    return (
        everybody,
        everybody & np.array([False, True]),
        everybody & layout.selected_bands[:, None],
    )


def _bound(bound: FairnessBound, between: float | None, result: FairnessResult) -> BoundOutcome:
    about = (bound.attribute, bound.metric)
    findings = [each for each in result.findings if (each.attribute, each.metric) == about]
    widest = next(each for each in result.largest if (each.attribute, each.metric) == about)
    return BoundOutcome(
        attribute=bound.attribute,
        metric=bound.metric,
        largest_gap=bound.largest_gap,
        verdict=verdict_of({each.outcome for each in findings}),
        widest=WidestGap(
            group=widest.group,
            rate=widest.rate,
            low=widest.interval.low,
            high=widest.interval.high,
        ),
        between=between,
        compared=tuple(_compared(each) for each in findings),
    )


def _compared(finding: Finding) -> Compared:
    return Compared(
        group=finding.group,
        rate=finding.rate,
        gap=finding.gap,
        low=finding.interval.low,
        high=finding.interval.high,
        outcome=finding.outcome,
    )
