"""Evaluation on rows that no model was trained on: the plan, a unit's noised tables, the outcome.

A run of an evaluation plan has one exchange. Each unit answers an order with tables of counts, to
each of which it has added discrete Laplace noise; everything that is said of the models is derived
from the sums of these tables.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.fairness_tables import CrossedGroups, TableLayout
from fedcore.privacy.events import PrivacyEvent
from fedcore.record import Digest, Name, Part, Record, Text
from fedcore.segments.groups import SegmentLayout

Count = Annotated[int, Field(ge=-(2**53) + 1, le=2**53 - 1)]
Rows = Literal["holdout", "out_of_time", "all"]
# By their name in `fedcore.score_tables`.
Bins = Literal["probability/1"]


class EvaluatedModel(Part):
    """A model by the digest of its weights, and the plan that it was trained by, which says what
    its inputs are and which rows it has not seen.
    """

    artifact: Digest
    plan: Digest


class EvaluationPlan(Record):
    """What is counted of one model, or of two on the same rows. Signed by its author.

    Task, purpose, contract and units are those of the first model's training plan. `epsilon` is the
    most that one exchange reveals of a customer: each of the `tables` gets an equal part of it, and
    counts scores in the public `bins` of this name.
    `rows`: `holdout`, the customers that the training plans have set aside; `out_of_time`, rows
    from the day on to which the training plans have read. An attempt that got too few answers is
    charged, and may be repeated `spare_exchanges` times. `fairness` is one more table, of the
    first model's outcomes by group: the very one that the DPIA binds, threshold included. What the
    models must reach is in their training plans.
    With `segments` the one model is a segmentation, which scores nobody: the one table is of the
    groups that the DPIA binds, or of everybody, by the segments' ids in the order of the model's
    centres. It may be over `all` rows: no label was learnt from them, and whoever reads them is
    charged for it all the same.
    """

    schema_name: Literal["evaluation-plan/1"] = Field(default="evaluation-plan/1", alias="schema")
    title: Text
    models: Annotated[tuple[EvaluatedModel, ...], Field(min_length=1, max_length=2)]
    rows: Rows
    bins: Bins = "probability/1"
    epsilon: Annotated[float, Field(ge=1e-5, le=100)]
    delta: Annotated[float, Field(gt=0, le=1e-3)]
    minimum_units: Annotated[int, Field(ge=1)]
    fairness: TableLayout | None = None
    spare_exchanges: Annotated[int, Field(ge=0, le=10)] = 0
    deadline_s: Annotated[int, Field(ge=1, le=86_400)] = 600
    segments: SegmentLayout | None = None

    @model_validator(mode="after")
    def _two_models(self) -> Self:
        if len({model.artifact for model in self.models}) != len(self.models):
            raise ValueError("models: a model is named twice")
        return self

    @model_validator(mode="after")
    def _scores_or_segments(self) -> Self:
        if self.segments is None:
            if self.rows == "all":
                raise ValueError("rows: all is of segments; scores are told by rows set aside")
            return self
        if len(self.models) != 1 or self.fairness is not None:
            raise ValueError("segments: of one model, and its groups are in the same table")
        return self

    @property
    def tables(self) -> int:
        """How many tables a unit answers with: one for each model, and one of groups."""
        return len(self.models) + (self.fairness is not None)

    @property
    def groups(self) -> CrossedGroups | None:
        """The table that counts groups, of outcomes or of segments; None where none does."""
        if self.segments is not None:
            return self.segments if self.segments.attributes else None
        return self.fairness

    @property
    def group_fields(self) -> tuple[str, ...]:
        """The fields that groups are told apart by, held at the unit only and never inputs."""
        return tuple(each.name for each in self.groups.attributes) if self.groups else ()

    @property
    def rounds(self) -> int:
        """How many rounds a run has: one, in which no model changes."""
        return 1

    @property
    def exchanges(self) -> int:
        """The most orders that a unit answers in a run."""
        return 1 + self.spare_exchanges

    @property
    def attempts(self) -> int:
        """How often the one round may be tried: as often as its orders are answered."""
        return self.exchanges

    @property
    def initial_model(self) -> str:
        """The model that orders and receipts name: the first one."""
        return self.models[0].artifact

    def exchange_event(self) -> PrivacyEvent:
        """Return what one exchange charges to each unit that answers it: a customer is counted
        once in each table.
        """
        return PrivacyEvent(
            mechanism="discrete_laplace",
            l1_sensitivity=1.0,
            sampling_rate=1.0,
            noise_multiplier=self.tables / self.epsilon,
            steps=self.tables,
        )

    def run_event(self) -> PrivacyEvent:
        """Return what the whole run charges to each unit at most."""
        one = self.exchange_event()
        return one.model_copy(update={"steps": one.steps * self.exchanges})


class NoisedTables(Record):
    """A unit's tables with the noise in them, in the order of the plan: of each model's scores, and
    of groups; or of a model's segments. The receipt names their digest, so that nobody can put
    others in their place.
    """

    schema_name: Literal["noised-tables/1"] = Field(default="noised-tables/1", alias="schema")
    run_id: Name
    unit: Name
    tables: Annotated[tuple[tuple[Count, ...], ...], Field(min_length=1, max_length=3)]
