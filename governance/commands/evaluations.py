"""Evaluations from a distance: their plans, and what they have found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.named_files import verify_absent, write_new
from fedcore.record import Realm
from governance.commands.options import (
    ApiKeyFile,
    Authority,
    Url,
    open_line,
    parse_file,
)

if TYPE_CHECKING:
    from fedcore.evaluation_outcomes import Evaluation, Measured, ModelOutcome
    from fedcore.gateway_http import HttpGateway
    from fedcore.signing import Envelope

evaluations = typer.Typer(
    help="Register evaluation plans, and see what was found of models.", no_args_is_help=True
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, with all numbers.")]
# Shown by `show`; the others are for charts, and in the JSON.
_SHOWN = ("roc_auc", "average_precision", "log_loss", "brier", "ece", "prevalence")
_SHARES = ("lift_10", "lift_20", "gain_10", "gain_20", "gain_50")
_COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
_RATES = ("true_positive_rate", "false_positive_rate", "precision", "chosen", "accuracy")


@evaluations.command("sign")
def sign_plan(
    path: Annotated[Path, typer.Argument(metavar="PLAN.json", help="The evaluation plan.")],
    key: Annotated[Path, typer.Option(help="The author's private key (PEM).")],
    out: Annotated[Path, typer.Option(help="Where the signed plan is written.")],
    realm: Annotated[Realm, typer.Option(help="Where the plan is valid.")] = Realm.PRODUCTION,
) -> None:
    """Sign an evaluation plan as its author. Prints its digest, and what a run of it charges."""
    from fedcore.evaluations import EvaluationPlan
    from fedcore.privacy.accounting import renyi_epsilon
    from fedcore.signing import SigningKey, sign_record

    plan = EvaluationPlan.from_json(parse_file(path))
    verify_absent(out)
    write_new(out, sign_record(plan, SigningKey.load(key), realm).to_bytes(), "file.unwritable")
    epsilon = renyi_epsilon([plan.run_event()], plan.delta)
    typer.echo(
        f"each unit answers at most {plan.exchanges} times, with {plan.tables} tables: a run "
        f"charges epsilon {epsilon:.4g} at most, at delta {plan.delta:g}"
    )
    typer.echo(plan.digest)


@evaluations.command("register")
def register_plan(
    path: Annotated[Path, typer.Argument(metavar="SIGNED_PLAN", help="What `sign` has written.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca: Authority = None,
) -> None:
    """Hand a signed evaluation plan in, under its author's API key. Prints its digest."""
    from fedcore.signing import Envelope

    envelope = Envelope.from_json(parse_file(path))
    with open_line(url, ca, api_key_file) as gateway:
        typer.echo(gateway.register_evaluation_plan(envelope))


@evaluations.command("list")
def list_evaluations(
    url: Url, api_key_file: ApiKeyFile, as_json: AsJson = False, ca: Authority = None
) -> None:
    """List all evaluations, the oldest first: when, of which run, and of which models' bytes."""
    import json

    with open_line(url, ca, api_key_file) as gateway:
        found = gateway.list_evaluations()
    if as_json:
        listed = [each.model_dump(mode="json") for each in found]
        typer.echo(json.dumps({"evaluations": listed}, indent=2))
        return
    for each in found:
        typer.echo(
            f"{each.evaluated_at:%Y-%m-%d %H:%M}  {each.run_id}  {'  '.join(each.artifacts)}"
        )


@evaluations.command("show")
def show_evaluation(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run that has evaluated.")],
    url: Url,
    api_key_file: ApiKeyFile,
    as_json: AsJson = False,
    ca: Authority = None,
) -> None:
    """Show what a run has found of its models, each number with its interval.

    The signature is verified with the key that governance states.
    """
    import json

    with open_line(url, ca, api_key_file) as gateway:
        found = _open(gateway, gateway.fetch_evaluation(run_id))
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    _print(found)


def _open(gateway: "HttpGateway", envelope: "Envelope") -> "Evaluation":
    from fedcore.evaluation_outcomes import Evaluation
    from fedcore.handovers import follow_handovers

    about = gateway.fetch_about()
    keys = follow_handovers(about.public_key, gateway.fetch_handovers(), about.realm)
    return keys.open(envelope, Evaluation, about.realm)


def _print(found: "Evaluation") -> None:
    simulated = ", SIMULATION" if found.simulation else ""
    typer.echo(f"run {found.run_id}, evaluated {found.evaluated_at:%Y-%m-%d %H:%M} UTC{simulated}")
    typer.echo(f"{found.task} for {found.purpose}: {found.rows_told} at {found.units} units")
    for model in found.models:
        _print_model(model, found.level)
    if found.difference is not None:
        typer.echo("first model without the second")
        typer.echo(_line(found.difference))
    typer.echo(_reading(found))
    for claim in found.epsilon:
        typer.echo(f"charged to {claim.unit}: epsilon {claim.claim:.4g} at delta {found.delta:g}")


def _reading(found: "Evaluation") -> str:
    """Return what an interval contains, in words."""
    noise = f"the noise that protects them (epsilon {found.table_epsilon:.4g} for each table of a "
    which = "which customers happened to be counted, and " + noise + "unit)"
    if not found.of_segments:
        which = (
            f"which customers happened to be set aside, {noise}unit), and that scores are known by "
            "their bins only"
        )
    return (
        f"An interval contains the number of the customers' population in {found.level:.0%} of "
        f"evaluations: it has in it {which}. Of counts it has the noise alone: they are of these "
        "customers."
    )


def _print_model(model: "ModelOutcome", level: float) -> None:
    from fedcore.evaluation_outcomes import SEEN_BY_CHECKS

    typer.echo(f"{model.name} version {model.version}, {model.artifact}")
    typer.echo(f"{'':<32}{'value':>10}  {level:.0%} interval")
    shown = [number for number in model.numbers if _is_shown(number.name)]
    for number in shown:
        typer.echo(_line(number))
    if model.seen_by_checks:
        typer.echo(f"  {SEEN_BY_CHECKS}")
    hidden = [name for name in model.hidden if _is_shown(name)]
    if hidden:
        typer.echo(f"  hidden by the noise: {', '.join(hidden)}")
    others = len(model.numbers) - len(shown)
    if others:
        typer.echo(f"  {others} more numbers, by share and by group of scores, with --json")


def _line(number: "Measured") -> str:
    digits = 1 if number.name.startswith(_COUNTS) or number.name.endswith("customers") else 4
    value, low, high = (f"{each:.{digits}f}" for each in (number.value, number.low, number.high))
    return f"  {number.name:<30}{value:>10}  {low} to {high}"


def _is_shown(name: str) -> bool:
    known = {*_SHOWN, *_SHARES, "customers"}
    is_known = name in known or name.partition("_at_")[0] in {*_COUNTS, *_RATES}
    return is_known or name.startswith("segment_")
