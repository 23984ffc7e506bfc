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
from fedcore.evaluation_outcomes import table_epsilon
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

_Number = Annotated[int, Field(ge=1, le=2**31 - 1)]


class GroupCount(Part):
    """A group of an attribute, or of several that are crossed, in noised counts. One below the
    DPIA's minimum size is not shown: it is noise for the greater part.
    """

    attribute: Text
    group: Text
    people: Count | None = None
    positive: Count | None = None
    selected: Count | None = None


class AuditFindings(Part):
    """What the tables say under the terms of the DPIA: whole, and bound by bound."""

    threshold: Annotated[float, Field(gt=0, lt=1)]
    alpha: Annotated[float, Field(gt=0, lt=1)]
    minimum_size: _Number
    groups: tuple[GroupCount, ...]
    bounds: Annotated[tuple[BoundOutcome, ...], Field(min_length=1)]
    verdict: Verdict
    meaning: Text


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
    table, terms = audited_table(plan, tables, bindings)
    result = decide_fairness(table, terms)
    return AuditFindings(
        threshold=table.layout.threshold,
        alpha=terms.alpha,
        minimum_size=terms.minimum_size,
        groups=_groups(table, terms),
        bounds=tuple(_bound(table, terms, bound, result) for bound in terms.bounds),
        verdict=result.verdict,
        meaning=MEANINGS[result.verdict],
    )


def audited_table(
    plan: EvaluationPlan, tables: Sequence[NoisedTables], bindings: Bindings
) -> tuple[GroupTable, FairnessTerms]:
    """Return the sum of the units' tables of groups, and the terms that a DPIA binds.

    Raises: as `derive_audit`.
    """
    if plan.fairness is None:
        raise InvalidRecordError("fairness.table_invalid", "the plan counts no groups")
    layout, terms = audit_of(bindings, plan.fairness.threshold)
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
        for attribute in dict.fromkeys(bound.attribute for bound in terms.bounds)
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


def _bound(
    table: GroupTable, terms: FairnessTerms, bound: FairnessBound, result: FairnessResult
) -> BoundOutcome:
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
        between=between_groups(table, terms, bound),
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
