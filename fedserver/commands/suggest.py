"""Give a plan what the default rule picks: from its units, its contract and a wished epsilon."""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.named_files import verify_absent
from fedserver.commands.plans import load_contract, load_plan, verify_fit, write_plan


def write_suggested(
    path: Annotated[Path, typer.Argument(metavar="PLAN.json", help="The plan.")],
    contract: Annotated[
        Path, typer.Option("--contract", "-c", help="The plan's contract, signed or plain.")
    ],
    epsilon: Annotated[float, typer.Option(help="What a run may claim for a customer of a unit.")],
    out: Annotated[Path, typer.Option(help="Where the plan with the rule's numbers is written.")],
    keep_features: Annotated[
        bool, typer.Option("--keep-features", help="Keep the plan's own features.")
    ] = False,
) -> None:
    """Write the plan with the default rule's features, steps and noise, and say why.

    Its own clip, rounds, algorithm and noise play no part; units, their public sizes and delta do.
    Exit codes: 0 written; 1 the rule does not fit the plan, or no noise reaches the epsilon.
    """
    from fedcore.privacy.accounting import renyi_epsilon
    from fedserver.suggestions import reasons, suggested

    verify_absent(out)
    terms = load_contract(contract)
    found = suggested(load_plan(path), terms, epsilon, keep_features=keep_features)
    verify_fit(found, terms)
    write_plan(out, found)
    for line in reasons(found, terms, epsilon):
        typer.echo(line)
    claim = renyi_epsilon([found.run_event()], found.privacy.delta)
    typer.echo(f"noise multiplier {found.privacy.noise_multiplier:g}: claim {claim:.4f}: {out}")
