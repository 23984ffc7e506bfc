"""What is claimed of evaluated models: derived from the units' noised tables, and signed.

Whoever has the plan and the tables derives the same numbers again.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.evaluations import EvaluationPlan, NoisedTables, Rows
from fedcore.intervals import CONFIDENCE, Estimate, ScoreSum, quantile
from fedcore.metrics import measures, noised_sum
from fedcore.models import EpsilonClaim, OptOutEpoch
from fedcore.plans import TrainingPlan
from fedcore.record import At, Digest, Name, Part, Positive, Realm, Record
from fedcore.score_tables import BINS
from fedcore.segments.counted import CUSTOMERS, segment_measures
from fedcore.segments.groups import SegmentLayout, SegmentTable, sum_segment_tables

NotNegative = Annotated[float, Field(ge=0)]
# Where a model says yes or no in the counts of right and wrong; a plan of fairness adds its own.
THRESHOLD = 0.5
_ROWS: dict[Rows, str] = {
    "holdout": "customers set aside in training",
    "out_of_time": "rows of later days than training read",
    "all": "all customers",
}
DIFFERENCE = "roc_auc_difference"
SEEN_BY_CHECKS = (
    "Checks on the customers set aside have told when the training ended: numbers of them may be a "
    "little too good."
)


class Measured(Part):
    """A number by the name that `fedcore.metrics.measures` gives it, and its interval, which
    contains chance (`sampling_sd`), privacy noise (`noise_sd`) and what happens within bins.
    """

    name: Name
    value: float
    low: float
    high: float
    sampling_sd: NotNegative
    noise_sd: NotNegative
    bins_error: NotNegative


class ModelOutcome(Part):
    """What was found of one model. `hidden` are numbers that do not stand out of their noise.

    `seen_by_checks`: checks of early stopping on these very customers have told when the training
    of the model ended, so that the numbers may be a little too good.
    """

    artifact: Digest
    plan: Digest
    name: Name
    version: Annotated[int, Field(ge=1)]
    numbers: Annotated[tuple[Measured, ...], Field(max_length=1000)]
    hidden: Annotated[tuple[Name, ...], Field(max_length=1000)] = ()
    seen_by_checks: Literal[True] | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({each.name for each in self.numbers}) < len(self.numbers):
            raise ValueError("numbers: a name is there twice")
        return self

    def number(self, name: str) -> Measured | None:
        """Return a number, or None where the noise hides it or there is none of this name."""
        return next((each for each in self.numbers if each.name == name), None)


class Evaluation(Record):
    """What is claimed of the models of an evaluation plan, derived from the sums of the units'
    tables, which their receipts name. Signed by governance.

    `level` is the share of such intervals that contain the population's number; `table_epsilon` is
    what each count of a unit's table was noised for. `difference` is the first model's area under
    the ROC curve without the second's. `epsilon` is what the run has charged, void attempts too.
    """

    schema_name: Literal["evaluation/1"] = Field(default="evaluation/1", alias="schema")
    run_id: Name
    realm: Realm
    simulation: bool
    task: Name
    purpose: Name
    plan: Digest
    permit: Digest
    contract: Digest
    dpia: Digest
    round_report: Digest
    receipts: Annotated[tuple[Digest, ...], Field(min_length=1)]
    tables: Annotated[tuple[Digest, ...], Field(min_length=1)]
    rows: Rows
    units: Annotated[int, Field(ge=1)]
    table_epsilon: Positive
    level: Annotated[float, Field(gt=0, lt=1)]
    models: Annotated[tuple[ModelOutcome, ...], Field(min_length=1, max_length=2)]
    difference: Measured | None = None
    opt_out_epochs: tuple[OptOutEpoch, ...]
    epsilon: tuple[EpsilonClaim, ...]
    delta: Annotated[float, Field(gt=0, lt=1)]
    evaluated_at: At

    @property
    def of_segments(self) -> bool:
        """Whether the numbers are sizes of segments, and not what scores are worth."""
        return any(model.number(CUSTOMERS) is not None for model in self.models)

    @property
    def rows_told(self) -> str:
        """Which rows were counted, in words."""
        return _ROWS[self.rows]


def seen_by_checks(plan: EvaluationPlan, training: TrainingPlan) -> Literal[True] | None:
    """Return whether checks of a training have read the customers whom an evaluation counts."""
    return True if plan.rows == "holdout" and training.early_stopping is not None else None


def derive_outcomes(
    plan: EvaluationPlan, tables: Sequence[NoisedTables], versions: Sequence[tuple[str, int]]
) -> tuple[ModelOutcome, ...]:
    """Return what the units' tables say of each model of a plan.

    Args: `versions` are the models' names and versions, in the plan's order.
    Raises: InvalidRecordError `evaluation.table_unfit`, of segments `fairness.table_invalid`, for a
        table of another size.
    """
    outcomes = []
    for place, (model, version) in enumerate(zip(plan.models, versions, strict=True)):
        found = _found(plan, tables, place)
        numbers = {name: number for name, each in found.items() if (number := _said(name, each))}
        outcomes.append(
            ModelOutcome(
                artifact=model.artifact,
                plan=model.plan,
                name=version[0],
                version=version[1],
                numbers=tuple(numbers.values()),
                hidden=tuple(name for name in found if name not in numbers),
            )
        )
    return tuple(outcomes)


def _found(
    plan: EvaluationPlan, tables: Sequence[NoisedTables], place: int
) -> Mapping[str, Estimate | None]:
    if plan.segments is not None:
        return segment_measures(segments_of(plan.segments, plan, tables), CONFIDENCE)
    return measures(sum_of(plan, tables, place), _thresholds(plan), CONFIDENCE)


def segments_of(
    layout: SegmentLayout, plan: EvaluationPlan, tables: Sequence[NoisedTables]
) -> SegmentTable:
    """Return the sum of the units' tables of segments.

    Raises: InvalidRecordError `fairness.table_invalid` for a table of another size.
    """
    counted = [each.tables[0] for each in tables]
    return sum_segment_tables(layout, counted, float(table_epsilon(plan)))


def derive_difference(plan: EvaluationPlan, outcomes: Sequence[ModelOutcome]) -> Measured | None:
    """Return by how much the first model's area under the ROC curve is above the second's.

    The noise of their tables is independent. Chance is not: both saw the same customers. A table
    does not show which, so that chance is counted as if it were, which makes the interval too wide
    rather than too narrow where both models err on the same customers, as models of one task do.
    """
    known = [number for each in outcomes for number in each.numbers if number.name == "roc_auc"]
    if len(plan.models) != 2 or len(known) != 2:
        return None
    first, second = known
    value = first.value - second.value
    sampling = math.hypot(first.sampling_sd, second.sampling_sd)
    noise = math.hypot(first.noise_sd, second.noise_sd)
    error = first.bins_error + second.bins_error
    reach = quantile(CONFIDENCE) * math.hypot(sampling, noise) + error
    return Measured(
        name=DIFFERENCE,
        value=value,
        low=max(value - reach, -1.0),
        high=min(value + reach, 1.0),
        sampling_sd=sampling,
        noise_sd=noise,
        bins_error=error,
    )


def sum_of(plan: EvaluationPlan, tables: Sequence[NoisedTables], place: int) -> ScoreSum:
    """Return the sum of the units' tables of one model's scores, by its place in the plan."""
    found = [each.tables[place] for each in tables]
    return noised_sum(found, table_epsilon(plan), BINS[plan.bins])


def table_epsilon(plan: EvaluationPlan) -> Fraction:
    """Return what each table gets of the plan's epsilon, as it is written there."""
    return Fraction(repr(plan.epsilon)) / plan.tables


def _thresholds(plan: EvaluationPlan) -> tuple[float, ...]:
    wanted = {THRESHOLD} | ({plan.fairness.threshold} if plan.fairness else set())
    return tuple(sorted(wanted & set(BINS[plan.bins].edges)))


def _said(name: str, found: Estimate | None) -> Measured | None:
    if found is None or not all(map(math.isfinite, (found.value, found.low, found.high))):
        return None
    return Measured(
        name=name,
        value=found.value,
        low=found.low,
        high=found.high,
        sampling_sd=found.sampling_sd,
        noise_sd=found.noise_sd,
        bins_error=found.bins_error,
    )
