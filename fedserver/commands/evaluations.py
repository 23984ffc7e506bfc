"""Write evaluation plans, on the machine of their author."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedcore.errors import InvalidRecordError

if TYPE_CHECKING:
    from fedcore.evaluations import EvaluatedModel, EvaluationPlan
    from fedcore.plans import TrainingPlan


_Bundles = Annotated[
    list[Path],
    typer.Argument(metavar="BUNDLE...", help="The evidence of one model version, or of two."),
]
_Epsilon = Annotated[
    float, typer.Option(help="What one exchange may reveal of a customer, over all tables.")
]
_Rows = Annotated[
    Literal["holdout", "out_of_time"],
    typer.Option(help="The customers set aside, or the rows after the training's last day."),
]
_Spare = Annotated[int, typer.Option(help="How often it may be tried again, charged each time.")]


def write_evaluation(
    bundles: _Bundles,
    epsilon: _Epsilon,
    title: Annotated[str, typer.Option(help="What the evaluation is for.")],
    out: Annotated[Path, typer.Option(help="Where the plan is written (JSON).")],
    rows: _Rows = "holdout",
    spare: _Spare = 0,
) -> None:
    """Write the plan of an evaluation of registered models, and say what it charges.

    Nothing is verified of the bundles but that they belong together: `fedpact verify` does that.
    Exit codes: 0 written; 1 the models cannot be evaluated so.
    """
    from fedcore.privacy.accounting import renyi_epsilon

    terms = {"title": title, "rows": rows, "epsilon": epsilon, "spare_exchanges": spare}
    found = make_plan([_open(path) for path in bundles], terms)
    try:
        out.write_text(json.dumps(found.to_json(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidRecordError(
            "plan.unwritable", f"{out.name} cannot be written", str(error)
        ) from error
    claim = renyi_epsilon([found.run_event()], found.delta)
    typer.echo(
        f"{found.tables} tables, epsilon {epsilon / found.tables:g} for each; a run charges each "
        f"unit at most {claim:.4f} at delta {found.delta:g}: {out}"
    )


def make_plan(
    models: "Sequence[tuple[EvaluatedModel, TrainingPlan]]", terms: Mapping[str, object]
) -> "EvaluationPlan":
    """Return a plan over models, with delta and minimum of units of the first one's training plan.

    Raises: InvalidRecordError `record.invalid` that names the field; MismatchError as
        `verify_evaluated`.
    """
    from fedcore.evaluations import EvaluationPlan
    from fedcore.trust import verify_evaluated

    training = [plan for _, plan in models]
    found = EvaluationPlan.from_json(
        {
            "schema": EvaluationPlan.schema_id(),
            "models": [model.model_dump() for model, _ in models],
            "delta": training[0].delta,
            "minimum_units": training[0].minimum_units,
            **terms,
        }
    )
    verify_evaluated(found, training)
    return found


def _open(path: Path) -> "tuple[EvaluatedModel, TrainingPlan]":
    """Return a bundle's model as an evaluation names it, and the plan that it was trained by."""
    from fedcore.bundle import read_bundle
    from fedcore.evaluations import EvaluatedModel
    from fedcore.models import ModelVersion
    from fedcore.plans import TrainingPlan

    try:
        evidence = read_bundle(path.read_bytes())
    except OSError as error:
        raise InvalidRecordError(
            "bundle.not_a_bundle", f"{path.name} cannot be read", str(error)
        ) from error
    version = ModelVersion.from_bytes(evidence.model_version.payload_bytes)
    plan = TrainingPlan.from_bytes(evidence.plan.payload_bytes)
    return EvaluatedModel(artifact=version.artifact, plan=version.plan), plan
