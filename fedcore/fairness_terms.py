"""What a DPIA binds about fairness before training, and the comparisons that follow from it.

Reference: names of the metrics as in Hardt, Price and Srebro (2016), Chouldechova (2017).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Self, TypeVar, get_args

import numpy as np
from pydantic import Field, ValidationError, model_validator

from fedcore import canonical
from fedcore.contracts import ContractField
from fedcore.dpias import Bindings, FairnessBound
from fedcore.errors import InvalidRecordError
from fedcore.fairness_bindings import (
    CROSSED,
    DEFAULT_ALPHA,
    DEFAULT_MINIMUM_SIZE,
    UNKNOWN,
    Alpha,
    AuditTerms,
    GroupMerge,
    MinimumSize,
    SensitiveAttribute,
)
from fedcore.fairness_tables import CrossedGroups, Mask, TableLayout
from fedcore.record import Part, first_problem

Metric = Literal[
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equal_opportunity_difference",
    "equalised_odds_difference",
    "predictive_parity_difference",
    "calibration_difference",
]
METRICS: tuple[Metric, ...] = get_args(Metric)
# Of segments, which have no scores: a DPIA of a segmentation binds it.
SEGMENT_METRIC = "segment_share_difference"
_RATES = {
    "demographic_parity_difference": ("selection_rate",),
    "demographic_parity_ratio": ("selection_rate",),
    "equal_opportunity_difference": ("true_positive_rate",),
    "equalised_odds_difference": ("true_positive_rate", "false_positive_rate"),
    "predictive_parity_difference": ("positive_predictive_value",),
}
# Whoever hands in the last tables waits for the audit, as long as `gateway_http.TIMEOUT` says; each
# comparison takes its time, so that of many more there would be no answer.
MAX_COMPARISONS = 500

T = TypeVar("T")


class FairnessTerms(Part):
    """What the DPIA binds before training; nothing of it may depend on a table.

    Attributes:
        bounds: metrics and thresholds. An attribute is one of the table, or several with " & "
            between them, whose crossed groups are then compared.
        alpha: the rate at which a verdict of PASS may be wrong, and one of FAIL.
        minimum_size: with fewer people in a group, or in the rest, their comparison is open.
        merges: groups that count as one in every comparison.
    """

    bounds: Annotated[tuple[FairnessBound, ...], Field(min_length=1, max_length=100)]
    alpha: Alpha = DEFAULT_ALPHA
    minimum_size: MinimumSize = DEFAULT_MINIMUM_SIZE
    merges: Annotated[tuple[GroupMerge, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        unknown = {bound.metric for bound in self.bounds} - {*METRICS, SEGMENT_METRIC}
        if unknown:
            raise ValueError(f"bounds: a metric is one of {', '.join((*METRICS, SEGMENT_METRIC))}")
        crossed = [bound.attribute.split(CROSSED) for bound in self.bounds]
        if any(len(set(names)) < len(names) for names in crossed):
            raise ValueError("bounds: an intersection crosses each attribute once")
        pairs = [(bound.attribute, bound.metric) for bound in self.bounds]
        if len(set(pairs)) < len(pairs):
            raise ValueError("bounds: each attribute and metric once")
        merged = [(merge.attribute, group) for merge in self.merges for group in merge.groups]
        if len(set(merged)) < len(merged):
            raise ValueError("merges: each group in one of them")
        if any(CROSSED in merge.merged for merge in self.merges):
            raise ValueError(f"merges: no name has {CROSSED!r} in it")
        return self


class Rate(NamedTuple):
    """A rate as outcomes that hit, and others that miss: of shape (bands, 2), or (cells, bands, 2)
    where a band means another thing in each cell.
    """

    name: str
    hits: Mask
    misses: Mask


@dataclass(frozen=True)
class Comparison:
    """One rate of one group against that of the rest."""

    bound: FairnessBound
    group: str
    cells: Mask
    rate: Rate


def audit_of(bindings: Bindings, threshold: float) -> tuple[TableLayout, FairnessTerms]:
    """Return the table and the terms that a DPIA binds, at the threshold of a plan.

    Guarantees: the table has every attribute and group that the terms name, and there is something
        to compare, but no more than `MAX_COMPARISONS`.
    Raises: InvalidRecordError `fairness.not_bound` when the DPIA has no bounds, does not say how an
        audit is made, has bounds or edges that break a rule, or binds more comparisons;
        `fairness.unknown_group`.
    """
    audit, terms = terms_of(bindings, METRICS)
    try:
        layout = TableLayout(
            attributes=audit.attributes,
            threshold=threshold,
            further_edges=audit.further_edges or (),
        )
    except ValidationError as error:
        raise not_bound(first_problem(error)) from error
    verify_comparable(layout, terms, rate_counts(layout.bands))
    return layout, terms


def terms_of(bindings: Bindings, metrics: Collection[str]) -> tuple[AuditTerms, FairnessTerms]:
    """Return how an audit is made and what may differ, by a DPIA that binds these metrics.

    Raises: InvalidRecordError `fairness.not_bound` when it binds no audit, breaks a rule, or binds
        another metric: a bound that no audit of the model can test would stay open for ever.
    """
    audit = bindings.fairness_audit
    if audit is None or not bindings.fairness:
        raise not_bound("fairness bounds, and how they are audited")
    try:
        terms = FairnessTerms(
            bounds=bindings.fairness,
            alpha=audit.alpha or DEFAULT_ALPHA,
            minimum_size=audit.minimum_size or DEFAULT_MINIMUM_SIZE,
            merges=audit.merges or (),
        )
    except ValidationError as error:
        raise not_bound(first_problem(error)) from error
    if not {bound.metric for bound in terms.bounds} <= set(metrics):
        raise not_bound(f"bounds: of such a model a metric is one of {', '.join(metrics)}")
    return audit, terms


def bound_audit(bindings: Bindings) -> str | None:
    """Return the digest of all that a DPIA binds about fairness, or None when it binds no audit.

    Guarantees: two DPIAs with one digest hold a model to the same groups, metrics and thresholds.
    """
    audit = bindings.fairness_audit
    if audit is None or not bindings.fairness:
        return None
    bounds = [bound.model_dump(mode="json") for bound in bindings.fairness]
    return canonical.digest_of([audit.model_dump(mode="json"), bounds])


def fits_field(attribute: SensitiveAttribute, field: ContractField) -> bool:
    """Return whether the groups of an attribute are those of a field: all its categories, or the
    intervals between edges inside its public bounds. A category that is left out could hide people.
    """
    if field.kind == "categorical":
        known = {UNKNOWN, *field.categories}
        return attribute.edges is None and {UNKNOWN, *attribute.groups} == known
    lower, upper = field.lower, field.upper
    if attribute.edges is None or lower is None or upper is None:
        return False
    return all(lower < edge < upper for edge in attribute.edges)


def bound_comparisons(bindings: Bindings) -> int | None:
    """Return how many comparisons an audit makes that a DPIA binds, whatever the threshold; of
    segments, whose number it does not say, the least. None when it binds no audit that can be made.
    """
    try:
        audit, terms = terms_of(bindings, (*METRICS, SEGMENT_METRIC))
        groups = CrossedGroups(attributes=audit.attributes)
        counts = rate_counts(len(audit.further_edges or ()) + 2)
        return _comparison_count(groups, terms, {**counts, SEGMENT_METRIC: 1})
    except (InvalidRecordError, ValidationError):
        return None


def verify_comparable(
    layout: CrossedGroups, terms: FairnessTerms, rates: Mapping[str, int]
) -> None:
    """Refuse terms by which there is nothing to compare, or more than anybody waits for.

    Guarantees: comparisons are counted, and none is made.
    Args: `rates` says how many rates of a group each metric compares.
    Raises: InvalidRecordError `fairness.unknown_group`; `fairness.not_bound` for more than
        `MAX_COMPARISONS`.
    """
    for merge in terms.merges:
        layout.cells_where({merge.attribute: merge.groups})
    count = _comparison_count(layout, terms, rates)
    if count > MAX_COMPARISONS:
        raise not_bound(
            f"bounds: there are {count} comparisons of groups, and of at most {MAX_COMPARISONS} an "
            "audit is made; merge groups, bind or cross fewer attributes, bind fewer "
            "further_edges, or take a model of fewer segments"
        )


def comparisons_of(
    layout: TableLayout, terms: FairnessTerms, selected: Mask | None = None
) -> tuple[Comparison, ...]:
    """Return every comparison that the terms declare, in their order.

    Of two groups each is the other's rest, so that there is one comparison.
    Guarantees: at most `MAX_COMPARISONS`, which are counted before any is made.
    Args: `selected` as for `rates_of`.
    Raises: InvalidRecordError `fairness.unknown_group`, `fairness.not_bound`.
    """
    verify_comparable(layout, terms, rate_counts(layout.bands))
    found = []
    for bound in terms.bounds:
        groups = list(declared_groups(layout, terms.merges, bound.attribute).items())
        rates = rates_of(layout, bound.metric, selected)
        found += [
            Comparison(bound, group, cells, rate)
            for group, cells in but_other(groups)
            for rate in rates
        ]
    return tuple(found)


def but_other(sides: Sequence[T]) -> Sequence[T]:
    """Return those that are compared: of two only the first, for each is the other's rest."""
    return sides[: 1 if len(sides) == 2 else None]


