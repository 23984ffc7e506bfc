"""The training plan: everything that shapes what is trained and what leaves a node, in public
constants.
"""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.clusterings import MAX_CELLS, CourseSpec
from fedcore.errors import InvalidRecordError
from fedcore.learning_rules import Algorithm, EarlyStopping, Share
from fedcore.mitigation import Mitigation
from fedcore.privacy.clustering import ReleaseTerms
from fedcore.privacy.events import NoiseMultiplier, PrivacyEvent, Sensitivity
from fedcore.record import Digest, Name, Part, Positive, Record, Text

Rate = Annotated[float, Field(gt=0, le=1)]


class Imputation(Part):
    """The public constant that stands for a field at the units that lack it, and whether an input
    of its own says so: 1 at a unit that lacks the field, 0 elsewhere.
    """

    impute: float | Text
    indicator: bool


class Feature(Part):
    """One input: a contract field and how its value becomes numbers.

    `scale`: public bounds to [-1, 1]; `log`: log(1 + value - lower), scaled likewise; `edges`: a
    piecewise-linear code, one number in [0, 1] for each interval between the public edges;
    `onehot`: one number for each of `levels`, or, without them, for each category but the first.

    Of a field that may be absent at a unit, `absent` says what happens: a constant is imputed at
    the units that lack it, or the plan leaves those units out. With `missing_indicator` one more
    input is 1 where the cell was empty, 0 elsewhere.
    """

    field: Text
    encoding: Literal["scale", "log", "edges", "onehot"]
    edges: Annotated[tuple[float, ...], Field(max_length=256)] = ()
    levels: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    absent: Imputation | Literal["leave_out"] | None = None
    missing_indicator: Literal[True] | None = None

    @model_validator(mode="after")
    def _rising_edges(self) -> Self:
        if (self.encoding == "edges") != (len(self.edges) >= 2):
            raise ValueError(f"feature {self.field}: encoding edges needs at least two edges")
        if any(left >= right for left, right in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"feature {self.field}: edges must rise")
        if self.levels and (self.encoding != "onehot" or len(set(self.levels)) < len(self.levels)):
            raise ValueError(f"feature {self.field}: levels are distinct, and for onehot only")
        return self

    @property
    def absent_indicator(self) -> bool:
        """Whether an input of its own says that the unit lacks the field."""
        return isinstance(self.absent, Imputation) and self.absent.indicator


class UnitTerms(Part):
    """A unit that takes part and the public number that stands for its size.

    `public_n` comes from the size band that the unit declared at enrolment, never from its rows;
    it is the denominator of the unit's updates and, divided by the sum over the cohort, its
    weight. `absent` names the fields that the unit has declared to lack, whatever its rows hold.
    """

    unit: Name
    public_n: Annotated[int, Field(ge=2, le=2**40)]
    absent: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2000)] | None = None


class ModelSpec(Part):
    """The declared architecture: new widths need no new software at the nodes.

    Segments are `centres`, which are not trained but found on a `course` of releases, among the
    features or in the embedding of an `autoencoder`, which is trained before. `hidden` of that one
    are the widths before its embedding, which the decoder repeats backwards; `embedding` is how
    many numbers a customer's place in it has.
    """

    kind: Literal["logistic", "mlp", "centres", "autoencoder"]
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(max_length=4)] = ()
    course: CourseSpec | None = None
    embedding: Annotated[int, Field(ge=2, le=64)] | None = None

    @property
    def is_scoring(self) -> bool:
        """Whether it gives customers a score, by which it can be evaluated."""
        return self.kind in ("logistic", "mlp")

    @model_validator(mode="after")
    def _widths(self) -> Self:
        if self.kind != "autoencoder" and (self.kind == "mlp") != bool(self.hidden):
            raise ValueError("model: mlp needs hidden widths, logistic and centres have none")
        if (self.kind == "centres") != (self.course is not None):
            raise ValueError("model: centres need a course, others have none")
        if (self.kind == "autoencoder") != (self.embedding is not None):
            raise ValueError("model: an autoencoder needs the width of its embedding, others none")
        return self


class PrivacyTerms(Part):
    """How each unit protects each customer, in every round.

    Mode `local`: each unit adds noise of standard deviation `noise_multiplier * l2_clip_norm` to
    the sum of its customers' clipped gradients, in each local step, or to the vector that it
    releases around centres; nobody else is trusted.
    """

    mode: Literal["local"] = "local"
    l2_clip_norm: Sensitivity
    noise_multiplier: NoiseMultiplier
    sampling_rate: Rate = 1.0
    local_steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    delta: Annotated[float, Field(gt=0, le=1e-3)]


class MetricFloor(Part):
    """The least that a champion's evaluation must show of a metric of which more is better, with
    the lower end of the metric's interval.
    """

    metric: Name
    floor: Annotated[float, Field(ge=0, le=1e6)]


