"""A scenario: everything that a simulated federation is made of, from one TOML file."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from fedcore.contracts import Contract
from fedcore.defaults import ROUNDS
from fedcore.errors import InvalidRecordError
from fedcore.learning_rules import Algorithm, EarlyStopping, Share
from fedcore.named_files import cause_of
from fedcore.plans import Feature, ModelSpec
from fedcore.record import Name, Part, Positive, Text, first_problem

BUILT_IN = Path(__file__).parent / "scenarios"


class ScenarioUnit(Part):
    """A unit: its declared size band, and the most epsilon that it will ever spend."""

    unit: Name
    label: Text
    size_band: Annotated[int, Field(ge=2)]
    epsilon_cap: Positive


class ScenarioOptOuts(Part):
    """So many customers of a unit (the first by id) object to a purpose.

    `after_round` 0 is before the run.
    """

    unit: Name
    customers: Annotated[int, Field(ge=1, le=100_000)]
    purpose: Name
    after_round: Annotated[int, Field(ge=0)] = 0


class Dropout(Part):
    """A unit is not connected from one round to another, both included."""

    unit: Name
    first_round: Annotated[int, Field(ge=1)]
    last_round: Annotated[int, Field(ge=1)]


class EvaluationTerms(Part):
    """The trained model is evaluated on the customers whom `holdout` sets aside.

    `epsilon` is what one exchange may reveal of each of them; an attempt with too few answers may
    be repeated `spare_exchanges` times.
    """

    epsilon: Annotated[float, Field(ge=1e-5, le=100)]
    spare_exchanges: Annotated[int, Field(ge=0, le=10)] = 0


class PlanTerms(Part):
    """What the plan says besides epsilon, delta and rounds.

    Features, clip norm and algorithm that are left out are those of `fedcore.defaults`, and of a
    model of centres those of its course.
    """

    task: Name = "churn"
    purpose: Name
    model: ModelSpec = ModelSpec(kind="logistic")
    algorithm: Algorithm | None = None
    features: tuple[Feature, ...] = ()
    minimum_units: Annotated[int, Field(ge=1)]
    l2_clip_norm: Positive | None = None
    local_steps: Annotated[int, Field(ge=1)] = 1
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    spare_rounds: Annotated[int, Field(ge=0, le=100)] = 0
    attempts: Annotated[int, Field(ge=1, le=5)] = 2
    holdout: Share | None = None
    early_stopping: EarlyStopping | None = None


class Scenario(Part):
    """A whole scenario. `data` is `telco` (the real table of extra `demo`) or the path of a CSV.

    A CSV has one row for each customer, or several where the contract says `rows_per_customer`, the
    contract's columns, and its units in `unit_column`. Rounds that are left out are those of
    `fedcore.defaults`.
    """

    title: Text
    data: Text
    unit_column: Text = "unit"
    seed: Annotated[int, Field(ge=0, le=2**31)] = 1
    epsilon: Positive
    delta: Annotated[float, Field(gt=0, le=1e-3)]
    rounds: Annotated[int, Field(ge=1, le=10_000)] | None = None
    test_share: Annotated[float, Field(gt=0, lt=0.9)] = 0.2
    round_minutes: Annotated[float, Field(ge=0, le=60)] = 1.0
    refusals: bool = False
    units: Annotated[tuple[ScenarioUnit, ...], Field(min_length=1, max_length=1000)]
    contract: Contract
    plan: PlanTerms
    opt_outs: tuple[ScenarioOptOuts, ...] = ()
    dropouts: tuple[Dropout, ...] = ()
    evaluation: EvaluationTerms | None = None
    faulty_rows: Literal["refuse", "drop"] = "refuse"

    @model_validator(mode="after")
    def _known_units(self) -> Self:
        known = {unit.unit for unit in self.units}
        if len(known) != len(self.units):
            raise ValueError("units: a unit is named twice")
        named = {entry.unit for entry in self.opt_outs} | {entry.unit for entry in self.dropouts}
        if not named <= known:
            raise ValueError(f"opt_outs, dropouts: no unit {', '.join(sorted(named - known))}")
        return self

    @model_validator(mode="after")
    def _somebody_set_aside(self) -> Self:
        if self.evaluation is not None and self.plan.holdout is None:
            raise ValueError("evaluation: say plan.holdout, the share of customers it is done on")
        return self

    @model_validator(mode="after")
    def _checks_that_can_end_it(self) -> Self:
        terms = self.plan
        if terms.early_stopping is not None:
            if not terms.model.is_scoring:
                raise ValueError("plan.early_stopping: is of models that score")
            terms.early_stopping.verify_fits(terms.algorithm, self.rounds or ROUNDS, terms.holdout)
        return self

    @model_validator(mode="after")
    def _left_out_only_what_the_rule_knows(self) -> Self:
        plan = self.plan
        numbers = {
            "rounds": self.rounds,
            "l2_clip_norm": plan.l2_clip_norm,
            "algorithm": plan.algorithm,
        }
        if plan.model.course is not None:
            said = [name for name, value in numbers.items() if value is not None]
            whole = plan.local_steps == plan.sampling_rate == 1 and not self.refusals
            if said or not plan.features or not whole:
                raise ValueError(
                    "plan.model: of centres the course says rounds and clip norm; features must "
                    "be said, and no algorithm, local steps, rate or refusals"
                )
            return self
        missing = [name for name, value in numbers.items() if value is None]
        known = plan.model.kind == "logistic" and plan.local_steps == plan.sampling_rate == 1
        if missing and not known:
            raise ValueError(
                f"{', '.join(missing)}: say them; the default rule is for a logistic model with "
                "one local step and full batches"
            )
        return self


def load_scenario(name: str) -> Scenario:
    """Return a scenario by the path of its file, or one that ships, by its name.

    Raises: InvalidRecordError `scenario.unreadable`, `scenario.invalid` naming the field.
    """
    built_in = BUILT_IN / f"{name}.toml"
    path = built_in if built_in.exists() else Path(name)
    shipped = ", ".join(sorted(file.stem for file in BUILT_IN.glob("*.toml")))
    values = _read(path, f"name the file of a scenario, or one that ships: {shipped}")
    if isinstance(values.get("contract"), str):
        way_out = "mend `contract` in the scenario: it names the file beside it"
        values["contract"] = _read(path.parent / values["contract"], way_out)
    if values.get("data") not in (None, "telco"):
        values["data"] = str(path.parent / values["data"])
    try:
        return Scenario.model_validate(values)
    except ValidationError as error:
        raise InvalidRecordError(
            "scenario.invalid", f"scenario {path.name}: {first_problem(error)}"
        ) from error


def _read(path: Path, way_out: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        told, detail = f"{cause_of(error)}; {way_out}", str(error)
    except UnicodeDecodeError as error:
        told, detail = f"it is no text in UTF-8; {way_out}", str(error)
    except tomllib.TOMLDecodeError as error:
        told, detail = f"it is no TOML: {error}", str(error)
    raise InvalidRecordError("scenario.unreadable", f"{path} cannot be read: {told}", detail)