def declared_groups(
    layout: CrossedGroups, merges: Sequence[GroupMerge], attribute: str
) -> dict[str, Mask]:
    """Return the groups of an attribute, or the crossed ones of several with " & " between them, as
    the cells of each, with declared merges.

    Guarantees: every cell is in one of them.
    Raises: InvalidRecordError `fairness.unknown_group`.
    """
    found: dict[str, Mask] = {"": np.ones(len(layout.cells), dtype=np.bool_)}
    for name in attribute.split(CROSSED):
        parts = {
            into: layout.cells_where({name: groups})
            for into, groups in _members(layout, merges, name).items()
        }
        found = {
            f"{label}{CROSSED}{part}" if label else part: cells & more
            for label, cells in found.items()
            for part, more in parts.items()
        }
    return found


def rate_names(metric: str, bands: int) -> tuple[str, ...]:
    """Return the names of the rates that a metric of scores compares, in so many bands."""
    if metric == "calibration_difference":
        return tuple(f"positives_in_band_{band}" for band in range(1, bands + 1))
    return _RATES[metric]


def rate_counts(bands: int) -> dict[str, int]:
    """Return how many rates each metric of scores compares, in so many bands."""
    return {metric: len(rate_names(metric, bands)) for metric in METRICS}


def rates_of(layout: TableLayout, metric: str, selected: Mask | None = None) -> tuple[Rate, ...]:
    """Return the rates that a metric compares, those of calibration from the lowest band.

    Args: `selected` says which bands are selected, shape (bands,), or which of each cell, shape
    (cells, bands); without it those at or above the layout's threshold.
    """
    chosen = layout.selected_bands if selected is None else selected
    selected = np.repeat(chosen[..., None], 2, axis=-1)
    positive = np.tile(np.array([False, True]), (layout.bands, 1))
    selection = Rate("selection_rate", selected, ~selected)
    true = Rate("true_positive_rate", selected & positive, ~selected & positive)
    false = Rate("false_positive_rate", selected & ~positive, ~selected & ~positive)
    value = Rate("positive_predictive_value", selected & positive, selected & ~positive)
    within = [np.arange(layout.bands)[:, None] == band for band in range(layout.bands)]
    names = rate_names("calibration_difference", layout.bands)
    bands = [
        Rate(name, inside & positive, inside & ~positive)
        for name, inside in zip(names, within, strict=True)
    ]
    rates = {rate.name: rate for rate in (selection, true, false, value, *bands)}
    return tuple(rates[name] for name in rate_names(metric, layout.bands))


