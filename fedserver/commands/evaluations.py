"""Write evaluation plans, on the machine of their author."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.errors import InvalidRecordError
from fedcore.named_files import cause_of, verify_absent
from fedserver.commands.plans import write_plan

if TYPE_CHECKING:
    from fedcore.bundle import Evidence
    from fedcore.evaluations import EvaluatedModel, EvaluationPlan
    from fedcore.plans import TrainingPlan


# On the same rows: of more, each would get less of epsilon.
_MOST_MODELS = 2
_Bundles = Annotated[
    list[Path],
    typer.Argument(metavar="BUNDLE...", help="The evidence of one model version, or of two."),
]
_Epsilon = Annotated[
    float, typer.Option(help="What one exchange may reveal of a customer, over all tables.")
]
_Spare = Annotated[int, typer.Option(help="How often it may be tried again, charged each time.")]
_Supposed = Annotated[
    tuple[int, float, float] | None,
    typer.Option(
        "--suppose",
        metavar="CUSTOMERS SHARE AUC",
        help="How many are counted, the positive label's share, and the area under the ROC curve: "
        "say how wide its interval will be.",
    ),
]


def write_evaluation(
    bundles: _Bundles,
    epsilon: _Epsilon,
    title: Annotated[str, typer.Option(help="What the evaluation is for.")],
    out: Annotated[Path, typer.Option(help="Where the plan is written (JSON).")],
    spare: _Spare = 0,
    supposed: _Supposed = None,
) -> None:
    """Write the plan of an evaluation of registered models, and say what it charges.

    It is over the customers whom the first model's training has set aside, or without such over
    the rows of later days. Of a segmentation it counts how many are in which segment: of those who
    are set aside, or without such of everybody.

    Nothing is verified of the bundles but that they belong together: `fedpact verify` does that.
    Exit codes: 0 written; 1 the models cannot be evaluated so.
    """
    from fedcore.privacy.accounting import renyi_epsilon

    verify_absent(out)
    if len(bundles) > _MOST_MODELS:
        raise typer.BadParameter(
            f"BUNDLE: the evidence of one model version, or of two to compare; here are "
            f"{len(bundles)}"
        )
    evidence = [_read(path) for path in bundles]
    opened = [_named(one) for one in evidence]
    terms: dict[str, object] = {"title": title, "epsilon": epsilon, "spare_exchanges": spare}
    if opened[0][1].model.course is not None:
        terms |= segment_terms(evidence[0].artifact, opened[0][1])
    found = make_plan(opened, terms)
    told = None if supposed is None else expected(found, len(opened[0][1].units), supposed)
    write_plan(out, found)
    claim = renyi_epsilon([found.run_event()], found.delta)
    typer.echo(
        f"{found.tables} tables, epsilon {epsilon / found.tables:g} for each; a run charges each "
        f"unit at most {claim:.4f} at delta {found.delta:g}: {out}"
    )
    if told is not None:
        typer.echo(told)


def expected(plan: "EvaluationPlan", units: int, supposed: tuple[int, float, float]) -> str:
    """Return how wide the interval of the area under the ROC curve will be, in words.

    Args: `supposed` are how many customers are counted, the positive label's share, and the area.
    Raises: InvalidRecordError `evaluation.expectation_invalid`.
    """
    from fedcore.evaluation_outcomes import table_epsilon
    from fedcore.widths import Expected, forecast

    if plan.segments is not None:
        raise InvalidRecordError(
            "evaluation.expectation_invalid", "segments have no area under a ROC curve"
        )
    rows, prevalence, roc_auc = supposed
    told = Expected(rows, prevalence, roc_auc, units, table_epsilon(plan))
    found = forecast(told)["roc_auc"]
    if found is None:
        return f"with {rows} customers at {units} units the noise will probably hide the AUC"
    return (
        f"with {rows} customers at {units} units expect an AUC of {found.value:.3f} in an interval "
        f"of {found.low:.3f} to {found.high:.3f}"
    )


def make_plan(
    models: "Sequence[tuple[EvaluatedModel, TrainingPlan]]", terms: Mapping[str, object]
) -> "EvaluationPlan":
    """Return a plan over models, with rows, delta and minimum of units of the first one's training.

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
            "rows": "out_of_time" if training[0].holdout is None else "holdout",
            "delta": training[0].delta,
            "minimum_units": training[0].minimum_units,
            **terms,
        }
    )
    verify_evaluated(found, training)
    return found


def segment_terms(artifact: bytes, plan: "TrainingPlan") -> dict[str, object]:
    """Return what a plan says besides that counts the segments of a model: which, and of whom.

    Raises: InvalidRecordError as `decode_model`.
    """
    from fedcore.segments.artefact import decode_model

    ids = decode_model(artifact).ids
    rows = "all" if plan.holdout is None else "holdout"
    return {"rows": rows, "segments": {"segments": list(ids)}}


def _read(path: Path) -> "Evidence":
    from fedcore.bundle import read_bundle

    try:
        return read_bundle(path.read_bytes())
    except OSError as error:
        raise InvalidRecordError(
            "bundle.not_a_bundle",
            f"{path} cannot be read: {cause_of(error)}; name the right file",
            str(error),
        ) from error


def _named(evidence: "Evidence") -> "tuple[EvaluatedModel, TrainingPlan]":
    """Return a bundle's model as an evaluation names it, and the plan that it was trained by."""
    from fedcore.evaluations import EvaluatedModel
    from fedcore.models import ModelVersion
    from fedcore.plans import TrainingPlan

    version = ModelVersion.from_bytes(evidence.model_version.payload_bytes)
    plan = TrainingPlan.from_bytes(evidence.plan.payload_bytes)
    return EvaluatedModel(artifact=version.artifact, plan=version.plan), plan