class TrainingPlan(Record):
    """A plan. Its digest is its id.

    A void round may be tried again, at most `attempts` times; each try is charged, so that a run
    may need up to `rounds + spare_rounds` exchanges, which is what each unit reserves beforehand.
    `initial_model` is the digest of the public model that the first round starts from. `holdout` is
    the share of customers whom no round learns from, so that the model can be evaluated on them; of
    rows with a day, `train_until` is the first day that no round reads. A model of centres has no
    `algorithm`: each round is one release of its course. `mitigation` is what is done with a
    sensitive attribute, at the unit only, so that the model differs less between its groups. By
    `early_stopping` some of the `rounds` are checks, and the run may end before the last one.

    Guarantees: no unit or feature is named twice; `delta` is at most 1/(10 * public_n) of every
        unit; the minimum cohort is at least one and at most all units; of every field that a unit
        lacks, the plan imputes a constant, and one input says so; what a model of centres charges
        is the sensitivity of its releases, and its inputs, or the embedding, lie within [-1, 1] as
        centres do.
    """

    schema_name: Literal["plan/1"] = Field(default="plan/1", alias="schema")
    title: Text
    task: Name
    purpose: Name
    contract: Digest
    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=2000)]
    units: Annotated[tuple[UnitTerms, ...], Field(min_length=1, max_length=1000)]
    minimum_units: Annotated[int, Field(ge=1)]
    model: ModelSpec
    initial_model: Digest
    algorithm: Algorithm | None = None
    rounds: Annotated[int, Field(ge=1, le=10_000)]
    spare_rounds: Annotated[int, Field(ge=0, le=100)] = 0
    attempts: Annotated[int, Field(ge=1, le=5)] = 2
    round_deadline_s: Annotated[int, Field(ge=1, le=86_400)] = 600
    privacy: PrivacyTerms
    max_abs_weight: Positive = 1e3
    holdout: Share | None = None
    train_until: date | None = None
    metric_floors: Annotated[tuple[MetricFloor, ...], Field(min_length=1, max_length=50)] | None = (
        None
    )
    mitigation: Mitigation | None = None
    early_stopping: EarlyStopping | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({unit.unit for unit in self.units}) != len(self.units):
            raise ValueError("units: a unit is named twice")
        if len({(f.field, f.encoding) for f in self.features}) != len(self.features):
            raise ValueError("features: a field is encoded twice in the same way")
        if self.minimum_units > len(self.units):
            raise ValueError("minimum_units: more than there are units")
        if self.algorithm is not None and self.algorithm.average_last > self.rounds:
            raise ValueError("algorithm.average_last: more than there are rounds")
        floors = [floor.metric for floor in self.metric_floors or ()]
        if len(set(floors)) != len(floors):
            raise ValueError("metric_floors: a metric is named twice")
        largest = max(unit.public_n for unit in self.units)
        if self.privacy.delta > 1 / (10 * largest):
            raise ValueError("privacy.delta: above 1/(10 * public_n) of the largest unit")
        return self

    @model_validator(mode="after")
    def _steps_to_look_back_on(self) -> Self:
        if self.algorithm is None or self.privacy.local_steps > 1:
            return self
        if self.algorithm.local_optimizer:
            raise ValueError(
                "algorithm.local_optimizer: begins anew in each round, so it needs two or more "
                "privacy.local_steps; or leave it out and say server_momentum"
            )
        if self.algorithm.proximal:
            raise ValueError(
                "algorithm.proximal: pulls back from a round's second step on, so it needs two or "
                "more privacy.local_steps; or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _enough_to_outvote(self) -> Self:
        robust = self.algorithm.robust if self.algorithm is not None else None
        if robust is not None and self.minimum_units < robust.fewest_units:
            raise ValueError(
                f"algorithm.robust: {robust.kind} needs minimum_units of {robust.fewest_units} or "
                "more, as a round may have so few answers; or say norm_bound"
            )
        return self

    @model_validator(mode="after")
    def _centres_or_an_algorithm(self) -> Self:
        course = self.model.course
        if (course is None) != (self.algorithm is not None):
            raise ValueError("algorithm: a model of centres has none, and every other one needs it")
        for rule, holds in ({} if course is None else _rules_of_centres(self, course)).items():
            if not holds:
                raise ValueError(rule)
        for name in ("metric_floors", "mitigation", "early_stopping"):
            if getattr(self, name) is not None and not self.model.is_scoring:
                raise ValueError(f"{name}: is of models that score; segments are not evaluated")
        if self.model.embedding and self.averaging.positive_weight is not None:
            raise ValueError("algorithm.positive_weight: an autoencoder knows no labels")
        return self

    @model_validator(mode="after")
    def _checks_that_can_end_it(self) -> Self:
        if self.early_stopping is not None:
            self.early_stopping.verify_fits(self.algorithm, self.rounds, self.holdout)
        return self

    @model_validator(mode="after")
    def _absences_are_said(self) -> Self:
        for field in {feature.field for feature in self.features}:
            _verify_one_rule([feature for feature in self.features if feature.field == field])
        imputed = {f.field for f in self.features if isinstance(f.absent, Imputation)}
        for unit in self.units:
            lacking = unit.absent or ()
            if len(set(lacking)) != len(lacking) or not set(lacking) <= imputed:
                raise ValueError(
                    f"units: {unit.unit} lacks, each once, only what the features impute"
                )
        return self

    @property
    def averaging(self) -> Algorithm:
        """The algorithm of a model that is trained.

        Raises: InvalidRecordError `plan.no_algorithm` for a model of centres.
        """
        if self.algorithm is None:
            raise InvalidRecordError("plan.no_algorithm", "a model of centres is not averaged")
        return self.algorithm

    @property
    def release_terms(self) -> ReleaseTerms | None:
        """The public numbers of each release around centres; None for a model that is trained."""
        course = self.model.course
        return course.release_terms(self.privacy.noise_multiplier) if course is not None else None

    def public_n(self, unit: str) -> int:
        """Return the unit's public size. Raises: KeyError for a unit that takes no part."""
        return {terms.unit: terms.public_n for terms in self.units}[unit]

    def absent_at(self, unit: str) -> frozenset[str]:
        """Return the fields that the plan imputes at a unit.

        Raises: KeyError for a unit that takes no part.
        """
        return frozenset({terms.unit: terms.absent or () for terms in self.units}[unit])

    def is_check(self, round_: int) -> bool:
        """Return whether a round is a check, in which no model changes."""
        stopping = self.early_stopping
        return stopping is not None and stopping.is_check(round_, self.rounds)

    def trained_by(self, round_: int) -> int:
        """Return how many rounds have changed the model, this one included."""
        stopping = self.early_stopping
        return round_ - (stopping.checks_by(round_, self.rounds) if stopping else 0)

    def round_event(self) -> PrivacyEvent:
        """Return what one round, a check as well, charges to each unit that answers it."""
        return PrivacyEvent(
            mechanism="gaussian",
            l2_sensitivity=self.privacy.l2_clip_norm,
            sampling_rate=self.privacy.sampling_rate,
            noise_multiplier=self.privacy.noise_multiplier,
            steps=self.privacy.local_steps,
        )

    def exchange_event(self) -> PrivacyEvent:
        """Return what one exchange charges: in training it is a round or a try of one."""
        return self.round_event()

    @property
    def delta(self) -> float:
        """The delta that epsilon is said at."""
        return self.privacy.delta

    def run_event(self) -> PrivacyEvent:
        """Return what the whole run charges to each unit at most: all rounds and all spare ones."""
        one = self.round_event()
        return one.model_copy(update={"steps": one.steps * self.exchanges})

    @property
    def exchanges(self) -> int:
        """The most train orders that a unit answers in a run."""
        return self.rounds + self.spare_rounds


def _rules_of_centres(plan: TrainingPlan, course: CourseSpec) -> dict[str, bool]:
    """Return what a plan of centres keeps to, by the words that refuse another one."""
    privacy, sensitivity = plan.privacy, course.l2_sensitivity
    return {
        "features: centres lie among inputs that are scale or log, without indicators, or in an "
        "embedding": course.embedding is not None
        or all(
            feature.encoding in ("scale", "log")
            and feature.missing_indicator is None
            and not isinstance(feature.absent, Imputation)
            for feature in plan.features
        ),
        f"rounds: the course has {course.terms.releases} releases": (
            plan.rounds == course.terms.releases
        ),
        f"segments: the most times the numbers of a centre is at most {MAX_CELLS:,}": (
            course.segments.most * course.dimensions(len(plan.features)) <= MAX_CELLS
        ),
        "privacy: a release reads everybody once; local_steps and sampling_rate are 1": (
            privacy.local_steps == 1 and privacy.sampling_rate == 1
        ),
        f"privacy.l2_clip_norm: the sensitivity of a release is {sensitivity!r}": (
            privacy.l2_clip_norm == sensitivity
        ),
    }


def _verify_one_rule(features: list[Feature]) -> None:
    """Hold the features of one field against each other: one rule, and each indicator once."""
    field, first = features[0].field, features[0].absent
    constant = first.impute if isinstance(first, Imputation) else None
    for rule in (feature.absent for feature in features):
        same = rule.impute == constant if isinstance(rule, Imputation) else rule == first
        if not same:
            raise ValueError(f"features: {field} has two rules for a unit that lacks it")
    if constant is not None and sum(feature.absent_indicator for feature in features) != 1:
        raise ValueError(f"features: {field} needs the indicator of its absence exactly once")
    if sum(feature.missing_indicator is True for feature in features) > 1:
        raise ValueError(f"features: {field} has two indicators of its empty cells")