def _comparison_count(layout: CrossedGroups, terms: FairnessTerms, rates: Mapping[str, int]) -> int:
    """Return how many comparisons the terms declare, which may be more than anybody should make."""
    found = 0
    for bound in terms.bounds:
        names = bound.attribute.split(CROSSED)
        groups = math.prod(len(_members(layout, terms.merges, name)) for name in names)
        if groups < 2:
            raise InvalidRecordError(
                "fairness.unknown_group", f"{bound.attribute!r} has one group: nothing to compare"
            )
        found += (1 if groups == 2 else groups) * rates[bound.metric]
    return found


def _members(
    layout: CrossedGroups, merges: Sequence[GroupMerge], name: str
) -> dict[str, list[str]]:
    """Return the groups of one attribute, by the group that they count as."""
    names = {group: group for group in layout.groups_of(name)}
    for merge in merges:
        if merge.attribute != name:
            continue
        if merge.merged in set(names) - set(merge.groups):
            raise InvalidRecordError(
                "fairness.unknown_group",
                f"{merge.merged!r} is another group of {name!r}: give what is merged a new name",
            )
        names |= dict.fromkeys(merge.groups, merge.merged)
    members: dict[str, list[str]] = {}
    for group, into in names.items():
        members.setdefault(into, []).append(group)
    return members


def not_bound(lack: str) -> InvalidRecordError:
    """Return the refusal of a DPIA that binds no audit that can be made."""
    return InvalidRecordError("fairness.not_bound", f"the DPIA must bind an audit: {lack}")
