"""Make the plans of an autoencoder, and of segments in its embedding."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from fedcore.errors import InvalidRecordError
from fedcore.named_files import verify_absent
from fedcore.plans import ModelSpec
from fedcore.record import first_problem
from fedserver.commands.plans import load_contract, load_plan, verify_fit, write_plan


def write_autoencoder(
    path: Annotated[Path, typer.Argument(metavar="PLAN.json", help="A plan of the same units.")],
    contract: Annotated[
        Path, typer.Option("--contract", "-c", help="The plan's contract, signed or plain.")
    ],
    epsilon: Annotated[float, typer.Option(help="What a run may claim for a customer of a unit.")],
    out: Annotated[Path, typer.Option(help="Where the autoencoder's plan is written.")],
    hidden: Annotated[
        str, typer.Option(help="Widths before the embedding, with commas; none if empty.")
    ] = "16",
    embedding: Annotated[int, typer.Option(help="How many numbers a place has.")] = 3,
) -> None:
    """Write the plan of a run that trains an autoencoder, with the least noise for an epsilon.

    Features, units, their public sizes, purpose and delta are the plan's. Exit codes: 0 written; 1
    no such plan can be made.
    """
    from fedcore.privacy.accounting import renyi_epsilon
    from fedserver.embedding_plans import autoencoding

    verify_absent(out)
    terms = load_contract(contract)
    found = autoencoding(load_plan(path), terms, epsilon, _model(hidden, embedding))
    inputs = verify_fit(found, terms)
    write_plan(out, found)
    claim = renyi_epsilon([found.run_event()], found.delta)
    typer.echo(
        f"{inputs} inputs, {found.rounds} rounds, noise multiplier "
        f"{found.privacy.noise_multiplier:g}: claim {claim:.4f}: {out}"
    )


def write_embedded(
    path: Annotated[Path, typer.Argument(metavar="SEGMENTS.json", help="A plan of segments.")],
    autoencoder: Annotated[
        Path, typer.Option(help="The plan that the autoencoder was trained by.")
    ],
    artifact: Annotated[str, typer.Option(help="The digest of the trained autoencoder.")],
    out: Annotated[Path, typer.Option(help="Where the plan is written.")],
) -> None:
    """Move a plan of segments into the embedding of a trained autoencoder.

    Features and units become those of the autoencoder's plan; releases and noise stay as they are.
    Exit codes: 0 written; 1 no such plan can be made.
    """
    from fedserver.embedding_plans import embedded

    verify_absent(out)
    found = embedded(load_plan(path), load_plan(autoencoder), artifact)
    write_plan(out, found)
    typer.echo(f"segments in the embedding of {artifact}: {out}")


def _model(hidden: str, embedding: int) -> ModelSpec:
    try:
        widths = tuple(int(width) for width in hidden.split(",") if width.strip())
        return ModelSpec(kind="autoencoder", hidden=widths, embedding=embedding)
    except ValidationError as error:
        raise InvalidRecordError("plan.model_invalid", first_problem(error)) from error
    except ValueError as error:
        raise InvalidRecordError(
            "plan.model_invalid", "hidden: whole numbers with commas, as in 32,16"
        ) from error
